//! The console as a browser and a program meet it: a real process, real requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sync_bridge::told::grouped;

use crate::cli::{Databases, Desk, Running, execute, number};
use crate::support::door::{Door, Way};
use crate::support::{eventually, server};

/// A connection is waited for ten seconds; a page is not.
const QUEUE_WAIT: Duration = Duration::from_secs(9);

pub const READ: &str = "read-token-of-a-test-0001";
pub const ACT: &str = "act-token-of-a-test-00002";

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// What a console answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Where it leads, of a redirect.
    fn to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        &self.headers["location"]
    }

    /// What forms bring back.
    fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {self:?}"));
        rest.split('"').next().expect("its end").to_owned()
    }
}

/// A console that runs, and who asks it.
pub struct Console {
    pub port: u16,
    running: Running,
    headers: Vec<(String, String)>,
}

impl Console {
    pub async fn start(desk: &Desk, more: &[&str]) -> Console {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let args = [&["console", "--listen", &listen][..], more].concat();
        let mut console = Console {
            port,
            running: desk.start(env!("CARGO_BIN_EXE_sync-bridge"), &args),
            headers: vec![("Host".into(), format!("127.0.0.1:{port}"))],
        };
        eventually("the console answers", async || {
            console.running.must_run();
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        console
    }

    /// Ends it in order.
    pub fn stop(self) {
        assert_eq!(self.running.stop(Signal::SIGTERM).status.code(), Some(0));
    }

    fn with(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("asking");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Answer { status, headers: headers.collect(), body: body.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "text/plain", "")
    }

    /// As a form is sent.
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let escape = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.ask("POST", path, "application/x-www-form-urlencoded", &body.join("&"))
    }

    fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "application/json", &body.to_string())
    }
}

/// Ids are shown as commands take them, however large they are.
const LARGE_IDS: &str = "select setval(format('%I.%I', schemaname, sequencename)::regclass, 1234567)
    from pg_sequences where schemaname = 'bridge' and data_type = 'bigint'::regtype";

/// A customer with a row in each list: a decided conflict, a quarantined row, a dead letter, and some runs.
pub async fn troubled(hint: &str) -> (Databases, Desk) {
    let databases = Databases::new(hint).await;
    let desk = databases.desk(hint);
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    execute(&databases.queue, LARGE_IDS).await;
    let run = ["run", "--customer", "acme", "--inline"];
    desk.succeeds(&run);
    execute(&databases.platform, "alter table identity.users add constraint no_poison check (name <> 'poison')").await;
    execute(&databases.legacy, "insert into users (mail, name) values ('eve@example.org', 'poison')").await;
    execute(&databases.legacy, "update users set name = '<b>Ada L</b>', changed = now() where mail like 'ada%'").await;
    execute(
        &databases.platform,
        "update identity.users set name = 'Ada P', updated_at = now() where email like 'ada%'",
    )
    .await;
    desk.succeeds(&run);
    desk.succeeds(&run);
    a_page_dies(&databases, &desk, "fred").await;
    (databases, desk)
}

/// A page that brings somebody new uses up its one attempt.
pub async fn a_page_dies(databases: &Databases, desk: &Desk, name: &str) {
    let insert = format!("insert into users (mail, name) values ('{name}@example.org', '{name}')");
    execute(&databases.legacy, &insert).await;
    let refuse = "create function \"<i>refuse</i>\"() returns trigger language plpgsql as
        $$ begin raise exception 'there is no table for %', new.name using errcode = 'XX001'; end $$;
        create trigger refuse before insert on identity.users for each row execute function \"<i>refuse</i>\"()";
    execute(&databases.platform, refuse).await;
    let file = desk.folder.path().join("bridge.toml");
    let usual = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("[defaults]\nattempts_max = 1\n{usual}")).expect("writing a configuration");
    let ended = desk.run(&["run", "--customer", "acme", "--inline"]);
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("dead letter: ") && !told.contains(name), "keys are told, values are not: {told}");
    std::fs::write(&file, usual).expect("writing a configuration");
    execute(&databases.platform, "drop function \"<i>refuse</i>\" cascade").await;
}

/// Every address of its own that a page leads to.
pub fn links(body: &str) -> BTreeSet<String> {
    let found = ["href=\"", "src=\""].into_iter().flat_map(|named| body.split(named).skip(1));
    let found = found.filter_map(|rest| rest.split('"').next());
    found.filter(|path| path.starts_with('/')).map(|path| path.replace("&amp;", "&")).collect()
}

