//! A database URL in the file. Owns: refusing one that holds a password or cannot be understood. Never: echoing one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::DatabaseUrl;
use super::reader::{Located as _, Reader, Text};
use super::{env, secrets};

/// What sqlx understands. It logs the value of any other, so none gets that far.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// `embedded:NAME`: a database of the embedded server, whose port and password nobody knows beforehand.
pub(super) const EMBEDDED: &str = "embedded:";

/// PostgreSQL cuts a longer name off.
const NAME_BYTES_MAX: usize = 63;

const FORM: &str = "the form is `postgres://user:${PASSWORD}@host:5432/database`; in user and password all but letters and \
                    digits is percent-encoded";

pub(super) fn read(text: &Text, reader: &mut Reader<'_>) -> Option<DatabaseUrl> {
    let url = if reader.urls_as_written { as_written(text) } else { understand(text) };
    if let Err((message, help)) = &url {
        reader.problem(text, message.as_str(), Some(help.clone()));
    }
    url.ok()
}

/// With its variables in it, if it has any; nobody can connect to it then.
fn as_written(text: &Text) -> Result<DatabaseUrl, (String, String)> {
    if text.variables.is_empty() {
        return understand(text);
    }
    without_secret(text)?;
    Ok(DatabaseUrl::new(text.raw.clone(), text.raw.clone()))
}

fn without_secret(text: &Text) -> Result<(), (String, String)> {
    if secrets::literal_secrets(&text.raw).is_empty() {
        return Ok(());
    }
    let name = text.field().rsplit('.').next().unwrap_or("database").to_uppercase().replace('-', "_");
    let help = format!("put it into an environment variable and write `${{{name}_URL}}`, or `:${{{name}_PASSWORD}}@`");
    Err(("a password must not stand in this file".into(), help))
}

/// Message and help never quote the value.
fn understand(text: &Text) -> Result<DatabaseUrl, (String, String)> {
    without_secret(text)?;
    if let Some(name) = text.value.strip_prefix(EMBEDDED) {
        let good = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        if !good || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            let help = "write `embedded:name` with letters, digits, `_` and `-`".to_owned();
            return Err(("is no database of the embedded server".into(), help));
        }
        return Ok(DatabaseUrl::embedded(name));
    }
    let wrong = |what: &str| Err((format!("{}{what}", subject(text)), FORM.to_owned()));
    let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.value.strip_prefix(scheme)) else {
        return wrong(" is no PostgreSQL URL");
    };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = address.split_once('/').map_or("", |(_, path)| path);
    // An unencoded character in a password moves the rest of it into the path.
    if rest.contains('#') || path.contains(['@', '/', ':']) {
        return wrong(" has a character that must be percent-encoded");
    }
    let names: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).map(name_of).collect();
    if let Some(unknown) = names.iter().find(|name| !PARAMETERS.contains(name) && !name.starts_with("options[")) {
        let what = if text.variables.is_empty() { format!(" `{unknown}`") } else { String::new() };
        return wrong(&format!(" has an unknown parameter{what}"));
    }
    if path.is_empty() && !names.contains(&"dbname") {
        return wrong(" names no database");
    }
    // The error may quote a part of the URL.
    let Ok(options) = PgConnectOptions::from_str(&text.value) else {
        return wrong(" cannot be understood");
    };
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let shown = format!("{host}/{}", options.get_database().unwrap_or_default());
    Ok(DatabaseUrl::new(text.value.clone(), shown))
}

fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// Names the variables that were filled in: the mistake is in them, not in the file.
fn subject(text: &Text) -> String {
    let names: Vec<String> = text.variables.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "the URL".into() } else { format!("the URL from {}", names.join(", ")) }
}

impl DatabaseUrl {
    /// The address that an environment variable holds.
    ///
    /// # Errors
    /// The variable is not set, or holds no address; never what it holds.
    pub fn of_variable(name: &str) -> anyhow::Result<DatabaseUrl> {
        let filled = env::fill(&format!("${{{name}}}"), &|name| std::env::var(name));
        if let Some(flaw) = filled.flaws.first() {
            let help = flaw.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            anyhow::bail!("{}{help}", flaw.message);
        }
        let text = Text::of_variable(name, filled.value);
        understand(&text).map_err(|(message, help)| anyhow::anyhow!("{message}; {help}"))
    }

