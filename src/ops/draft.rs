//! `init`: a first configuration file for two systems. Owns: that both catalogues are read, and that `check` finds no error in what
//! comes out. Never: a row, a write; what is guessed is guessed by `stages::draft`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chrono_tz::Tz;

use crate::config::{self, DatabaseUrl};
use crate::sides::postgres::{Pools, Survey, reach, survey};
use crate::stages::Data;
use crate::stages::draft::{self, Counts};

/// A reader for each database.
const CONNECTIONS_MAX: u32 = 4;

/// Each look makes a comment of what it finds wrong, and what rests on that is found by the next; nothing hangs together so far.
const LOOKS_MAX: usize = 50;

/// A file that was guessed.
#[derive(Debug)]
pub struct Drafted {
    pub text: String,
    pub counts: Counts,
}

/// Guesses a mapping between the databases whose addresses these environment variables hold. `path` is what the file will be called.
///
/// # Errors
/// A variable that holds no address; a database that cannot be reached or read.
pub async fn draft(legacy: &str, platform: &str, path: &Path) -> anyhow::Result<Drafted> {
    let urls = [DatabaseUrl::of_variable(legacy)?, DatabaseUrl::of_variable(platform)?];
    if urls[0].to_string() == urls[1].to_string() {
        bail!(
            "`{legacy}` and `{platform}` both hold the address of {}: tables of one database are mapped by hand, see docs/MAPPING.md",
            urls[0]
        );
    }
    let pools = Pools::new(CONNECTIONS_MAX);
    let (on_legacy, on_platform) = (surveyed(&pools, &urls[0]).await?, surveyed(&pools, &urls[1]).await?);
    let mut draft = draft::draft([legacy, platform], [&on_legacy, &on_platform]);
    for _ in 0..LOOKS_MAX {
        let (text, counts) = (draft.text(), draft.counts());
        // A file needs an entity to be one.
        if counts.entities == 0 {
            return Ok(Drafted { text, counts });
        }
        let config =
            config::read_text(path, &text).context("the file that was guessed cannot be read, which is a bug")?;
        let customer = config.customers.first().context("the file that was guessed has no customer")?.id.clone();
        let data = Data::new(Arc::new(config));
        let findings = data.findings(&customer, &data.config.source.locator(), None).await?;
        if !draft.settle(&findings) {
            return Ok(Drafted { text, counts });
        }
    }
    bail!("after {LOOKS_MAX} looks at both databases the guesses still do not fit them")
}

async fn surveyed(pools: &Pools, url: &DatabaseUrl) -> anyhow::Result<Survey> {
    reach(url).await?;
    let what = || format!("reading the catalogue of {url}");
    let mut session = pools.database(url, Tz::UTC, None)?.read.begin().await.with_context(what)?;
    survey(&mut session).await.with_context(what)
}
