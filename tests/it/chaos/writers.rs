//! Applications on both sides that keep a journal. Every value they write is one of its own, and they note which value they
//! saw when they replaced it: so each committed value must in the end be the last one, or one that somebody saw and replaced,
//! or stand in the conflict log. Everything else was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use sync_bridge::clock;
use sync_bridge::config::{DatabaseUrl, Side};
use tokio_util::sync::CancellationToken;

/// Between two actions of one application.
pub const PAUSE: Duration = Duration::from_millis(80);

/// An application gives up sooner than a half-open connection is noticed.
const ACTION_MAX: Duration = Duration::from_secs(5);

/// What applications wrote.
#[derive(Default)]
pub struct Journal {
    /// By value: the one it replaced, and whether its commit was confirmed.
    written: BTreeMap<String, Written>,
    next: u64,
}

struct Written {
    replaced: Option<String>,
    confirmed: bool,
    /// The e-mail of a person made with it.
    email: Option<String>,
}

impl Journal {
    fn token(&mut self) -> String {
        self.next += 1;
        format!("w{}", self.next)
    }

    pub fn confirmed(&self) -> usize {
        self.written.values().filter(|written| written.confirmed).count()
    }

    /// Confirmed values that neither stand in the end, nor were seen by who replaced them, nor are in the conflict log, and
    /// persons that are not there.
    pub fn lost(&self, standing: &[String], logged: &[String], emails: &[String]) -> Vec<String> {
        let mut known: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = standing.iter().chain(logged).map(String::as_str).collect();
        while let Some(value) = open.pop() {
            if known.insert(value) {
                open.extend(self.written.get(value).and_then(|written| written.replaced.as_deref()));
            }
        }
        let gone = self.written.iter().filter(|(value, written)| {
            let made = written.email.as_ref().is_none_or(|email| emails.contains(email));
            written.confirmed && !(known.contains(value.as_str()) && made)
        });
        gone.map(|(value, _)| value.clone()).collect()
    }

    /// The record a value belongs to: the first value of it.
    pub fn record<'a>(&'a self, value: &'a str) -> &'a str {
        let mut value = value;
        while let Some(replaced) = self.written.get(value).and_then(|written| written.replaced.as_deref()) {
            value = replaced;
        }
        value
    }
}

/// The words of a text that a journal may hold.
pub fn tokens(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let ours = words.filter(|word| {
        word.strip_prefix('w')
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    ours.map(str::to_owned).collect()
}

struct Words {
    add_team: &'static str,
    add_person: &'static str,
    some_team: &'static str,
    phone: &'static str,
    name: &'static str,
}

/// Of everybody, and of the few that everybody edits.
const SOME_PERSON: &str = "select id::text, phone from person order by random() limit 1 for update skip locked";
const HOT_PERSON: &str =
    "select id::text, phone from person where email ~ '^seed[1-8]@' order by random() limit 1 for update skip locked";

const LEGACY: Words = Words {
    add_team: "insert into team (label) values ($1)",
    add_person: "insert into person (email, phone, team) values ($1, $2, (select max(id) from team where label is not null))",
    some_team: "select id::text, label from team order by random() limit 1 for update skip locked",
    phone: "update person set phone = $2, last_update = now() where id::text = $1",
    name: "update team set label = $2, last_update = now() at time zone 'Europe/Berlin' where id::text = $1",
};

const PLATFORM: Words = Words {
    add_team: "insert into team (id, name) values (gen_random_uuid(), $1)",
    add_person: "insert into person (email, phone, team_id) values ($1, $2, (select id from team order by updated_at limit 1))",
    some_team: "select id::text, name from team order by random() limit 1 for update skip locked",
    phone: "update person set phone = $2, updated_at = now() where id::text = $1",
    name: "update team set name = $2, updated_at = now() where id::text = $1",
};

/// One application on one side, whatever happens to its database, until it is stopped.
pub async fn write(
    side: Side,
    url: DatabaseUrl,
    seed: u64,
    pause: Duration,
    journal: Arc<Mutex<Journal>>,
    stop: CancellationToken,
) {
    let words = match side {
        Side::Legacy => &LEGACY,
        Side::Platform => &PLATFORM,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection: Option<PgConnection> = None;
    while clock::sleep_unless(pause, &stop).await {
        if connection.is_none() {
            connection = clock::within(ACTION_MAX, PgConnection::connect(url.expose())).await.and_then(Result::ok);
        }
        let Some(open) = &mut connection else { continue };
        let acted = clock::within(ACTION_MAX, act(open, words, &mut rng, &journal)).await;
        if !matches!(acted, Some(Ok(()))) {
            connection = None;
        }
    }
}

/// One thing a user does. A value is in the journal before it is sent, so that an answer that got lost is known.
async fn act(
    connection: &mut PgConnection,
    words: &Words,
    rng: &mut StdRng,
    journal: &Mutex<Journal>,
) -> sqlx::Result<()> {
    let dice = rng.random_range(0..100);
    let value = lock(journal).token();
    let note = |replaced: Option<String>, email: Option<String>| {
        let written = Written { replaced, confirmed: false, email };
        lock(journal).written.insert(value.clone(), written);
    };
    let mut tx = connection.begin().await?;
    match dice {
        0..=5 => {
            let email = format!("{value}@example.org");
            note(None, Some(email.clone()));
            sqlx::query(words.add_person).bind(email).bind(&value).execute(&mut *tx).await?;
        }
        6..=8 => {
            note(None, None);
            sqlx::query(words.add_team).bind(&value).execute(&mut *tx).await?;
        }
        _ => {
            let (some, edit) = match dice {
                ..40 => (HOT_PERSON, words.phone),
                40..80 => (SOME_PERSON, words.phone),
                _ => (words.some_team, words.name),
            };
            let found: Option<(String, Option<String>)> = sqlx::query_as(some).fetch_optional(&mut *tx).await?;
            let Some((id, seen)) = found else { return tx.rollback().await };
            note(seen, None);
            sqlx::query(edit).bind(id).bind(&value).execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    if let Some(written) = lock(journal).written.get_mut(&value) {
        written.confirmed = true;
    }
    Ok(())
}

pub fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().expect("nobody panics with the journal")
}