#[tokio::test]
async fn every_page_answers_and_each_number_leads_to_what_it_counts() {
    let (databases, desk) = troubled("console pages").await;
    let letters = number(&databases.queue, "select count(*) from bridge.job where state = 'dead'").await;
    assert!(letters > 0, "a dead letter is there");
    let parked = "insert into bridge.parked
        (customer, entity, side, key, reason, waits_entity, waits_side, waits_key, woken, run, stage, round)
        select id, 'user', 'legacy', 'child-7', 'parent', 'user', 'legacy', 'parent-7', false, 1, 1, 0
        from (select distinct customer as id from bridge.run) one";
    execute(&databases.queue, parked).await;
    let console = Console::start(&desk, &[]).await;
    let mut seen: BTreeMap<String, Answer> = BTreeMap::new();
    let mut next = BTreeSet::from(["/".to_owned()]);
    while let Some(path) = next.pop_first() {
        if seen.contains_key(&path) {
            continue;
        }
        assert!(seen.len() < 200, "there is no end: {:?}", seen.keys());
        let answer = console.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        next.extend(links(&answer.body).into_iter().map(|link| link.split('#').next().unwrap_or_default().to_owned()));
        seen.insert(path, answer);
    }
    for start in [
        "/customers/",
        "/runs/",
        "/dead-letters/",
        "/dead-letters",
        "/quarantine",
        "/conflicts/",
        "/conflicts",
        "/reconciliation",
        "/actions",
        "/configuration",
        "/health",
        "/assets/console.css",
        "/assets/console.js",
        "/assets/icon.svg",
    ] {
        assert!(seen.keys().any(|path| path.starts_with(start)), "nothing leads to {start}: {:?}", seen.keys());
    }
    let text: String = seen.values().map(|answer| answer.body.as_str()).collect();
    for said in [
        "child-7",
        "parent-7",
        "no_poison",
        "function &quot;&lt;i&gt;refuse&lt;/i&gt;&quot;() line 1 at RAISE [XX001]",
        "Rows per minute",
        "Freshness",
    ] {
        assert!(text.contains(said), "nowhere: {said}");
    }
    assert!(text.contains("123456"), "ids are large");
    for hidden in ["Ada L", "Ada P", "<i>refuse", "no table for", "fred", "hunter2", "1,234,5"] {
        assert!(!text.contains(hidden), "{hidden} is shown");
    }
    for password in [&databases.legacy, &databases.platform, &databases.queue] {
        assert!(!text.contains(password.url.expose()), "an address with its password");
    }
    let none_is_away = console.get("/?state=away").body;
    assert!(none_is_away.contains("<option value=\"away\" selected>"), "what was chosen stays chosen: {none_is_away}");
    assert!(none_is_away.contains("No customer is called so and in this state."), "{none_is_away}");
    let unknown = console.get("/?state=zzz");
    assert!(unknown.status == 400 && unknown.body.contains("zzz: there are away, degraded"), "{unknown:?}");
    let all = console.get("/dead-letters?all=true").body;
    assert!(all.contains(">State</th>") && !all.contains("Re-enqueueing will"), "{all}");
    assert_eq!(console.get("/nowhere").status, 404);
    assert_eq!(console.get("/runs/999999").status, 404);
    assert_eq!(console.get("/runs/x").status, 400);
    assert_eq!(console.get("/customers/acne").status, 404);
    assert_eq!(console.get("/livez").json(), json!({ "live": true }));
    assert_eq!(console.get("/readyz").json(), json!({ "ready": true }));

    let shown = Console::start(&desk, &["--show-values"]).await;
    let conflict = seen.keys().find(|path| path.starts_with("/conflicts/")).expect("a conflict");
    let page = shown.get(conflict).body;
    assert!(page.contains("&lt;b&gt;Ada L&lt;/b&gt;") && page.contains("Ada P"), "as text: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_queue_database_is_away_it_is_told_with_what_to_do() {
    let databases = Databases::new("console away").await;
    let door = Door::new(server().await.port()).await;
    let desk = databases.desk("console-away").with("QUEUE_URL", door.url(databases.queue.url.expose()).expose());
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    let run = ["run", "--customer", "acme", "--inline"];
    desk.succeeds(&run);
    for (database, edit) in [
        (&databases.legacy, "update users set name = 'Ada L', changed = now() where mail like 'ada%'"),
        (&databases.platform, "update identity.users set name = 'Ada P', updated_at = now() where email like 'ada%'"),
    ] {
        execute(database, edit).await;
    }
    desk.succeeds(&run);
    let console = Console::start(&desk, &[]).await;
    assert_eq!(console.get("/health").status, 200);
    let list = console.get("/conflicts?customer=acme");
    let conflict = links(&list.body).into_iter().find(|link| link.starts_with("/conflicts/")).expect("a conflict");
    let csrf = console.get(&conflict).csrf();
    door.is(Way::Shut);
    // It lies on the platform, which is there; what people decided does not.
    let page = console.get(&conflict);
    assert!(page.status == 200 && page.body.contains("Who decided what cannot be read now"), "{page:?}");
    let undone = console.post(&conflict, &[("csrf", &csrf), ("act", "undo"), ("reason", "she asked for it")]);
    assert!(undone.status == 503 && undone.body.contains("The queue database 127.0.0.1:"), "{undone:?}");
    let name = format!("user:{}", conflict.rsplit('/').next().expect("an id"));
    let shown = desk.run(&["conflicts", "show", &name, "--customer", "acme"]);
    let (said, wrong) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.code() == Some(1) && said.contains(&name), "{said}{wrong}");
    assert!(wrong.contains("who decided what cannot be read: "), "{wrong}");
    for path in ["/health", "/api/v1/customers"] {
        let asked = Instant::now();
        let answer = console.get(path);
        assert!(asked.elapsed() < QUEUE_WAIT, "{path}: nobody waits for a connection that will not come");
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        for said in ["The queue database 127.0.0.1:", "does not answer", "OPERATIONS.md"] {
            assert!(answer.body.contains(said), "{path}: {}", answer.body);
        }
        assert!(!answer.body.contains(databases.queue.url.expose()), "an address with its password");
    }
    door.is(Way::Open);
    assert_eq!(console.get("/health").status, 200);
    console.stop();
}

