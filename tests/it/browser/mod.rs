//! The console in a real browser, through what an operator does there: by mouse, by keyboard alone, on a phone, in light and in dark.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::cli::{Databases, Desk, execute, number};
use crate::console::{ACT, Console, READ, a_page_dies, troubled};
use crate::support::browser::{Browser, DESK, Driver, MISSING, PHONE, TAB};
use crate::support::{eventually, server};

const WORKER: &str = env!("CARGO_BIN_EXE_sync-bridge-worker");

/// What is wrong with the open page, a sentence each.
const AUDIT: &str = include_str!("audit.js");

/// As though nothing was known to be done for twenty minutes.
const LATE: &str = "update bridge.watermark set settled_at = now() - interval '20 minutes'";

/// As [`troubled`], with a second dead letter, a conflict that waits for a person, and no news for long.
async fn in_need(hint: &str) -> (Databases, Desk) {
    let (databases, desk) = troubled(hint).await;
    a_page_dies(&databases, &desk, "gus").await;
    let file = desk.folder.path().join("bridge.toml");
    let usual = std::fs::read_to_string(&file).expect("the configuration");
    let field = r#"platform = "name" }"#;
    assert!(usual.contains(field), "{usual}");
    std::fs::write(&file, usual.replace(field, r#"platform = "name", conflict = "manual" }"#)).expect("writing it");
    execute(&databases.legacy, "update users set name = 'Bob L', changed = now() where mail like 'bob%'").await;
    let platform = "update identity.users set name = 'Bob P', updated_at = now() where email like 'bob%'";
    execute(&databases.platform, platform).await;
    desk.run(&["run", "--customer", "acme", "--inline"]);
    assert_eq!(id_of(&databases.platform, "sync_bridge.conflict where state = 'open'").await.len(), 1);
    execute(&databases.queue, LATE).await;
    (databases, desk.with("SYNC_BRIDGE_CONSOLE_READ_TOKEN", READ).with("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", ACT))
}

/// The ids of these rows, the newest first.
async fn id_of(database: &crate::support::TestDatabase, rows: &str) -> Vec<i64> {
    let count = number(database, &format!("select count(*) from {rows}")).await;
    let mut ids = Vec::new();
    for at in 0..count {
        ids.push(number(database, &format!("select id from {rows} order by id desc limit 1 offset {at}")).await);
    }
    ids
}

async fn browse(console: &Console) -> Browser {
    Browser::start(&format!("http://localhost:{}", console.port)).await
}

async fn log_in(browser: &Browser, token: &str, who: &str) {
    browser.fill("Token", token).await;
    browser.fill("Your name", who).await;
    browser.press("Log in").await;
}

#[test]
fn where_there_is_no_browser_it_is_said_what_to_install() {
    let Err(said) = Driver::start("no-such-chromedriver") else { panic!("there is one") };
    assert!(said.contains("apt-get install chromium chromium-driver") && said.contains(MISSING), "{said}");
    // What is there, and is none.
    let Err(said) = Driver::start("true") else { panic!("it is one") };
    assert!(said.contains(MISSING), "{said}");
}

#[tokio::test]
async fn an_operator_finds_why_a_customer_is_late_and_mends_it() {
    let (databases, desk) = in_need("browser mends").await;
    let console = Console::start(&desk, &["--show-values"]).await;
    let worker = desk.start(WORKER, &[]);
    let browser = browse(&console).await;

    // In by a token, to where one wanted to go.
    browser.open("/dead-letters").await;
    assert_eq!(browser.path().await, "/login?next=%2Fdead-letters");
    log_in(&browser, "not-the-token-of-anybody", "Ada").await;
    browser.reads("This token opens nothing.").await;
    log_in(&browser, ACT, "Ada").await;
    browser.arrives("/dead-letters").await;

    // From the customer that is late to what died, and why.
    browser.follow("Overview").await;
    assert!(browser.count("td .late").await > 0, "it is marked: {}", browser.text().await);
    browser.follow("acme").await;
    browser.reads("Customer acme").await;
    let dead = id_of(&databases.queue, "bridge.job where state = 'dead' and requeued_at is null").await;
    let run = number(&databases.queue, "select min(run) from bridge.page where state = 'dead'").await;
    let (first, second) = (dead[dead.len() - 1], dead[0]);
    assert_ne!(first, second);
    browser.follow_to(&format!("/runs/{run}")).await;
    browser.reads("From its opening to its end").await;
    browser.follow_to(&format!("/dead-letters/{first}")).await;
    browser.reads("function \"<i>refuse</i>\"() line 1 at RAISE [XX001]").await;

    // Brought back, and done by the worker.
    browser.fill("Why", "the table is back").await;
    browser.press("Re-enqueue").await;
    browser.reads("Re-enqueued 1.").await;
    let carried = "select count(*) from identity.users where email like 'fred%'";
    eventually("its rows are carried over", async || number(&databases.platform, carried).await == 1).await;

    // Given up, after a second thought.
    browser.follow("Dead letters").await;
    browser.fill("Why", "none of them").await;
    browser.press("Discard").await;
    assert!(browser.asked(true).await.starts_with("None is chosen"), "before anything else is asked");
    let typed = browser.script::<String>("return document.querySelector('input[name=reason]').value").await;
    assert_eq!((typed.as_str(), browser.path().await.as_str()), ("none of them", "/dead-letters"));
    browser.script::<Value>("document.querySelector('input[name=reason]').value = ''").await;
    browser.tick(&format!("Choose dead letter {second}")).await;
    browser.fill("Why", "they delete it themselves").await;
    browser.press("Discard").await;
    assert!(browser.asked(false).await.starts_with("Give them up?"));
    assert_eq!(browser.count("input[name=id]:checked").await, 1, "nothing was done, and nothing is lost");
    browser.press("Discard").await;
    browser.asked(true).await;
    browser.reads("Discarded 1.").await;

    // A row that can be written by now; the page itself says when it is.
    execute(&databases.platform, "alter table identity.users drop constraint no_poison").await;
    let row = id_of(&databases.queue, "bridge.quarantine").await[0];
    browser.follow("Quarantine").await;
    browser.reads("no_poison").await;
    browser.tick(&format!("Choose row {row}")).await;
    browser.fill("Why", "the rule is gone").await;
    browser.press("Try again in the next run").await;
    browser.reads("1 row for the next run").await;
    browser.script::<Value>("window.kept = true").await;
    browser.reads("Nothing is quarantined.").await;
    assert!(browser.script::<bool>("return window.kept === true").await, "without being loaded anew");

    // Both sides of a conflict; the loser comes back.
    browser.follow("Conflicts").await;
    let decided = id_of(&databases.platform, "sync_bridge.conflict where state = 'decided'").await[0];
    browser.follow_to(&format!("/conflicts/c-1/user/{decided}")).await;
    browser.reads("Ada P").await;
    browser.reads("<b>Ada L</b>").await;
    assert_eq!((browser.count(".value.won").await, browser.count(".value.lost").await), (1, 1));
    let held = "select count(*) from users where name = 'Ada P'";
    let before = number(&databases.legacy, held).await;
    browser.fill("Why", "she asked for it").await;
    browser.press("Undo: bring the loser back").await;
    browser.asked(true).await;
    browser.reads("the loser is back on both sides").await;
    assert_ne!(number(&databases.legacy, held).await, before);

    // One that waits for a person.
    browser.follow("Conflicts").await;
    let open = id_of(&databases.platform, "sync_bridge.conflict where state = 'open'").await[0];
    browser.follow_to(&format!("/conflicts/c-1/user/{open}")).await;
    browser.reads("nobody yet").await;
    browser.fill("Why", "as his passport says").await;
    browser.press("Platform's values count").await;
    browser.reads("Decided, and written.").await;
    assert_eq!(number(&databases.legacy, "select count(*) from users where name = 'Bob P'").await, 1);

    // Stopped for a while.
    browser.open("/customers/acme").await;
    browser.unfold("Pause").await;
    browser.choose("Entity", "user").await;
    browser.choose("Direction", "to-legacy").await;
    browser.fill("Why", "a deploy of the monolith").await;
    browser.press("Pause").await;
    browser.reads("Pages that are under way end").await;
    let paused = "select count(*) from bridge.pause where entity = 'user' and toward = 'legacy'";
    assert_eq!(number(&databases.queue, paused).await, 1);
    browser.unfold("Resume").await;
    browser.choose("Entity", "user").await;
    browser.choose("Direction", "to-legacy").await;
    browser.fill("Why", "it is deployed").await;
    browser.press("Resume").await;
    browser.reads("It goes on").await;
    assert_eq!(number(&databases.queue, paused).await, 0);
    browser.unfold("Run now").await;
    browser.fill("Why", "to see it").await;
    browser.press("Ask for a tick").await;
    browser.reads("A tick waits").await;

    // What there is to look at, and what was done.
    browser.follow("Reconciliation").await;
    browser.reads("Comparisons").await;
    browser.follow("Configuration").await;
    browser.reads("Stage identities").await;
    let page = browser.script::<String>("return document.documentElement.outerHTML").await;
    let (_, rest) = databases
        .queue
        .url
        .expose()
        .split_once("postgres:")
        .and_then(|(_, rest)| rest.split_once(':'))
        .expect("a password");
    let password = rest.split('@').next().expect("its end");
    assert!(password.len() > 5 && page.contains(&databases.legacy.name) && !page.contains(password), "{page}");
    browser.follow("Health").await;
    browser.reads("alive").await;
    browser.follow("Actions").await;
    for why in [
        "the table is back",
        "they delete it themselves",
        "the rule is gone",
        "she asked for it",
        "as his passport says",
        "a deploy of the monolith",
        "it is deployed",
        "to see it",
    ] {
        browser.reads(why).await;
    }
    assert_eq!(number(&databases.queue, "select count(*) from bridge.action where who = 'Ada'").await, 8);

    // It was late, and is no more.
    browser.follow("Overview").await;
    browser.waits("it is not late any more", async || browser.count(".late").await == 0).await;
    browser.press("Log out").await;
    browser.arrives("/login").await;
    browser.open("/actions").await;
    browser.arrives("/login").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    assert!(worker.stop(Signal::SIGTERM).status.success());
}

/// Every page there is, by its address here.
async fn pages(databases: &Databases) -> Vec<String> {
    let run = number(&databases.queue, "select max(run) from bridge.page where state = 'dead'").await;
    let letter = number(&databases.queue, "select max(id) from bridge.job where state = 'dead'").await;
    let mut pages: Vec<String> = [
        "/",
        "/customers/acme",
        "/dead-letters?all=true",
        "/quarantine",
        "/conflicts",
        "/reconciliation",
        "/actions",
        "/configuration",
        "/health",
        "/login",
    ]
    .map(str::to_owned)
    .to_vec();
    pages.extend([format!("/runs/{run}"), format!("/dead-letters/{letter}")]);
    pages.push("/customers/acme/records".into());
    for of in ["ada", "eve"] {
        let key = number(&databases.legacy, &format!("select id::bigint from users where mail like '{of}%'")).await;
        pages.push(format!("/customers/acme/records?entity=user&key={key}"));
    }
    for conflict in id_of(&databases.platform, "sync_bridge.conflict").await {
        pages.push(format!("/conflicts/c-1/user/{conflict}"));
    }
    pages
}

/// Whether the address is one of this route.
fn is_of(route: &str, page: &str) -> bool {
    let path = page.split('?').next().unwrap_or_default();
    let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len() && route.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
}

#[tokio::test]
async fn every_page_can_be_read_by_everybody_and_each_thing_to_press_is_reached_by_tab() {
    let (databases, desk) = in_need("browser reads").await;
    desk.succeeds(&["pause", "--customer", "acme", "--entity", "user", "--reason", "a deploy"]);
    let console = Console::start(&desk, &[]).await;
    let browser = browse(&console).await;
    // A page that renews itself in between would be another one.
    browser.clock(0).await;
    let pages = pages(&databases).await;
    let routes = include_str!("../../../src/console/mod.rs").split(".route(\"").skip(1);
    let routes = routes.filter(|rest| rest.contains("\", get(")).filter_map(|rest| rest.split_once("\", get("));
    let routes: Vec<&str> = routes.map(|(route, _)| route).filter(|route| !route.contains('"')).collect();
    assert!(routes.len() > 12, "{routes:?}");
    for route in routes.into_iter().filter(|route| !["/assets/{name}", "/livez", "/readyz"].contains(route)) {
        assert!(pages.iter().any(|page| is_of(route, page)), "no page of {route} is looked at");
    }

    browser.open("/").await;
    log_in(&browser, ACT, "Ada").await;
    let mut faults = BTreeSet::new();
    for page in &pages {
        browser.open(page).await;
        faults.extend(look(&browser, page).await);
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.open("/nowhere").await;
    browser.reads("There is no such page.").await;
    faults.extend(look(&browser, "/nowhere").await);
    let told = browser.complaints().await;
    assert!(told.len() == 1 && told[0].contains("404"), "{told:?}");
    assert!(faults.is_empty(), "{}", Vec::from_iter(faults).join("\n"));

    // Who may look only finds nothing to press, and what they send by hand is refused.
    browser.open("/").await;
    browser.press("Log out").await;
    log_in(&browser, READ, "Reader").await;
    browser.reads("Reader (may look only)").await;
    for page in pages.iter().filter(|page| *page != "/login") {
        browser.open(page).await;
        let buttons = "return [...document.querySelectorAll('button')].map((button) => button.innerText)";
        let buttons: BTreeSet<String> = browser.script::<Vec<String>>(buttons).await.into_iter().collect();
        assert!(
            buttons.iter().all(|button| ["Show", "Explain", "Log out"].contains(&button.as_str())),
            "{page}: {buttons:?}"
        );
        assert_eq!(
            browser.count("form[method=post]:not([action='/logout']) button, main details form").await,
            0,
            "{page}"
        );
    }
    let sent: u16 = browser
        .script(
            "const csrf = document.querySelector('input[name=csrf]').value;
             const body = new URLSearchParams({ csrf, reason: 'by hand' });
             return fetch('/customers/acme/tick', { method: 'POST', body }).then((answer) => answer.status)",
        )
        .await;
    assert_eq!(sent, 403);
    let noted = "select count(*) from bridge.action where action <> 'pause' or reason <> 'a deploy'";
    assert_eq!(number(&databases.queue, noted).await, 0, "but the pause that was made at the desk");
}

/// What is wrong with the open page: light and dark, at a desk and on a phone, everything unfolded; and what Tab does not come to.
async fn look(browser: &Browser, page: &str) -> Vec<String> {
    browser.script::<Value>("for (const one of document.querySelectorAll('details')) one.open = true").await;
    let mut faults = Vec::new();
    for (place, size) in [("on a phone", PHONE), ("at a desk", DESK)] {
        browser.size(size).await;
        for scheme in ["dark", "light"] {
            browser.scheme(scheme).await;
            let found = browser.script::<Vec<String>>(AUDIT).await;
            faults.extend(found.into_iter().map(|fault| format!("{page}, {scheme}, {place}: {fault}")));
        }
    }
    let wanted: usize = browser
        .script(
            "window.wanted = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]')]
                 .filter((one) => one.checkVisibility({ visibilityProperty: true }));
             window.reached = new Set();
             window.dim = new Set();
             document.addEventListener('focusin', ({ target }) => {
                 const { outlineStyle, outlineWidth } = getComputedStyle(target);
                 const { top, bottom, left, right } = target.getBoundingClientRect();
                 const inside = top < innerHeight && bottom > 0 && left < innerWidth && right > 0;
                 if (outlineStyle === 'none' || parseFloat(outlineWidth) < 2 || !inside) window.dim.add(target.outerHTML.slice(0, 80));
                 window.reached.add(window.wanted.indexOf(target));
             });
             document.activeElement.blur();
             return window.wanted.length",
        )
        .await;
    browser.keys(std::iter::repeat_n(TAB, wanted + 1)).await;
    let missed =
        "return window.wanted.filter((_, at) => !window.reached.has(at)).map((one) => one.outerHTML.slice(0, 80))";
    let missed = browser.script::<Vec<String>>(missed).await;
    faults.extend(missed.into_iter().map(|one| format!("{page}: Tab does not come to {one}")));
    let dim = browser.script::<Vec<String>>("return [...window.dim]").await;
    faults.extend(dim.into_iter().map(|one| format!("{page}: one does not see that this has the focus: {one}")));
    faults
}

#[tokio::test]
async fn the_look_at_a_page_notices_what_is_wrong_with_it() {
    let browser = Browser::start("http://localhost:1").await;
    let page = |head: &str, body: &str| {
        let text = format!("<!doctype html><html{head}><title>a page</title><body>{body}</body></html>");
        format!("data:text/html;charset=utf-8,{}", text.replace('%', "%25").replace('#', "%23"))
    };
    let whole =
        "<main><h1>One</h1><h2>Two</h2><label>Name<input style='border:1px solid #555;height:30px'></label></main>";
    browser.open(&page(" lang='en'", whole)).await;
    assert_eq!(browser.script::<Vec<String>>(AUDIT).await, [""; 0], "nothing is wrong");
    for (head, more, fault) in [
        ("", "", "no language"),
        (" lang='en'", "<p style='color:#888'>grey</p>", "contrast 3.54 of 4.5: <p> grey"),
        (" lang='en'", "<p style='color:#fff8;background:#000;font-size:30px'>half</p>", ""),
        (" lang='en'", "<p style='font-size:8px'>small</p>", "letters of 8 px: <p> small"),
        (" lang='en'", "<p style='opacity:.9'>pale</p>", "not opaque: <p> pale"),
        (
            " lang='en'",
            "<style>p::after{content:'x';color:#999}</style><p></p>",
            "contrast 2.85 of 4.5: ::after of <p>",
        ),
        (
            " lang='en'",
            "<style>input::placeholder{color:#bbb}</style><input placeholder=x aria-label=y style='height:30px'>",
            "the placeholder of <input>",
        ),
        (" lang='en'", "<input aria-label=y style='height:30px;border:1px solid #ddd'>", "the edge of <input>"),
        (" lang='en'", "<svg aria-hidden=true><rect width=9 height=9 fill='#ddd'/></svg>", "<rect class=\"null\">"),
        (" lang='en'", "<input style='height:30px;border-color:#000'>", "no name: <input>"),
        (" lang='en'", "<button style='height:30px;width:30px'></button>", "no name: <button>"),
        (" lang='en'", "<progress></progress>", "no name: <progress>"),
        (" lang='en'", "<img src='data:,'>", "no alternative: data:,"),
        (" lang='en'", "<svg></svg>", "no alternative: <svg>"),
        (" lang='en'", "<h1>Another</h1>", "headings 1,2,1: one is the first"),
        (" lang='en'", "<h4>Deep</h4>", "headings 1,2,4: one is left out"),
        (" lang='en'", "<main></main>", "2 times <main>"),
        (" lang='en'", "<table><tr><td>1</table>", "a table without heads"),
        (" lang='en'", "<table><tr><td>1, <b>2</b></table>", "a cell in pieces: <td> 1, 2"),
        (" lang='en'", "<table><caption>c</caption><tr><th scope=col></table>", "the head of a column is empty"),
        (" lang='en'", "<fieldset></fieldset>", "a group of fields without a legend"),
        (" lang='en'", "<a href='/' tabindex=3>first</a>", "a place of its own in the order: <a> first"),
        (" lang='en'", "<i id=a></i><i id=a></i>", "twice: #a"),
        (
            " lang='en'",
            "<button style='padding:0;font-size:12px;line-height:12px;border:0'>tiny</button>",
            "px: <button> tiny",
        ),
        (" lang='en'", "<p style='width:2000px'>wide</p>", "wider than 1280 px"),
    ] {
        browser.open(&page(head, &whole.replace("</main>", &format!("{more}</main>")))).await;
        let faults = browser.script::<Vec<String>>(AUDIT).await;
        match fault {
            "" => assert_eq!(faults, [""; 0], "{more}"),
            fault => assert!(faults.iter().any(|found| found.contains(fault)), "{more}: {fault}: {faults:?}"),
        }
    }
}

#[tokio::test]
async fn the_keyboard_is_enough_and_nothing_changes_under_ones_hands() {
    let (databases, desk) = in_need("browser keys").await;
    let console = Console::start(&desk, &[]).await;
    let browser = browse(&console).await;
    // Twenty times as fast: a round each quarter of a second.
    browser.clock(20).await;
    browser.open("/").await;
    // The first field of the login has the focus.
    let typed = format!("Ada{TAB}{ACT}");
    browser.keys(typed.chars()).await;
    browser.enter().await;
    browser.reads("Customers").await;
    let focused = "return document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || document.activeElement.name || ''";
    let come_to = async |what: &str| {
        for _ in 0..80 {
            if browser.script::<String>(focused).await == what {
                return;
            }
            browser.tab().await;
        }
        panic!("Tab does not come to {what}: {}", browser.text().await);
    };
    let rounds = "return window.rounds";
    let more_rounds = async || {
        let now: u64 = browser.script(rounds).await;
        browser.waits("three rounds more", async || browser.script::<u64>(rounds).await >= now + 3).await;
    };

    // Past the navigation at once.
    browser.tab().await;
    assert_eq!(browser.script::<String>(focused).await, "Skip to the content");
    let corner = "const { left, top } = document.activeElement.getBoundingClientRect(); return left >= 0 && top >= 0";
    assert!(browser.script::<bool>(corner).await, "it is to be seen");
    browser.enter().await;
    browser.tab().await;
    assert!(browser.script::<bool>("return document.activeElement.closest('main') !== null").await);

    // A page that renews itself leaves the focus where it is.
    come_to("acme").await;
    let link = "return document.activeElement.closest('td') !== null";
    if !browser.script::<bool>(link).await {
        browser.tab().await;
        come_to("acme").await;
    }
    assert!(browser.script::<bool>(link).await);
    browser.script::<Value>("window.before = document.activeElement; window.kept = true").await;
    let renewed = "return window.before !== document.activeElement && !window.before.isConnected";
    browser.waits("the page was renewed", async || browser.script::<bool>(renewed).await).await;
    assert_eq!(browser.script::<String>(focused).await, "acme");
    assert!(browser.script::<bool>(link).await && browser.script::<bool>("return window.kept").await);
    browser.enter().await;
    browser.reads("Customer acme").await;

    // Paused by keys alone.
    come_to("Pause").await;
    browser.enter().await;
    come_to("reason").await;
    browser.keys("by the keyboard".chars()).await;
    browser.enter().await;
    browser.arrives("/customers/c-1?done=").await;
    assert_eq!(number(&databases.queue, "select count(*) from bridge.pause where reason = 'by the keyboard'").await, 1);

    // Chosen and about to be brought back: nothing on the page moves, whatever happens elsewhere.
    let letters = id_of(&databases.queue, "bridge.job where state = 'dead' and requeued_at is null").await;
    browser.open("/dead-letters").await;
    come_to(&format!("Choose dead letter {}", letters[0])).await;
    browser.keys([' ']).await;
    come_to("reason").await;
    browser.keys("by the keyboard".chars()).await;
    let others: Vec<String> = letters[1..].iter().map(i64::to_string).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    desk.succeeds(&[&["dead-letters", "discard", "--reason", "elsewhere"][..], &others].concat());
    more_rounds().await;
    assert_eq!(browser.count("input[name=id]").await, letters.len(), "as it was");
    assert_eq!(browser.count("input[name=id]:checked").await, 1);
    come_to("Re-enqueue").await;
    browser.enter().await;
    // What was done is said until the page is renewed, which is soon here; its address says it longer.
    browser.arrives("/dead-letters?customer=").await;
    assert_eq!(number(&databases.queue, "select count(*) from bridge.job where dealt = 'requeued'").await, 1);

    // While the queue database is away a page says so, and that it is old; one that only says so comes back by itself.
    browser.open("/").await;
    browser.reads("Customers").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    let name = &databases.queue.name;
    let server = server().await;
    let doors = async |open: bool| {
        let mut session = PgConnection::connect(server.url("postgres").expose()).await.expect("connecting");
        let away = format!(
            "alter database \"{name}\" allow_connections {open};
             select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and not {open}"
        );
        sqlx::raw_sql(AssertSqlSafe(away)).execute(&mut session).await.expect("executing");
    };
    doors(false).await;
    browser.reads("does not answer. Until it does nothing is synchronised").await;
    browser.reads("What is below is what it said last.").await;
    assert!(browser.count("main.aged td a[href]").await > 0, "what it said last is still there");
    browser.open("/health").await;
    browser.reads("That did not work just now").await;
    doors(true).await;
    browser.reads("alive").await;
    assert_eq!(browser.count("[data-problem]").await, 0);
    browser.open("/").await;
    browser.reads("Customers").await;
    browser.waits("it is no old page", async || browser.count(".aged, .stale").await == 0).await;

    // A console that is gone is told from one that has no news, and the page stays.
    drop(console);
    browser.reads("The console does not answer. What is below is what it said last.").await;
    browser.reads("acme").await;
}
