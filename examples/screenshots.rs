//! Makes every picture of the console in `docs/screenshots/` anew: `cargo run --example screenshots`. Four customers of the sample systems
//! work for a while; what then goes wrong at three of them is done on purpose, with plain SQL. It takes three minutes, and needs what the
//! tests need. An hour of a console's life is not waited for: what was done in two minutes is dated back over the hour before.

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use sync_bridge::config::{Config, CustomerId, Side};
use sync_bridge::demo::folder::{Database, Folder};
use sync_bridge::demo::samples::{self, ACME, Amounts, BIRCH, Sample, Systems};
use sync_bridge::demo::writers::{self, Pace, Tally};
use sync_bridge::embedded::{self, Server};
use sync_bridge::ops;
use tokio_util::sync::CancellationToken;

use support::browser::{Browser, DESK, PHONE};
use support::eventually;

const CEDAR: Sample = Sample { id: "c-1003", slug: "cedar", one_database: true, early_adopters: false };
const DUNE: Sample = Sample { id: "c-1004", slug: "dune", one_database: true, early_adopters: true };
const CUSTOMERS: [Sample; 4] = [ACME, BIRCH, CEDAR, DUNE];

const PEOPLE: usize = 600;
const WRITE_FOR: Duration = Duration::from_secs(110);
const ACTIONS_PER_SEC: u32 = 3;
/// A busy machine takes its time.
const COMES_MAX: Duration = Duration::from_secs(300);
const TOKEN: &str = "token-of-the-screenshots-alone";

/// Width, and how long a picture is at most: what stands further down is more of the same.
const USUAL: (u32, u32) = (DESK.0, 820);
const LONG: (u32, u32) = (DESK.0, 940);
const SLIM: (u32, u32) = (PHONE.0, 1150);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // With the example: alone, the program would be built once more with fewer features of its dependencies.
    let build = ["build", "--quiet", "--bins", "--example", "screenshots"];
    anyhow::ensure!(Command::new(env!("CARGO")).args(build).status()?.success(), "building the programs");
    let folder = Folder::temporary()?;
    let server =
        Server::start_with(&folder.server(), embedded::Options { fsync: false, ..embedded::Options::default() })
            .await?;
    let made = make(&folder, &server).await;
    server.remove().await?;
    made
}

async fn make(folder: &Folder, server: &Server) -> anyhow::Result<()> {
    let stand = Stand::new(folder, server).await?;
    let up = stand.up("*/3 * * * * *", "20s").await?;
    // Seven entities of four customers on two sides.
    stand.comes("select count(*) = 56 and not exists (select from bridge.run where state = 'loading') from bridge.watermark").await?;
    stand.people_work().await?;
    stand.what_goes_wrong().await?;
    drop(up);
    stand.date_back().await?;
    let up = stand.up("* * * * *", "1h").await?;
    stand.cedar_is_away().await?;
    stand.pictures(&up).await
}

/// `sync-bridge up`, with its console.
struct Up {
    process: Child,
    port: u16,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

struct Stand<'s> {
    folder: &'s Folder,
    server: &'s Server,
    customers: Vec<(Sample, Systems)>,
    queue: PgPool,
}