#[tokio::test]
async fn what_an_operator_does_is_done_and_noted() {
    let (databases, desk) = troubled("console acts").await;
    let console = Console::start(&desk, &[]).await;
    let letters = console.get("/dead-letters");
    let csrf = letters.csrf();
    let first = number(&databases.queue, "select min(id) from bridge.job where state = 'dead'").await.to_string();
    let all =
        number(&databases.queue, "select count(*) from bridge.job where state = 'dead' and requeued_at is null").await;

    // Not without a reason, not without what was given out, not without a choice.
    let requeue =
        |fields: &[(&str, &str)]| console.post("/dead-letters/act", &[&[("act", "requeue")][..], fields].concat());
    assert_eq!(requeue(&[("id", &first), ("reason", "why"), ("csrf", "forged")]).status, 403);
    assert_eq!(requeue(&[("id", &first), ("reason", "why")]).status, 403);
    assert_eq!(requeue(&[("csrf", &csrf), ("id", &first), ("reason", " ")]).status, 400);
    assert_eq!(requeue(&[("csrf", &csrf), ("reason", "why")]).status, 400);
    assert_eq!(number(&databases.queue, "select count(*) from bridge.action").await, 0);

    let done = requeue(&[
        ("csrf", &csrf),
        ("id", &first),
        ("reason", "the disk is larger now"),
        ("back", &format!("/dead-letters/{first}")),
    ]);
    assert!(done.to().starts_with(&format!("/dead-letters/{first}?done=")), "{done:?}");
    let all_is_lost = done.to().replace("Re-enqueued", "Lost");
    assert_ne!(all_is_lost, done.to());
    for made_up in [&all_is_lost, "/quarantine?done=All+is+lost.", "/customers/acme?done=.Lost"] {
        assert!(
            !console.get(made_up).body.contains("class=\"done\""),
            "the console says what it did, and nothing else"
        );
    }
    let page = console.get(done.to());
    assert!(page.body.contains("Re-enqueued 1.") && page.body.contains("the disk is larger now"), "{page:?}");
    // Somebody else was quicker, and one there never was.
    let again = requeue(&[("csrf", &csrf), ("id", &first), ("id", "4711"), ("reason", "once more")]);
    let page = console.get(again.to()).body;
    let said =
        format!("Re-enqueued 0. 2 of 2 ids are no dead letters that wait: 4711 (not known), {first} (requeued by ");
    assert!(page.contains(&said), "{page}");
    let every = requeue(&[("csrf", &csrf), ("every", "true"), ("reason", "all of them")]);
    assert!(console.get(every.to()).body.contains(&format!("Re-enqueued {}.", all - 1)), "{every:?}");
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    assert_eq!(number(&databases.platform, "select count(*) from identity.users where email like 'fred%'").await, 1);

    execute(&databases.platform, "alter table identity.users drop constraint no_poison").await;
    let row = number(&databases.queue, "select id from bridge.quarantine").await.to_string();
    let again = [("csrf", csrf.as_str()), ("id", row.as_str()), ("id", "4711"), ("reason", "the rule is gone")];
    let retried = console.get(console.post("/quarantine/retry", &again).to()).body;
    let said = "1 row for the next run, which starts now. 1 of 2 ids are no quarantined rows: 4711 (not known,";
    assert!(retried.contains(said), "{retried}");
    desk.succeeds(&["run", "--customer", "acme", "--inline"]);
    assert_eq!(number(&databases.platform, "select count(*) from identity.users where name = 'poison'").await, 1);

    let list = console.get("/conflicts?customer=acme&state=decided");
    let conflict = links(&list.body).into_iter().find(|link| link.starts_with("/conflicts/")).expect("a conflict");
    let before = number(&databases.legacy, "select count(*) from users where name = 'Ada P'").await;
    let undone = console.post(&conflict, &[("csrf", &csrf), ("act", "undo"), ("reason", "she asked for it")]);
    assert!(console.get(undone.to()).body.contains("the loser is back"), "{undone:?}");
    assert_ne!(number(&databases.legacy, "select count(*) from users where name = 'Ada P'").await, before);
    let again = console.post(&conflict, &[("csrf", &csrf), ("act", "undo"), ("reason", "once more")]);
    assert!(again.status == 409 && again.body.contains("nothing to undo"), "{again:?}");
    let shown = console.get(&conflict).body;
    assert!(shown.contains("she asked for it"), "who undid it, and why, stands beside it");
    let marks = ["class=\"value won\"", "class=\"value lost\""];
    assert!(shown.contains(", undone") && !marks.iter().any(|mark| shown.contains(mark)), "what won is gone: {shown}");

    let paused = console.post(
        "/customers/acme/pause",
        &[("csrf", &csrf), ("entity", "user"), ("direction", "to-legacy"), ("reason", "a deploy")],
    );
    assert!(console.get(paused.to()).body.contains("a deploy"), "{paused:?}");
    assert!(console.get("/").body.contains("paused: user to-legacy"), "not all of it");
    assert_eq!(
        number(&databases.queue, "select count(*) from bridge.pause where entity = 'user' and toward = 'legacy'").await,
        1
    );
    let wrong =
        console.post("/customers/acme/pause", &[("csrf", &csrf), ("direction", "sideways"), ("reason", "none")]);
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let resumed = console.post(
        "/customers/acme/resume",
        &[("csrf", &csrf), ("entity", "user"), ("direction", "to-legacy"), ("reason", "deployed")],
    );
    assert!(console.get(resumed.to()).body.contains("It goes on"), "{resumed:?}");
    assert_eq!(number(&databases.queue, "select count(*) from bridge.pause").await, 0);
    let ticked = console.post("/customers/acme/tick", &[("csrf", &csrf), ("reason", "now")]);
    assert!(console.get(ticked.to()).body.contains("A tick waits"), "{ticked:?}");

    let noted = number(
        &databases.queue,
        "select count(*) from bridge.action where who <> '' and reason <> '' and outcome is not null",
    )
    .await;
    assert_eq!(noted, 9, "each, also the one that failed");
    let failed = "select count(*) from bridge.action where outcome like 'failed: %nothing to undo%'";
    assert_eq!(number(&databases.queue, failed).await, 1);
    assert!(console.get("/actions").body.contains("she asked for it"));
    // What is chosen by its id is of a customer all the same.
    assert!(console.get("/customers/acme").body.contains("the disk is larger now"));
}

