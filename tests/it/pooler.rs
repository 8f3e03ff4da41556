//! A real PgBouncer in transaction mode between the bridge and both sides: each transaction may meet another session, and
//! what is set for a session would stay there for others.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use sync_bridge::config::DatabaseUrl;

use crate::support::people::{SAME, people};
use crate::support::proxy::port_of;
use crate::support::systems::Systems;
use crate::support::{Folder, eventually};

/// Fewer sessions per database than the bridge has connections.
const POOL_SIZE: usize = 2;

/// What applications do to sessions that they believe to be theirs.
const SPOILT: &str = "set search_path = 'nowhere'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; set array_nulls = off; \
                      set extra_float_digits = -15; set row_security = on; set datestyle = 'SQL, DMY'; \
                      set default_transaction_isolation = 'repeatable read'; set timezone = 'Asia/Tokyo'";

struct Bouncer {
    process: Child,
    port: u16,
    _folder: Folder,
}

impl Bouncer {
    /// Before the server that listens on `port`.
    async fn start(port: u16, password: &str) -> Bouncer {
        let own =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let folder = Folder::new("pgbouncer");
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={port} user=postgres password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = 100\n"
        );
        std::fs::write(&file, text).expect("writing its configuration");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its password is nobody else's");
        let mut command = Command::new("pgbouncer");
        // It refuses to run as root; it reads its file before it changes the user.
        if nix::unistd::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting pgbouncer: install it, as .ci/run does");
        let mut bouncer = Bouncer { process, port: own, _folder: folder };
        eventually("pgbouncer listens", async || {
            assert!(bouncer.process.try_wait().expect("looking at pgbouncer").is_none(), "pgbouncer ended at once");
            std::net::TcpStream::connect(("127.0.0.1", own)).is_ok()
        })
        .await;
        bouncer
    }

    fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}/", port_of(url)), &format!(":{}/", self.port))
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An application's connection through the pooler.
async fn application(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("a URL");
    options.extra_float_digits(None).connect().await.expect("a connection of an application")
}

/// Leaves the settings in every session of a database's pool.
async fn spoil(url: &str) {
    let mut connections = Vec::new();
    for _ in 0..POOL_SIZE {
        let mut connection = application(url).await;
        sqlx::raw_sql("begin").execute(&mut connection).await.expect("a session of its own");
        connections.push(connection);
    }
    for mut connection in connections {
        sqlx::raw_sql(AssertSqlSafe(format!("{SPOILT}; commit"))).execute(&mut connection).await.expect("settings");
    }
}

async fn spoil_all(systems: &Systems, bouncer: &Bouncer) {
    for database in &systems.databases {
        spoil(&bouncer.url(database.url.expose())).await;
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer, which .ci/run installs: cargo test --test it -- --ignored pooler::"]
async fn a_pooler_in_transaction_mode_is_neither_disturbed_nor_disturbs() {
    let mut systems = people("pooler").await;
    let direct = systems.databases[0].url.expose().to_owned();
    let password = direct.split_once("://postgres:").and_then(|(_, rest)| rest.split_once('@')).expect("a password").0;
    let bouncer = Bouncer::start(port_of(&direct), password).await;
    systems.restart_at(|url| DatabaseUrl::new(bouncer.url(url), "through a pooler"));
    systems.at_once = 4;
    spoil_all(&systems, &bouncer).await;
    systems
        .on_legacy(
            "insert into team (label, parent) select 't' || n, nullif(n - 1, 0) from generate_series(1, 20) n;
             insert into person (email, phone, team) select 'l' || n || '@example.org', n, 1 + n % 20 from generate_series(1, 500) n",
        )
        .await;
    systems
        .on_platform(
            "insert into person (email, phone) select 'p' || n || '@example.org', n from generate_series(1, 500) n",
        )
        .await;
    systems.run().await;
    spoil_all(&systems, &bouncer).await;
    systems
        .on_legacy(
            "update person set phone = 'l', last_update = now() where id % 3 = 0;
             update team set label = label || '.', last_update = now() at time zone 'Europe/Berlin'",
        )
        .await;
    systems.on_platform("update person set name = 'n', updated_at = now() where phone ~ '5$'").await;
    systems.oracles(&SAME).await;
    assert_eq!(systems.platform_rows("select count(*)::text from person").await, ["1000"]);
    // Nothing of the bridge's settings stays behind.
    let mut other = application(&bouncer.url(&direct)).await;
    sqlx::raw_sql("begin").execute(&mut other).await.expect("a transaction");
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        let shown = format!("show {setting}");
        let left: String = sqlx::query_scalar(AssertSqlSafe(shown)).fetch_one(&mut other).await.expect("a setting");
        assert_eq!(left, "0", "{setting}");
    }
    other.close().await.expect("leaving");
}
