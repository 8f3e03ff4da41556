//! A database URL in the file. Owns: refusing one that holds a password or cannot be understood. Never: echoing one.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use super::DatabaseUrl;
use super::reader::{Located as _, Reader, Text};
use super::secrets;

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
    let url = understand(text);
    if let Err((message, help)) = &url {
        reader.problem(text, message.as_str(), Some(help.clone()));
    }
    url.ok()
}

/// Message and help never quote the value.
fn understand(text: &Text) -> Result<DatabaseUrl, (String, String)> {
    if !secrets::literal_secrets(&text.raw).is_empty() {
        let name = text.field().rsplit('.').next().unwrap_or("database").to_uppercase().replace('-', "_");
        let help =
            format!("put it into an environment variable and write `${{{name}_URL}}`, or `:${{{name}_PASSWORD}}@`");
        return Err(("a password must not stand in this file".into(), help));
    }
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