#[tokio::test]
async fn a_console_with_tokens_lets_in_who_has_one_and_lets_act_who_may() {
    let (databases, desk) = troubled("console tokens").await;
    let desk = desk.with("SYNC_BRIDGE_CONSOLE_READ_TOKEN", READ).with("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", ACT);
    let mut console = Console::start(&desk, &[]).await;
    assert_eq!(console.get("/runs/1?a=b").to(), "/login?next=%2Fruns%2F1%3Fa%3Db");
    assert_eq!(console.get("/api/v1/customers").status, 401);
    assert_eq!(console.post("/dead-letters/act", &[("act", "requeue")]).status, 401);
    assert_eq!(console.get("/livez").status, 200, "a probe has no token");
    let wrong = console.post("/login", &[("token", "not-the-token-of-anybody"), ("who", "Eve")]);
    assert!(
        wrong.status == 200 && wrong.body.contains("opens nothing") && !wrong.headers.contains_key("set-cookie"),
        "{wrong:?}"
    );

    let login = |console: &Console, token: &str, who: &str| {
        let entered = console.post("/login", &[("token", token), ("who", who), ("next", "/dead-letters")]);
        assert_eq!(entered.to(), "/login?entered=true&next=%2Fdead-letters");
        let cookie = entered.headers["set-cookie"].clone();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains(token), "the token itself is not in it");
        cookie.split(';').next().expect("the pair").to_owned()
    };
    let cookie = login(&console, READ, "Reader");
    let entered = "/login?entered=true&next=%2Fdead-letters";
    let lost = console.get(entered);
    assert!(
        lost.status == 200 && lost.body.contains("the browser did not keep the login"),
        "it comes back without: {lost:?}"
    );
    console.with("Cookie", &cookie);
    assert_eq!(console.get(entered).to(), "/dead-letters");
    assert_eq!(console.get("/login?entered=true&next=%2F%2Fevil.example").to(), "/");
    let page = console.get("/dead-letters");
    assert!(page.body.contains("Reader (may look only)") && !page.body.contains("Re-enqueue</button>"), "{page:?}");
    let denied = console
        .post("/dead-letters/act", &[("act", "requeue"), ("every", "true"), ("reason", "why"), ("csrf", &page.csrf())]);
    assert_eq!(denied.status, 403);

    let cookie = login(&console, ACT, "Ada");
    console.with("Cookie", &cookie);
    let page = console.get("/dead-letters");
    let done = console.post(
        "/dead-letters/act",
        &[("act", "discard"), ("every", "true"), ("reason", "not needed"), ("csrf", &page.csrf())],
    );
    assert!(done.to().starts_with("/dead-letters?"), "{done:?}");
    assert_eq!(
        number(&databases.queue, "select count(*) from bridge.action where who = 'Ada' and outcome like 'discarded %'")
            .await,
        1
    );
    let left = console.post("/logout", &[("csrf", &page.csrf())]);
    assert_eq!(left.to(), "/login");
    assert!(left.headers["set-cookie"].contains("Max-Age=0"));

    // A program, by another name than this machine's.
    console.headers = vec![("Host".into(), "bridge.example.org".into())];
    console.with("Authorization", &format!("Bearer {READ}"));
    assert_eq!(console.get("/api/v1/customers").json()[0]["slug"], "acme");
    let body = json!({ "reason": "by a program" });
    let denied = console.post_json("/api/v1/customers/acme/tick", &body);
    assert_eq!((denied.status, denied.json()["error"].as_str()), (403, Some("this token may look only")));
    console.with("Authorization", &format!("Bearer {ACT}"));
    assert!(console.post_json("/api/v1/customers/acme/tick", &body).json()["tick"].is_i64());
    assert_eq!(number(&databases.queue, "select count(*) from bridge.action where who = 'token to act'").await, 1);
    console.with("Authorization", "Bearer nonsense-nonsense-nonsense");
    assert_eq!(console.get("/api/v1/customers").status, 401);
    // Each is one try, on a page too, which shows who asks: with the one of the login these are the 20 of a minute.
    for _ in 0..18 {
        assert_eq!(console.get("/").status, 401);
    }
    assert_eq!(console.get("/").status, 429);
}