    /// How to connect: over TLS with a verified certificate, unless the connection does not leave this machine or the URL says
    /// otherwise (`?sslmode=…`).
    ///
    /// # Errors
    /// No PostgreSQL URL. The parser's own message may repeat a part of it, which may be a secret, and is left out.
    pub fn options(&self) -> anyhow::Result<PgConnectOptions> {
        let options = PgConnectOptions::from_str(self.expose()).map_err(|_| {
            anyhow::anyhow!("the URL of {self} is not a PostgreSQL URL: postgres://user:password@host/database")
        })?;
        let query = self.expose().split_once('?').map_or("", |(_, query)| query);
        let names_mode = query.split('&').map(name_of).any(|name| matches!(name, "sslmode" | "ssl-mode"));
        Ok(if is_local(&options) || names_mode { options } else { options.ssl_mode(PgSslMode::VerifyFull) })
    }
}

/// What each database and login is called, by which workers tell each other that it does not let them in. Two customers in one
/// database may come by logins of their own, and what is wrong with one of them is not wrong with the other.
#[derive(Debug, Default, Clone)]
pub struct Logins {
    names: HashMap<String, String>,
}

impl Logins {
    /// A name holds no secret, so a password that is changed changes no name; urls that differ in nothing else are numbered.
    pub fn of<'u>(urls: impl IntoIterator<Item = &'u DatabaseUrl>) -> Logins {
        let mut names = HashMap::new();
        let mut alike: HashMap<String, u32> = HashMap::new();
        for url in urls {
            names.entry(url.expose().to_owned()).or_insert_with(|| {
                let name = format!(
                    "{url} (login {:08x})",
                    xxhash_rust::xxh3::xxh3_64(without_password(url.expose()).as_bytes()) as u32
                );
                let number = alike.entry(name.clone()).or_default();
                *number += 1;
                if *number == 1 { name } else { format!("{name} {number}") }
            });
        }
        Logins { names }
    }

    /// One of the urls it was made of; of any other how it may be shown.
    pub fn name(&self, url: &DatabaseUrl) -> String {
        self.names.get(url.expose()).cloned().unwrap_or_else(|| url.to_string())
    }
}

fn without_password(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let address = match address.rsplit_once('@') {
        Some((login, place)) => {
            let start = login.find("://").map_or(0, |at| at + 3);
            let user = login[start..].split(':').next().unwrap_or_default();
            format!("{}{user}@{place}", &login[..start])
        }
        None => address.to_owned(),
    };
    let query: Vec<&str> = query.split('&').filter(|part| name_of(part) != "password").collect();
    format!("{address}?{}", query.join("&"))
}

/// A connection that does not leave this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_start_matches('[').trim_end_matches(']');
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_not_loopback_is_verified_unless_the_url_says_otherwise() {
        let mode = |text: &str| {
            let options = DatabaseUrl::new(text, "shown").options().expect("a URL");
            format!("{:?}", options.get_ssl_mode())
        };
        assert_eq!(mode("postgres://u:p@db.example.com/q"), "VerifyFull");
        assert_eq!(mode("postgres://u:p@db.example.com/q?sslmode=require"), "Require");
        assert_eq!(mode("postgres://u:p@127.0.0.1:5433/q"), "Prefer");
        assert_eq!(mode("postgres://u:p@[::1]/q"), "Prefer");
        assert_eq!(mode("postgres://u:p@localhost/q"), "Prefer");
        assert_eq!(mode("postgres:///q?host=/var/run/postgresql"), "Prefer");
    }

    #[test]
    fn logins_are_told_apart_and_their_names_hold_no_password() {
        let urls = [
            "ann:old@h/d",
            "bob:old@h/d",
            "ann:new@h/d",
            "ann@h/d?password=x&sslmode=require",
            "ann:y@h/d?sslmode=require",
        ]
        .map(|url| DatabaseUrl::new(format!("postgres://{url}"), "h:5432/d"));
        let logins = Logins::of(urls.iter().chain(&urls));
        let names = urls.each_ref().map(|url| logins.name(url));
        let alone = |at: usize| Logins::of([&urls[at]]).name(&urls[at]);
        assert_ne!(names[0], names[1]);
        assert_eq!(alone(0), alone(2), "a changed password changes no name");
        assert_eq!(names[2], format!("{} 2", names[0]), "but both at once are told apart");
        assert_eq!((alone(3), format!("{} 2", names[3])), (alone(4), names[4].clone()));
        assert_ne!(alone(3), alone(0));
        assert!(names.iter().all(|name| name.starts_with("h:5432/d (login ")), "{names:?}");
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let error = DatabaseUrl::new("postgres://u:secret@h:notaport/q", "h/q").options().expect_err("no port");
        assert!(!format!("{error:#}").contains("secret"));
    }
}