impl<'s> Stand<'s> {
    async fn new(folder: &'s Folder, server: &'s Server) -> anyhow::Result<Stand<'s>> {
        let mut customers = Vec::new();
        for sample in CUSTOMERS {
            for database in Database::ALL {
                server.create_database(&database.name(&sample)).await?;
            }
            let [legacy, identity, groups, geo] = Database::ALL.map(|database| server.url(&database.name(&sample)));
            let systems = Systems { legacy, identity, groups, geo };
            samples::create(&sample, &systems).await?;
            samples::fill(&sample, &systems, Amounts::of_people(PEOPLE), 7).await?;
            customers.push((sample, systems));
        }
        server.create_database(Config::QUEUE_EMBEDDED).await?;
        let queue = server.url(Config::QUEUE_EMBEDDED);
        let queue = PgPoolOptions::new().max_connections(2).connect(queue.expose()).await?;
        let stand = Stand { folder, server, customers, queue };
        stand.configure("*/3 * * * * *", "20s")?;
        for verb in ["migrate", "prepare"] {
            anyhow::ensure!(stand.program(&[verb]).status()?.success(), "sync-bridge {verb}");
        }
        Ok(stand)
    }

    /// The example's own stages, with a name that only a person decides about.
    fn configure(&self, schedule: &str, sweep_every: &str) -> anyhow::Result<()> {
        let example = include_str!("bridge.toml");
        let stages = example.find("[[stages]]").map(|at| &example[at..]).context("the example has no stages")?;
        let field = r#"name    = { legacy = "descr", platform = "name" }"#;
        anyhow::ensure!(stages.matches(field).count() == 1, "the example's group has no such name");
        let stages = stages.replace(field, r#"name    = { legacy = "descr", platform = "name", conflict = "manual" }"#);
        let customers: String = CUSTOMERS
            .iter()
            .map(|sample| {
                let databases: Vec<String> = ["legacy", "identity", "groups", "geo"]
                    .into_iter()
                    .zip(Database::ALL)
                    .map(|(name, database)| format!("{name} = \"embedded:{}\"", database.name(sample)))
                    .collect();
                let business = if sample.one_database { "north" } else { "south" };
                format!(
                    "[[customers]]\nid = \"{}\"\nslug = \"{}\"\nlabels = {{ business = \"{business}\" }}\ndatabases = {{ {} }}\n\n",
                    sample.id,
                    sample.slug,
                    databases.join(", ")
                )
            })
            .collect();
        let head = format!(
            "[defaults]\nschedule = \"{schedule}\"\nsweep_every = \"{sweep_every}\"\ndeletes_every = \"5s\"\ndeletes_after = \"1s\"\n\
             page_rows = 100\nattempts_max = 2\n\n"
        );
        Ok(std::fs::write(self.folder.config(), format!("{head}{customers}{stages}"))?)
    }

    fn program(&self, args: &[&str]) -> Command {
        let example = std::env::current_exe().expect("the example's own path");
        let mut command = Command::new(example.ancestors().nth(2).expect("a target folder").join("sync-bridge"));
        command.args(args).current_dir(self.folder.path());
        // Nothing of whoever makes the pictures is in them.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("USER", "ada");
        command.env("SYNC_BRIDGE_CONSOLE_ACT_TOKEN", TOKEN).env("SYNC_BRIDGE_LOG", "off");
        command
    }

    async fn up(&self, schedule: &str, sweep_every: &str) -> anyhow::Result<Up> {
        self.configure(schedule, sweep_every)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let mut command = self.program(&["up", "--console-listen", &listen, "--show-values"]);
        let process = command.stdin(Stdio::null()).spawn().context("starting sync-bridge up")?;
        eventually("the console answers", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Ok(Up { process, port })
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.queue)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until the queue database says yes.
    async fn comes(&self, sql: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql.to_owned())).fetch_one(&self.queue).await? {
            anyhow::ensure!(start.elapsed() < COMES_MAX, "still not: {sql}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn tell_queue(&self, sql: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.queue).await.with_context(|| sql.to_owned())?;
        Ok(())
    }

    async fn tell(&self, sample: Sample, database: Database, sql: &str) -> anyhow::Result<()> {
        let url = self.server.url(&database.name(&sample));
        let mut connection = match database {
            Database::Legacy => samples::connect_to_legacy(&url).await?,
            _ => samples::connect(&url).await?,
        };
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.with_context(|| sql.to_owned())?;
        Ok(connection.close().await?)
    }

    /// On both sides of all customers, as in the demo.
    async fn people_work(&self) -> anyhow::Result<()> {
        let (stop, tally) = (CancellationToken::new(), Tally::default());
        let work = self.customers.iter().flat_map(|(sample, systems)| {
            Side::BOTH.map(|side| {
                let pace = Pace { actions_per_sec: ACTIONS_PER_SEC, seed: 7, stop: stop.clone() };
                let tally = &tally;
                async move { writers::write(sample, systems, side, &pace, tally).await }
            })
        });
        let clock = async {
            tokio::time::sleep(WRITE_FOR).await;
            stop.cancel();
            Ok(())
        };
        tokio::try_join!(futures::future::try_join_all(work), clock)?;
        Ok(())
    }

    async fn what_goes_wrong(&self) -> anyhow::Result<()> {
        // A rule of the platform that legacy knows nothing of.
        let rule = "alter table groups.groups add constraint groups_budget_check check (budget >= 0) not valid";
        self.tell(BIRCH, Database::Groups, rule).await?;
        let edit = "update grps set bud_ct = -125000 * id, chg_ts = now() where id in (select id from grps where del = 'N' order by id limit 3)";
        self.tell(BIRCH, Database::Legacy, edit).await?;
        // A disk with a broken block under one table.
        let broken = "create function check_disk() returns trigger language plpgsql as
             $$ begin raise exception 'invalid page in block 1182 of relation base/16412/24987' using errcode = 'XX001'; end $$;
             create trigger broken before update on geo.sites for each row execute function check_disk()";
        self.tell(BIRCH, Database::Geo, broken).await?;
        let edit = "update sites set inhab = inhab + 1, last_update = localtimestamp where id in (select id from sites where closed is null order by id limit 40)";
        self.tell(BIRCH, Database::Legacy, edit).await?;
        // A name that both sides change.
        let mut legacy = samples::connect_to_legacy(&self.server.url(&Database::Legacy.name(&ACME))).await?;
        let codes: Vec<String> =
            sqlx::query_scalar("select code from grps where del = 'N' order by code limit 2 offset 3")
                .fetch_all(&mut legacy)
                .await?;
        legacy.close().await?;
        let codes = codes.iter().map(|code| format!("'{}'", code.replace('\'', "''"))).collect::<Vec<_>>().join(", ");
        let edit = format!("update grps set descr = descr || ' GmbH', chg_ts = now() where code in ({codes})");
        self.tell(ACME, Database::Legacy, &edit).await?;
        let edit =
            format!("update groups.groups set name = name || ' (new)', updated_at = now() where code in ({codes})");
        self.tell(ACME, Database::Groups, &edit).await?;
        // An edit that no stamp tells of: the next comparison of whole tables finds it.
        let unseen = "alter table users disable trigger user; update users set phone = '+49 30 5550199' where id % 97 = 5; alter table users enable trigger user";
        self.tell(ACME, Database::Legacy, unseen).await?;
        let run = self.number("select max(id) from bridge.run").await;
        self.comes(
            "select exists (select from bridge.job where state = 'dead') and exists (select from bridge.quarantine)",
        )
        .await?;
        self.comes(&format!(
            "select count(distinct customer) = 4 from bridge.run where sweep and id > {run} and ended_at is not null"
        ))
        .await
    }

    /// Spreads what was done over the last hour: each run and tick moves as a whole, the older the further.
    async fn date_back(&self) -> anyhow::Result<()> {
        self.tell_queue(
            "begin;
             create temporary table spread on commit drop as
                 select greatest(1, extract(epoch from interval '75 minutes') / extract(epoch from now() - min(created_at))) - 1 as by,
                     now() as now from bridge.tick;
             create temporary table moved on commit drop as
                 select id, date_trunc('second', (spread.now - created_at) * by) as back from bridge.tick, spread;
             drop index bridge.tick_instant;
             update bridge.tick set at = at - back, created_at = created_at - back, ended_at = ended_at - back
                 from moved where moved.id = tick.id;
             create unique index tick_instant on bridge.tick (customer, at) where origin = 'schedule';
             update bridge.stage set created_at = stage.created_at - back, opened_at = stage.opened_at - back, ended_at = stage.ended_at - back
                 from bridge.run join moved on moved.id = run.tick where run.id = stage.run;
             update bridge.page set released_at = released_at - back, ended_at = page.ended_at - back
                 from bridge.run join moved on moved.id = run.tick where run.id = page.run;
             update bridge.run set opened_at = opened_at - back, ended_at = ended_at - back from moved where moved.id = run.tick;
             commit",
        )
        .await
    }

    async fn cedar_is_away(&self) -> anyhow::Result<()> {
        let name = Database::Legacy.name(&CEDAR);
        let mut connection = PgConnection::connect(self.server.url("postgres").expose()).await?;
        let sql = format!(
            "alter database \"{name}\" with allow_connections false;
             select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await?;
        ops::tick_now(&self.queue, &CustomerId::new(CEDAR.id)).await?;
        self.comes("select exists (select from bridge.circuit)").await?;
        self.tell_queue(
            "update bridge.circuit set since = since - interval '23 minutes';
             update bridge.watermark set settled_at = settled_at - interval '23 minutes' where customer = 'c-1003'",
        )
        .await
    }

    async fn pictures(&self, up: &Up) -> anyhow::Result<()> {
        let into = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots");
        std::fs::create_dir_all(&into)?;
        let browser = Browser::start(&format!("http://localhost:{}", up.port)).await;
        let host = nix::unistd::gethostname()?.into_string().unwrap_or_default();
        let take = async |name: &str, (width, most): (u32, u32)| -> anyhow::Result<()> {
            browser.size((width, most)).await;
            let hide = format!(
                "const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
                 while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll('{host}', 'bridge-1');
                 document.activeElement.blur();
                 return Math.ceil(document.body.getBoundingClientRect().height)"
            );
            let whole: u32 = browser.script(&hide).await;
            browser.size((width, whole.min(most))).await;
            let picture = browser.picture().await;
            println!("{name}.png: {} kB", picture.len() / 1024);
            Ok(std::fs::write(into.join(format!("{name}.png")), picture)?)
        };

        browser.scheme("light").await;
        browser.open("/").await;
        take("login", USUAL).await?;
        browser.fill("Token", TOKEN).await;
        browser.fill("Your name", "Ada").await;
        browser.press("Log in").await;
        browser.arrives("/").await;

        // What an operator does, so that there is something to be seen of it.
        browser.open("/customers/dune").await;
        browser.unfold("Pause").await;
        browser.choose("Entity", "group").await;
        browser.choose("Direction", "to-legacy").await;
        browser.fill("Why", "their ERP is closed for the year-end until Monday").await;
        browser.press("Pause").await;
        browser.reads("Pages that are under way end").await;
        browser.open("/quarantine?customer=birch").await;
        let row = self.number("select min(id) from bridge.quarantine where customer = 'c-1002'").await;
        browser.tick(&format!("Choose row {row}")).await;
        browser.fill("Why", "finance put the budget right").await;
        browser.press("Try again in the next run").await;
        browser.reads("the next run's").await;
        let letters = self.number("select count(*) from bridge.job where state = 'dead' and requeued_at is null").await;
        if letters > 1 {
            let letter =
                self.number("select max(id) from bridge.job where state = 'dead' and requeued_at is null").await;
            browser.open(&format!("/dead-letters/{letter}")).await;
            browser.fill("Why", "the disk was replaced").await;
            browser.press("Re-enqueue").await;
            browser.reads("Re-enqueued 1.").await;
        }

        self.comes("select not exists (select from bridge.run where state = 'open')").await?;
        let run = self
            .number("select run from bridge.page join bridge.run on run.id = page.run where run.customer = 'c-1001' and first_load group by run order by count(*) desc limit 1")
            .await;
        let letter = self.number("select min(id) from bridge.job where state = 'dead' and requeued_at is null").await;
        browser.open("/conflicts?customer=acme&state=open").await;
        let open =
            "return document.querySelector('td a') === null ? '' : document.querySelector('td a').getAttribute('href')";
        let mut conflict: String = browser.script(open).await;
        if conflict.is_empty() {
            browser.open("/conflicts?customer=acme").await;
            conflict = browser.script(open).await;
        }
        browser.open("/quarantine?customer=birch").await;
        let record = "return document.querySelector(\"td a[href*='/records?']\").getAttribute('href')";
        let record: String = browser.script(record).await;
        for (name, path) in [
            ("overview", "/"),
            ("customer", "/customers/birch"),
            ("record", &record),
            ("run", &format!("/runs/{run}")),
            ("dead-letters", "/dead-letters"),
            ("dead-letter", &format!("/dead-letters/{letter}")),
            ("quarantine", "/quarantine"),
            ("conflicts", "/conflicts?customer=acme&entity=group"),
            ("conflict", &conflict),
            ("reconciliation", "/reconciliation?customer=acme"),
            ("actions", "/actions"),
            ("configuration", "/configuration"),
            ("health", "/health"),
        ] {
            browser.open(path).await;
            take(name, if name == "customer" { LONG } else { USUAL }).await?;
        }
        browser.open("/").await;
        take("overview-phone", SLIM).await?;
        browser.scheme("dark").await;
        take("overview-dark", USUAL).await?;
        let told: Vec<String> = browser.complaints().await;
        anyhow::ensure!(told.is_empty(), "the browser complains: {told:?}");
        Ok(())
    }
}