#[tokio::test]
async fn a_console_for_this_machine_answers_to_no_other_name_and_to_no_other_site() {
    let (databases, desk) = troubled("console local").await;
    let mut console = Console::start(&desk, &[]).await;
    console.with("Host", "rebound.example.org");
    for path in ["/", "/api/v1/customers", "/assets/console.js", "/livez"] {
        assert_eq!(console.get(path).status, 403, "{path}");
    }
    console.with("Host", &format!("localhost:{}", console.port));
    assert_eq!(console.get("/").status, 200);
    // As a page of another site would have a browser send it: no header that only our own pages can set.
    let sent = console.post_json("/api/v1/dead-letters/requeue", &json!({ "all": true, "reason": "another site" }));
    assert_eq!(sent.status, 403, "{sent:?}");
    let csrf = console.get("/quarantine").csrf();
    console.with("X-CSRF-Token", "made up");
    let sent = console.post_json("/api/v1/dead-letters/requeue", &json!({ "all": true, "reason": "a guess" }));
    assert_eq!(sent.status, 403, "{sent:?}");
    console.with("X-CSRF-Token", &csrf);
    let sent = console.post_json("/api/v1/dead-letters/requeue", &json!({ "all": true, "reason": "our own" }));
    assert!(sent.json()["requeued"].as_i64().is_some_and(|count| count > 0), "{sent:?}");
    assert_eq!(number(&databases.queue, "select count(*) from bridge.action").await, 1);

    let open = desk.run(&["console", "--listen", "0.0.0.0:0"]);
    let said = String::from_utf8_lossy(&open.stderr);
    assert!(open.status.code() == Some(2) && said.contains("SYNC_BRIDGE_CONSOLE_READ_TOKEN"), "{said}");
    let short = desk.with("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", "short").run(&["console", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&short.stderr);
    assert!(short.status.code() == Some(2) && said.contains("shorter than 20"), "{said}");
}

#[tokio::test]
async fn every_question_and_action_of_the_document_is_one_of_the_api() {
    let (databases, desk) = troubled("console api").await;
    let desk = desk.with("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", ACT);
    let mut console = Console::start(&desk, &[]).await;
    console.with("Authorization", &format!("Bearer {ACT}"));
    let document = console.get("/api/v1/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    let dead = number(&databases.queue, "select min(id) from bridge.job where state = 'dead'").await;
    let run = number(&databases.queue, "select max(id) from bridge.run").await;
    let conflict = number(&databases.platform, "select id from sync_bridge.conflict").await;
    let filled = |path: &str| {
        let id = if path.starts_with("/dead-letters") { dead } else { conflict };
        let path = path.replace("{customer}", "acme").replace("{run}", &run.to_string()).replace("{entity}", "user");
        let path = path.replace("{key}", "1");
        format!("/api/v1{}", path.replace("{id}", &id.to_string()))
    };
    // What names nothing means nothing, and least of all everything.
    for path in ["dead-letters/discard", "dead-letters/requeue", "quarantine/retry"] {
        for nothing in [
            json!({ "ids": [], "customer": "" }),
            json!({ "ids": [] }),
            json!({ "ids": [], "customer": "acme" }),
            json!({ "ids": [], "all": true }),
            json!({ "ids": [dead], "all": true }),
            json!({ "customer": null, "entity": null }),
            json!({}),
        ] {
            let mut body = nothing.clone();
            body["reason"] = json!("a script whose variable is not set");
            let refused = console.post_json(&format!("/api/v1/{path}"), &body);
            assert!(refused.status == 400 && refused.json()["error"].is_string(), "{path} {nothing}: {refused:?}");
        }
    }
    assert_eq!(number(&databases.queue, "select count(*) from bridge.action").await, 0);
    let (mut asked, mut acted) = (0, 0);
    for (path, methods) in paths {
        if methods["get"].is_object() {
            let answer = console.get(&filled(path));
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            fits(&document, shape_of(methods, "get"), &answer.json(), path);
            asked += 1;
            let query = |name: &str, value: &str| console.get(&format!("{}?{name}={value}", filled(path)));
            let named = methods["get"]["parameters"].as_array().expect("parameters").iter();
            for parameter in named.filter(|parameter| parameter["in"] == "query") {
                let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
                let answer = query(name, &sample(name, schema));
                assert_eq!(answer.status, 200, "{path}, {name}: {answer:?}");
                if schema["type"] == "integer" {
                    let most = schema["maximum"].as_i64().expect("it is bounded");
                    assert_eq!((&schema["minimum"], query(name, &most.to_string()).status), (&json!(1), 200), "{path}");
                    for beyond in [0, most + 1, 4_000_000_000] {
                        let refused = query(name, &beyond.to_string());
                        let said = format!("{name} is from 1 to {}, not {}.", grouped(most), grouped(beyond));
                        assert!(refused.status == 400 && refused.json()["error"] == said, "{path}: {refused:?}");
                    }
                }
                let empty = query(name, "");
                assert!(empty.status == 400 && empty.json()["error"].is_string(), "{path}, {name}: {empty:?}");
                if schema["enum"].is_array() {
                    let unknown = query(name, "sideways");
                    assert!(unknown.status == 400 && unknown.body.contains("sideways"), "{path}, {name}: {unknown:?}");
                }
            }
            if path != "/openapi.json" && methods["get"]["parameters"].to_string().contains("\"query\"") {
                let unknown = query("entitty", "user");
                assert!(unknown.status == 400 && unknown.body.contains("entitty"), "{path}: {unknown:?}");
                assert!(unknown.body.contains("The query does not fit: "), "{path}: {unknown:?}");
            }
        }
        if methods["post"].is_object() {
            let schema = &methods["post"]["requestBody"]["content"]["application/json"]["schema"];
            let members = schema["properties"].as_object().expect("members");
            let whole = json!({ "act": "undo", "reason": "as the document says", "all": true, "entity": "user" });
            let whole: serde_json::Map<String, Value> = whole
                .as_object()
                .expect("an object")
                .clone()
                .into_iter()
                .filter(|(name, _)| members.contains_key(name))
                .collect();
            let with = |name: &str, value: Value| {
                let mut body = whole.clone();
                body.insert(name.into(), value);
                console.post_json(&filled(path), &Value::Object(body))
            };
            for name in members.keys().filter(|name| members[*name]["type"] == "string") {
                for nothing in ["", " "] {
                    let silent = with(name, json!(nothing));
                    assert!(silent.status == 400 && silent.json()["error"].is_string(), "{path}, {name}: {silent:?}");
                }
                if members[name]["enum"].is_array() {
                    let unknown = with(name, json!("sideways"));
                    assert!(unknown.status == 400 && unknown.body.contains("sideways"), "{path}, {name}: {unknown:?}");
                }
            }
            let unknown = with("entitty", json!("user"));
            assert!(unknown.status == 400 && unknown.body.contains("entitty"), "{path}: {unknown:?}");
            let wordy = with("reason", json!("why ".repeat(200)));
            assert!(wordy.status == 400 && wordy.body.contains("500 characters"), "{path}: {wordy:?}");
            assert_eq!(number(&databases.queue, "select count(*) from bridge.action").await, acted, "{path}");
            let answer = with("reason", json!("as the document says"));
            assert!([200, 409].contains(&answer.status), "{path}: {answer:?}");
            if answer.status == 200 {
                fits(&document, shape_of(methods, "post"), &answer.json(), path);
            }
            (asked, acted) = (asked + 1, acted + 1);
        }
    }
    assert_eq!(asked, 24, "each of them");
    // What is refused before a route looks at it is answered by each of them; the document says so.
    let describes = |path: &str, method: &str, status: u16| {
        let own = &document["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
        let said = own["$ref"].as_str().and_then(|to| to.strip_prefix('#')).and_then(|to| document.pointer(to));
        assert!(said.is_some_and(|said| said["description"].is_string()), "{method} {path}: {status}");
    };
    let operations: Vec<(&str, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().into_iter().flatten().map(move |(method, _)| (&**path, method.to_uppercase()))
        })
        .collect();
    assert_eq!(operations.len(), 24);
    for (path, method) in &operations {
        let large = console.ask(method, &filled(path), "application/json", &" ".repeat((1 << 20) + 1));
        assert_eq!(large.status, 413, "{path}: {large:?}");
        describes(path, method, large.status);
        if method == "POST" {
            let other = console.ask(method, &filled(path), "text/plain", "{}");
            assert_eq!(other.status, 415, "{path}: {other:?}");
            describes(path, method, other.status);
        }
    }
    let source = include_str!("../../src/console/api.rs");
    let routes = source.matches(".route(\"").count();
    assert_eq!(routes, paths.len(), "each route is in the document");
    let nothing = console.post_json("/api/v1/dead-letters/requeue", &json!({ "reason": "all?" }));
    assert!(nothing.status == 400 && nothing.body.contains("say which are meant"), "{nothing:?}");
    for path in ["/api/v1/nowhere", "/api/v1/runs/1/pages", "/api/v2"] {
        let said = format!("There is nothing at {path}: GET /api/v1/openapi.json says what there is.");
        let nowhere = console.get(path);
        assert_eq!((nowhere.status, nowhere.json()["error"].as_str()), (404, Some(said.as_str())));
    }
    for (path, said) in [
        ("/api/v1/customers/acme/runs?limit=x", "The query does not fit: limit: that is no whole number"),
        ("/api/v1/runs/x", "as a whole number"),
    ] {
        let no_number = console.get(path);
        assert!(
            no_number.status == 400 && no_number.json()["error"].as_str().is_some_and(|error| error.contains(said)),
            "{no_number:?}"
        );
    }
    let no_id = console.post_json("/api/v1/dead-letters/requeue", &json!({ "ids": ["x"], "reason": "a slip" }));
    assert!(no_id.status == 400 && no_id.body.contains("expected a whole number"), "{no_id:?}");
    for (path, said) in [
        ("dead-letters/discard", "no dead letter that waits: 4711 (not known)"),
        ("quarantine/retry", "no quarantined row: 4711 (not known, or in quarantine no more)"),
    ] {
        let unknown =
            console.post_json(&format!("/api/v1/{path}"), &json!({ "ids": [4711, 4711], "reason": "a slip" }));
        assert!(unknown.status == 409 && unknown.body.contains(said), "{path}: {unknown:?}");
    }
    // Nor has what cannot be read an answer of another form.
    let pause = "/api/v1/customers/acme/pause";
    for (answer, status) in [
        (console.get("/api/v1/runs/x"), 400),
        (console.ask("POST", pause, "application/json", "{"), 400),
        (console.ask("POST", pause, "text/plain", "{}"), 415),
        (console.ask("POST", pause, "application/json", &" ".repeat(2 << 20)), 413),
        (console.ask("DELETE", pause, "text/plain", ""), 405),
        (console.ask("DELETE", "/api/v1/customers", "text/plain", ""), 405),
    ] {
        assert!(
            answer.status == status && answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{answer:?}"
        );
    }
    for (answer, said) in [
        (console.get("/api/v1/dead-letters/requeue"), "There is no GET here, only POST."),
        (console.ask("DELETE", "/api/v1/customers", "text/plain", ""), "There is no DELETE here, only GET and HEAD."),
    ] {
        assert!(answer.json()["error"] == said && answer.headers.contains_key("allow"), "{answer:?}");
    }
    for (answer, status) in [
        (console.get("/runs/x"), 400),
        (console.get("/dead-letters?all=yes"), 400),
        (console.ask("POST", "/actions", "text/plain", ""), 405),
    ] {
        let is_framed = answer.body.contains("<main") && answer.headers["content-type"].starts_with("text/html");
        assert!(answer.status == status && is_framed, "{answer:?}");
    }
    // Last, as nobody from here is known for a minute then: who guesses.
    console.with("Authorization", &format!("Bearer {ACT}x"));
    for (path, method) in &operations {
        describes(path, method, console.ask(method, &filled(path), "application/json", "{}").status);
    }
    let (path, method) = &operations[0];
    for _ in 0..20 {
        console.ask(method, &filled(path), "application/json", "{}");
    }
    for (path, method) in &operations {
        let guessed = console.ask(method, &filled(path), "application/json", "{}");
        assert!(guessed.status == 429 && guessed.headers["retry-after"] == "60", "{path}: {guessed:?}");
        describes(path, method, guessed.status);
        describes(path, method, 408);
    }
}

/// What the document says of an answer.
fn shape_of<'d>(methods: &'d Value, method: &str) -> &'d Value {
    &methods[method]["responses"]["200"]["content"]["application/json"]["schema"]
}

