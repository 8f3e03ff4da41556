//! A server with a replica: the replica is refused as a side, and a first load steps back while it lags.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use sync_bridge::config::{Config, CustomerId, DatabaseUrl, EntityId, Limits, Side};
use sync_bridge::embedded::{Options, Server};
use sync_bridge::jobs::failure::{Sorted, sort};
use sync_bridge::ops;
use sync_bridge::stages::{Contact, Data, Page, PageMode, PageReport};

use crate::jobs;
use crate::support::bridge::{Bridge, GRACE};
use crate::support::people::{LEGACY, PLATFORM, STAGES};
use crate::support::proxy::{port_of, through};
use crate::support::queue::queue;
use crate::support::systems::{CUSTOMER, Systems, keys};
use crate::support::{Folder, eventually};

async fn server(folder: &Folder) -> Server {
    let options = Options { fsync: false, ..Options::default() };
    Server::start_with(folder.path(), options).await.expect("starting a server")
}

/// A copy of `primary` that follows it, and replays nothing before an hour has passed.
async fn replica(primary: &Server, folder: &Folder) -> Server {
    let own = server(folder).await;
    let data = own.home().join("data");
    let program = format!("/proc/{}/exe", own.pid().expect("it runs"));
    let program = std::fs::read_link(program).expect("the server's program").with_file_name("pg_basebackup");
    own.stop().await.expect("a stop");
    let owner = std::fs::metadata(&data).expect("its data");
    std::fs::remove_dir_all(&data).expect("removing its data");
    let mut copies = Command::new(program);
    copies.args(["--write-recovery-conf", "--checkpoint=fast", "--pgdata"]).arg(&data);
    copies.arg("--dbname").arg(primary.url("postgres").expose()).current_dir("/");
    if nix::unistd::Uid::effective().is_root() {
        copies.gid(owner.gid()).uid(owner.uid());
    }
    let copied = copies.output().expect("copying the primary");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let settings = data.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&settings).expect("its settings");
    std::fs::write(&settings, format!("{text}\nrecovery_min_apply_delay = '1h'\n")).expect("writing its settings");
    server(folder).await
}

async fn tell(url: &DatabaseUrl, sql: &'static str) {
    let mut connection = PgConnection::connect(url.expose()).await.expect("connecting");
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn a_replica_is_refused_as_a_side_and_a_load_steps_back_while_it_lags() {
    let (ours, theirs) = (Folder::new("primary"), Folder::new("replica"));
    let primary = server(&ours).await;
    for name in ["legacy", "platform"] {
        primary.create_database(name).await.expect("a database");
    }
    let urls = ["legacy", "platform"].map(|name| primary.url(name));
    let systems = Systems::at(urls, LEGACY, PLATFORM, STAGES).await;
    systems.on_legacy("insert into team (label) values ('a')").await;
    let replica = replica(&primary, &theirs).await;

    // It is asked for what changed, as any side would be.
    let there = |url: &DatabaseUrl| through(port_of(replica.url("postgres").expose()), url.expose());
    let mut config = Config::clone(&systems.config);
    for url in config.customers[0].databases.values_mut() {
        *url = there(url);
    }
    let (data, customer, team) = (Data::new(Arc::new(config)), CustomerId::new(CUSTOMER), EntityId::new("team"));
    let asked = data.cut(&customer, &team, Side::Legacy, None).await;
    let error = asked.expect_err("a replica lags");
    assert_eq!(sort(&error), Sorted::Outage, "a failover may be under way");
    let refused = format!("{error:#}");
    assert!(refused.contains("is a hot standby") && refused.contains("give the primary's address"), "{refused}");

    let mut config = Config::clone(&systems.config);
    let second = Limits { replica_lag: Duration::from_secs(1), ..Limits::default() };
    config.customers[0].limits = ["legacy", "platform"].map(|name| (name.to_owned(), second)).into_iter().collect();
    let data = Data::new(Arc::new(config));
    let page = Page {
        customer,
        entity: team,
        side: Side::Legacy,
        range: keys(Vec::new()),
        mode: PageMode::Sync,
        lease: Duration::ZERO,
        held: None,
        contact: Contact::Decide,
        rulings: Vec::new(),
        notes: false,
        recovery: None,
        watermarks: [None, None],
    };
    let rest = async || data.rest(&page, &PageReport::default(), Duration::ZERO, 4).await.expect("an answer");
    systems.on_legacy("insert into team (label) values ('b')").await;
    eventually("the replica is not behind", async || {
        rest().await.is_some_and(|rest| rest.length > Duration::from_secs(1) && rest.why.contains("a replica of"))
    })
    .await;
    let at_replica = there(&primary.url("postgres"));
    tell(&at_replica, "alter system set recovery_min_apply_delay = 0").await;
    tell(&at_replica, "select pg_reload_conf()").await;
    eventually("it is still behind", async || rest().await.is_none()).await;

    drop(systems);
    replica.remove().await.expect("the end of the replica");
    primary.remove().await.expect("the end of the primary");
}

#[tokio::test]
async fn a_standby_that_answers_in_place_of_the_primary_is_waited_for() {
    let (ours, theirs) = (Folder::new("before failover"), Folder::new("standby"));
    let primary = server(&ours).await;
    for name in ["legacy", "platform"] {
        primary.create_database(name).await.expect("a database");
    }
    let urls = ["legacy", "platform"].map(|name| primary.url(name));
    let systems = Systems::at(urls, jobs::LEGACY, jobs::PLATFORM, jobs::STAGES).await;
    systems.on_legacy("insert into team (label) values ('a')").await;
    let standby = replica(&primary, &theirs).await;
    let there = |url: &DatabaseUrl| through(port_of(standby.url("postgres").expose()), url.expose());
    let mut config = Config::clone(&systems.config);
    let platform = config.customers[0].databases.get_mut("platform").expect("a platform");
    *platform = there(platform);
    let bridge = Bridge { systems, queue: queue("standby").await, config: config.into() };

    let worker = bridge.work(GRACE);
    let tick = ops::tick_now(&bridge.queue.pool, &CustomerId::new(CUSTOMER)).await.expect("a tick");
    eventually("nobody waits for the primary", async || {
        let away = "select count(*) from bridge.circuit where error like '%hot standby%' and probes >= 2";
        bridge.number(away).await == 1
    })
    .await;
    assert_eq!(bridge.number("select count(*) from bridge.job where state = 'dead'").await, 0);
    assert_eq!(bridge.number("select max(attempt)::bigint from bridge.job where state = 'ready'").await, 0);
    tell(&there(&primary.url("postgres")), "select pg_promote()").await;
    assert_eq!(bridge.ended(tick).await.ending, "done", "it is the primary now");
    let mut connection = PgConnection::connect(there(&primary.url("platform")).expose()).await.expect("connecting");
    let teams: i64 = sqlx::query_scalar("select count(*) from team").fetch_one(&mut connection).await.expect("teams");
    assert_eq!(teams, 1);
    worker.stop().await;

    drop((bridge, connection));
    standby.remove().await.expect("the end of the standby");
    primary.remove().await.expect("the end of the primary");
}
