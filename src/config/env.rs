//! `${NAME}` in a string of the file. Owns: replacing it. Never: printing what it was replaced by.

use std::env::VarError;

/// Where variables come from: the process's environment, or a test's table.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// A string after its variables were filled in.
pub(super) struct Filled {
    pub value: String,
    pub variables: Vec<String>,
    pub flaws: Vec<Flaw>,
}

/// What is wrong with a `$` in a string: the text of the file it concerns, what it is, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub written: String,
    pub message: String,
    pub help: Option<String>,
}

/// Replaces each `${NAME}` by the variable and each `$$` by a dollar.
pub(super) fn fill(raw: &str, env: Lookup<'_>) -> Filled {
    let mut filled = Filled { value: String::with_capacity(raw.len()), variables: Vec::new(), flaws: Vec::new() };
    let mut rest = raw;
    while let Some(dollar) = rest.find('$') {
        filled.value.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            filled.value.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some((name, tail)) = tail.split_once('}') else {
                filled.flaw("${", "`${` without its `}`", Some("write `${NAME}`, or `$$` for a dollar".into()));
                return filled;
            };
            filled.variable(name, env);
            rest = tail;
        } else {
            filled.flaw("$", "a lone `$`", Some("write `${NAME}` for a variable, or `$$` for a dollar".into()));
            rest = after;
        }
    }
    filled.value.push_str(rest);
    filled
}

impl Filled {
    fn variable(&mut self, name: &str, env: Lookup<'_>) {
        let written = format!("${{{name}}}");
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("`{written}` names no variable");
            return self.flaw(&written, &message, Some("a name has letters, digits and `_`".into()));
        }
        match env(name) {
            Ok(value) if value.is_empty() => {
                self.flaw(&written, &format!("the environment variable `{name}` is empty"), None);
            }
            Ok(value) => {
                self.value.push_str(&value);
                self.variables.push(name.to_owned());
            }
            Err(VarError::NotPresent) => {
                let help = format!("set it before starting: `export {name}=…`");
                self.flaw(&written, &format!("the environment variable `{name}` is not set"), Some(help));
            }
            Err(VarError::NotUnicode(_)) => {
                self.flaw(&written, &format!("the environment variable `{name}` is not UTF-8"), None);
            }
        }
    }

    fn flaw(&mut self, written: &str, message: &str, help: Option<String>) {
        self.flaws.push(Flaw { written: written.to_owned(), message: message.to_owned(), help });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Result<String, VarError> {
        match name {
            "A" => Ok("alpha".into()),
            "EMPTY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        }
    }

    #[test]
    fn variables_and_dollars_are_replaced_once() {
        for (raw, value) in
            [("${A}", "alpha"), ("x${A}y${A}", "xalphayalpha"), ("$$", "$"), ("$${A}", "${A}"), ("", "")]
        {
            let filled = fill(raw, &env);
            assert_eq!((filled.value.as_str(), filled.flaws.len()), (value, 0), "{raw}");
        }
    }

    #[test]
    fn every_flaw_says_what_it_is() {
        for (raw, message) in [
            ("${B}", "the environment variable `B` is not set"),
            ("${EMPTY}", "the environment variable `EMPTY` is empty"),
            ("${A", "`${` without its `}`"),
            ("${A-B}", "`${A-B}` names no variable"),
            ("${}", "`${}` names no variable"),
            ("a $5 bill", "a lone `$`"),
        ] {
            let flaws = fill(raw, &env).flaws;
            assert_eq!(flaws.iter().map(|flaw| flaw.message.as_str()).collect::<Vec<_>>(), [message], "{raw}");
        }
    }
}