/// An answer has the members that the document says, of such types, and no other.
fn fits(document: &Value, shape: &Value, answer: &Value, at: &str) {
    if let Some(to) = shape["$ref"].as_str() {
        let named = document.pointer(to.trim_start_matches('#')).unwrap_or_else(|| panic!("{at}: no {to}"));
        return fits(document, named, answer, at);
    }
    for part in ["anyOf", "oneOf"] {
        let Some(ones) = shape[part].as_array() else { continue };
        // Objects of several shapes are told apart by a member that says which it is.
        let is_tagged = |one: &Value| {
            let members = one["properties"].as_object().into_iter().flatten();
            members.into_iter().all(|(name, member)| member.get("const").is_none_or(|tag| *tag == answer[name]))
        };
        let is_one = |one: &&Value| match (one["type"].as_str(), one["const"].as_str()) {
            (_, Some(value)) => answer == value,
            (Some("null"), _) => answer.is_null(),
            _ => !answer.is_null() && is_tagged(one),
        };
        let one = ones.iter().find(is_one).unwrap_or_else(|| panic!("{at}: {answer} is none of {ones:?}"));
        return fits(document, one, answer, at);
    }
    let types = [&shape["type"]].into_iter().chain(shape["type"].as_array().into_iter().flatten());
    let is_type = |name: &str| match name {
        "null" => answer.is_null(),
        "string" => answer.is_string(),
        "boolean" => answer.is_boolean(),
        "integer" => answer.is_i64() || answer.is_u64(),
        "number" => answer.is_number(),
        "array" => answer.is_array(),
        "object" => answer.is_object(),
        _ => panic!("{at}: {name}"),
    };
    assert!(types.filter_map(Value::as_str).any(is_type), "{at}: {answer} is no {}", shape["type"]);
    for (index, one) in answer.as_array().into_iter().flatten().enumerate() {
        match shape["prefixItems"].get(index) {
            Some(shape) => fits(document, shape, one, &format!("{at}[{index}]")),
            None => fits(document, &shape["items"], one, &format!("{at}[]")),
        }
    }
    let Some(members) = shape["properties"].as_object() else { return };
    for name in shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(answer.get(name).is_some(), "{at}: no {name} in {answer}");
    }
    for (name, value) in answer.as_object().into_iter().flatten() {
        let shape = members.get(name).unwrap_or_else(|| panic!("{at}: {name} is not in the document"));
        fits(document, shape, value, &format!("{at}.{name}"));
    }
}

