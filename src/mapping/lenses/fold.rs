//! Texts that differ only in case, margins or Unicode form: compared evened out, and written so.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::config::TextFold;
use crate::mapping::{Canonical, Cell};

use super::{LookUp, On};

/// In the order in which they are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold(pub Vec<TextFold>);

/// What `trim` takes away: what a database can be asked to take away too.
pub const MARGIN: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

impl Fold {
    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Canonical<'a> {
        Canonical(on.one(cells).map(|raw| self.folded(raw)))
    }

    fn folded<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(raw);
        // Lowering may leave a form that is not normal, and the reverse: twice is enough for all of Unicode.
        for fold in self.0.iter().chain(&self.0) {
            text = match fold {
                TextFold::Trim => match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(MARGIN)),
                    Cow::Owned(text) => Cow::Owned(text.trim_matches(MARGIN).to_owned()),
                },
                TextFold::Lowercase if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) => text,
                TextFold::Lowercase => Cow::Owned(text.to_lowercase()),
                TextFold::Uppercase if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase()) => text,
                TextFold::Uppercase => Cow::Owned(text.to_uppercase()),
                TextFold::Nfc if text.is_ascii() || is_nfc(&text) => text,
                TextFold::Nfc => Cow::Owned(text.nfc().collect()),
            };
        }
        text
    }

    pub fn looked_up(&self) -> Option<LookUp> {
        let has = |fold| self.0.contains(&fold);
        (!has(TextFold::Uppercase) && !has(TextFold::Nfc)).then(|| LookUp {
            trim: has(TextFold::Trim),
            lowercase: has(TextFold::Lowercase),
            caseless: false,
        })
    }

    pub fn spelling(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|fold| fold.as_str()).collect();
        format!("fold {}", names.join(" "))
    }
}