/// A value of the kind that the document says.
fn sample(name: &str, schema: &Value) -> String {
    match (name, schema["type"].as_str()) {
        ("customer", _) => "acme".into(),
        ("entity", _) => "user".into(),
        (_, Some("boolean")) => "true".into(),
        (_, Some("integer")) => "1".into(),
        _ => schema["enum"][0].as_str().expect("one of a few").into(),
    }
}

#[tokio::test]
async fn connections_that_bring_no_request_take_no_more_than_their_places_and_end() {
    let databases = Databases::new("half open").await;
    let desk = databases.desk("half-open");
    desk.succeeds(&["migrate"]);
    // Fewer files than connections: were all of them taken, nothing could be opened any more.
    let limited =
        ["-c", "ulimit -n 128 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sync-bridge"), "console", "--listen"];
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let running = desk.start("sh", &[&limited[..], &[&listen]].concat());
    let headers = vec![("Host".into(), listen.clone())];
    let mut console = Console { port, running, headers };
    eventually("the console answers", async || {
        console.running.must_run();
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await;
    let half_open: Vec<TcpStream> = (0..140)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            write!(stream, "GET / HTTP/1.1\r\nHost: {listen}\r\n").expect("a part of a head");
            stream
        })
        .collect();
    assert_eq!(console.get("/").status, 200);
    for mut stream in half_open {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        let is_late = ended
            .is_err_and(|error| [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()));
        assert!(!is_late, "it is open still");
    }
    let output = console.running.stop(Signal::SIGTERM);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(0) && !told.contains("Too many open files"), "{told}");
}

/// A form whose body has not come yet.
fn half_posted(console: &Console, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", console.port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let headers: String = console.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (kind, length) = ("application/x-www-form-urlencoded", body.len());
    write!(stream, "POST {path} HTTP/1.1\r\n{headers}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
        .expect("asking");
    stream
}

fn said(mut stream: TcpStream) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    said
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_unless_its_sender_is_known() {
    let databases = Databases::new("slow bodies").await;
    let desk = databases.desk("slow-bodies").with("SYNC_BRIDGE_CONSOLE_READ_TOKEN", READ);
    desk.succeeds(&["migrate"]);
    let mut console = Console::start(&desk, &[]).await;
    let entered = console.post("/login", &[("token", READ), ("who", "Ada")]);
    let strange = half_posted(&console, "/login", "token=x");
    let cookie = entered.headers["set-cookie"].split(';').next().expect("the pair").to_owned();
    console.with("Cookie", &cookie);
    let mut known = half_posted(&console, "/logout", "csrf=x");
    let refused = said(strange);
    assert!(refused.starts_with("HTTP/1.1 408 ") && refused.contains("not here within 5 s"), "{refused}");
    // The other began at the same time, and comes now.
    write!(known, "csrf=x").expect("asking");
    let answered = said(known);
    assert!(answered.starts_with("HTTP/1.1 403 ") && answered.contains("not from this console"), "{answered}");
    console.stop();
}

fn probed(port: u16, path: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asking");
    said(stream).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[tokio::test]
async fn probes_are_answered_whoever_holds_the_console() {
    let databases = Databases::new("held").await;
    let port = free_port();
    let health = format!("127.0.0.1:{port}");
    let desk =
        databases.desk("held").with("SYNC_BRIDGE_CONSOLE_READ_TOKEN", READ).with("SYNC_BRIDGE_HEALTH_LISTEN", health);
    desk.succeeds(&["migrate"]);
    let console = Console::start(&desk, &[]).await;
    let mut rounds = 0;
    loop {
        // As many as it has places, and half of that more.
        let mut held: Vec<TcpStream> = (0..96).map(|_| half_posted(&console, "/login", "token=x")).collect();
        for (port, path) in [(port, "/livez"), (port, "/readyz"), (console.port, "/livez"), (console.port, "/readyz")] {
            assert_eq!(probed(port, path), 200, "{port} {path}");
        }
        // Most are there still: nobody waited for their end. A machine that stood still for seconds has ended them.
        let mut open = 0;
        for stream in &mut held {
            stream.set_nonblocking(true).expect("a socket");
            let said = stream.read(&mut [0; 16]);
            open += usize::from(said.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        }
        rounds += 1;
        if open >= 40 {
            break;
        }
        assert!(rounds < 3, "{open} of 64 places are held");
    }
    console.stop();
}
