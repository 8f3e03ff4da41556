//! What became of a job that died, who may say so, and what follows: from the ledger, from workers, and from the command line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sync_bridge::config::{Config, CustomerId, DatabaseUrl, EntityId, Side};
use sync_bridge::jobs::stage::RECONCILIATION;
use sync_bridge::ledger::job::{self, Back};
use sync_bridge::ledger::{dead_letter, due, page, stage};
use sync_bridge::ops::{self, Selection};
use sync_bridge::stages::{Data, Depth, Key, Lane, Range};

use crate::cli::{Databases, Desk, config, execute as on, number as number_on};
use crate::jobs::{REFUSAL, REFUSE_PAGES, failing, same, teams};
use crate::ledger::{CUSTOMER, KILL_RELEASED, claimed, execute, number, open_stage, round, tick_job};
use crate::support::bridge::{Bridge, GRACE, Worker, page_rows};
use crate::support::queue::{Queue, queue};
use crate::support::systems::{keys, run_page};
use crate::support::{WAIT_MAX, eventually};

async fn waiting(queue: &Queue, which: &Selection) -> Vec<i64> {
    let letters = ops::dead_letters(&queue.pool, which, false, 10_000).await.expect("dead letters");
    letters.iter().map(|letter| letter.id).collect()
}

#[tokio::test]
async fn attempts_that_did_not_end_well_are_kept_and_go_with_their_job() {
    let queue = queue("attempts kept").await;
    let delivery = tick_job(&queue.pool).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let outages = std::iter::repeat_n(Back::Outage, 30);
    for why in [Back::Failed, Back::Stopping].into_iter().chain(outages) {
        let claim = claimed(&queue.pool, delivery.job).await;
        let back = job::back(&mut conn, &claim, why, Duration::ZERO, "some", "reason").await.expect("an answer");
        back.expect("it was ours");
    }
    claimed(&queue.pool, delivery.job).await;
    execute(&queue.pool, "update bridge.job set lease_until = now() - interval '1 s'").await;
    assert_eq!(round(&queue.pool).await.expired, 1);
    let claim = claimed(&queue.pool, delivery.job).await;
    assert!(job::dead(&mut conn, &claim, "permanent", "the table is gone").await.expect("an answer"));

    let shown = ops::dead_letter(&queue.pool, delivery.job).await.expect("an answer").expect("a dead letter");
    let told: Vec<(i32, &str)> =
        shown.history.iter().map(|attempt| (attempt.number, attempt.ending.as_str())).collect();
    assert_eq!(told.len(), 20, "a bounded number: {told:?}");
    assert_eq!(told[0], (1, "failed"), "an outage drives out nothing but outages: {told:?}");
    assert_eq!(told[1], (2, "outage"), "its attempt was given back: {told:?}");
    assert_eq!(told[18..], [(2, "lease expired"), (3, "dead")]);
    assert!(shown.history[18].error.contains("w-1 was not heard of"), "{:?}", shown.history[18]);
    assert_eq!((shown.history[19].error.as_str(), shown.history[19].next_run_at), ("the table is gone", None));
    assert!(shown.history[0].next_run_at.is_some());

    execute(&queue.pool, "update bridge.job set ended_at = now() - interval '90 d'").await;
    execute(&queue.pool, "delete from bridge.tick").await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.attempt").await, 20, "it waits for a person");
    execute(&queue.pool, "update bridge.job set requeued_at = now()").await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.job").await, 0);
    assert_eq!(number(&queue.pool, "select count(*) from bridge.attempt").await, 0);
}

#[tokio::test]
async fn an_outcome_that_is_nobodys_leaves_no_attempt() {
    let queue = queue("attempts fenced").await;
    let delivery = tick_job(&queue.pool).await;
    let stale = claimed(&queue.pool, delivery.job).await;
    execute(&queue.pool, "update bridge.job set lease_until = now() - interval '1 s'").await;
    round(&queue.pool).await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    assert!(!job::dead(&mut conn, &stale, "permanent", "no").await.expect("an answer"));
    let back = job::back(&mut conn, &stale, Back::Failed, Duration::ZERO, "transient", "no").await.expect("an answer");
    assert!(back.is_none());
    assert_eq!(number(&queue.pool, "select count(*) from bridge.attempt").await, 1, "that its lease ran out");
}

/// Six pages of two customers, two stages, two entities and two kinds of error, dead for 0 to 5 hours; and a tick.
async fn letters(queue: &Queue) -> Vec<i64> {
    open_stage(&queue.pool, 6).await;
    execute(&queue.pool, "update bridge.page set state = 'released', released_at = now()").await;
    execute(&queue.pool, KILL_RELEASED).await;
    execute(
        &queue.pool,
        "update bridge.page set customer = case when id % 2 = 0 then 'c-2' else 'c-1' end,
             stage_name = case when id <= 3 then 'people' else 'geo' end,
             entity = case when id in (1, 4) then 'person' else 'city' end",
    )
    .await;
    execute(
        &queue.pool,
        "update bridge.job set customer = page.customer, ended_at = now() - (page.id - 1) * interval '1 h',
             error_kind = case when page.id = 6 then 'timeout' else 'permanent' end
         from bridge.page where page.id = job.subject",
    )
    .await;
    execute(
        &queue.pool,
        "insert into bridge.job (kind, customer, subject, state, run_at, ended_at, last_error, error_kind)
         values ('tick', 'c-2', 99, 'dead', 'epoch', now(), 'no', 'crash')",
    )
    .await;
    waiting(queue, &Selection::default()).await
}

#[tokio::test]
async fn every_verb_means_the_same_dead_letters() {
    let queue = queue("selection").await;
    let ids = letters(&queue).await;
    assert_eq!(ids.len(), 7);
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3600 - 60));
    let all = Selection::default;
    let cases = [
        (all(), vec![0, 1, 2, 3, 4, 5, 6]),
        (Selection::ids(&[ids[4], ids[1], 4711]), vec![1, 4]),
        (Selection::customer(CustomerId::new("c-2")), vec![1, 3, 5, 6]),
        (Selection { stage: Some("geo".into()), ..all() }, vec![3, 4, 5]),
        (Selection { entity: Some(EntityId::new("person")), ..all() }, vec![0, 3]),
        (Selection { error_kind: Some("timeout".into()), ..all() }, vec![5]),
        (Selection { older_than: hours(4), ..all() }, vec![4, 5]),
        (Selection { younger_than: hours(2), ..all() }, vec![0, 1, 6]),
        (Selection { older_than: hours(1), younger_than: hours(3), ..all() }, vec![1, 2]),
        (Selection { stage: Some("geo".into()), customer: Some(CustomerId::new("c-1")), ..all() }, vec![4]),
        (Selection { customer: Some(CustomerId::new("c-3")), ..all() }, vec![]),
    ];
    for (which, at) in &cases {
        let wanted: Vec<i64> = at.iter().map(|&at| ids[at]).collect();
        assert_eq!(waiting(&queue, which).await, wanted, "{which:?}");
    }
    // What matches nothing does nothing: it is not "all".
    let (none, _) = &cases[10];
    assert_eq!(ops::requeue(&queue.pool, none, "ann", "no").await.expect("an answer"), 0);
    assert_eq!(ops::discard(&queue.pool, none, "ann", "no").await.expect("an answer"), 0);
    let (timeout, geo) = (&cases[5].0, &cases[3].0);
    assert_eq!(ops::requeue(&queue.pool, timeout, "ann", "larger").await.expect("an answer"), 1);
    assert_eq!(ops::discard(&queue.pool, geo, "bob", "gone").await.expect("an answer"), 2, "what is left of them");
    assert_eq!(ops::discard(&queue.pool, geo, "bob", "again").await.expect("an answer"), 0);
    assert_eq!(ops::requeue(&queue.pool, geo, "bob", "after all").await.expect("an answer"), 0, "given up is given up");
    assert_eq!(waiting(&queue, &all()).await, [ids[0], ids[1], ids[2], ids[6]]);
    let every = ops::dead_letters(&queue.pool, &all(), true, 10_000).await.expect("dead letters");
    let states: Vec<&str> = every.iter().map(|letter| letter.state.as_str()).collect();
    assert_eq!(states, ["waiting", "waiting", "waiting", "discarded", "discarded", "requeued", "waiting"]);
    // What concerns several customers stands with what was done of each, and of nobody else.
    let by = ops::By { who: "eve", reason: "of both" };
    let both = Selection::ids(&[ids[0], ids[1]]);
    assert_eq!(ops::deal(&queue.pool, ops::Deal::Discard, &both, by).await.expect("an answer").count, 2);
    for (customer, count) in [("c-1", 1), ("c-2", 1), ("c-3", 0)] {
        let done = ops::actions(&queue.pool, Some(&CustomerId::new(customer)), 10).await.expect("what was done");
        assert_eq!(done.len(), count, "{customer}: {done:?}");
        assert!(done.iter().all(|done| done.customer.is_none() && done.customers == ["c-1", "c-2"]), "{done:?}");
    }
    let logged: Vec<(String, String, String)> =
        sqlx::query_as("select action, who, reason from bridge.requeue where who <> 'eve' order by id")
            .fetch_all(&queue.pool)
            .await
            .expect("the log");
    let logged: Vec<(&str, &str, &str)> = logged.iter().map(|(a, w, r)| (a.as_str(), w.as_str(), r.as_str())).collect();
    assert_eq!(logged, [("requeue", "ann", "larger"), ("discard", "bob", "gone"), ("discard", "bob", "gone")]);
    // No page was made of what was given up.
    assert_eq!(number(&queue.pool, "select count(*) from bridge.page where generation > 1").await, 1);
}

#[tokio::test]
async fn a_sweep_counts_for_the_entities_it_compared_until_a_page_of_theirs_is_discarded() {
    let queue = queue("sweep due").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let stage = open_stage(&queue.pool, 1).await;
    page::release(&mut conn, stage.id, 1).await.expect("a page");
    execute(&queue.pool, KILL_RELEASED).await;
    let entity: String =
        sqlx::query_scalar("select entity from bridge.page").fetch_one(&queue.pool).await.expect("a page");
    let mut due = async |depth: Depth| {
        let entities = [entity.as_str(), "other"];
        let compared = due::compared(&mut conn, CUSTOMER).await.expect("an answer");
        let due = compared.due(&entities, depth, Duration::from_secs(3600));
        due.into_iter().map(|due| (due.entity, due.overdue.min(9.0).floor(), due.secs)).collect::<Vec<_>>()
    };
    // As overdue as can be, and nobody knows how long it takes.
    let never = |entity: &str| (entity.to_owned(), 9.0, 0.0);
    let both = [never(&entity), never("other")];
    assert_eq!(due(Depth::Rows).await, both);
    execute(
        &queue.pool,
        "insert into bridge.swept (customer, run, since_run, entity, side, depth, secs, rows, pairs, differing, missing)
         select distinct page.customer, page.run, page.run, page.entity, ends.side, 'keys', 1.5, 0, 0, 0, 0
         from bridge.page, unnest('{legacy,platform}'::text[]) as ends (side)",
    )
    .await;
    assert_eq!(due(Depth::Rows).await, both, "keys are not rows");
    assert_eq!(due(Depth::Keys).await, [never("other")]);
    execute(&queue.pool, "update bridge.swept set depth = 'rows' where side = 'legacy'").await;
    let half = [(entity.clone(), 9.0, 1.5), never("other")];
    assert_eq!(due(Depth::Rows).await, half, "one side is not both");
    execute(&queue.pool, "update bridge.swept set depth = 'rows'").await;
    assert_eq!(due(Depth::Rows).await, [never("other")]);
    assert_eq!(due(Depth::Keys).await, [never("other")], "rows are keys, too");
    assert_eq!(ops::discard(&queue.pool, &Selection::default(), "ann", "no").await.expect("an answer"), 1);
    let taken = (entity.clone(), 9.0, 3.0);
    assert_eq!(due(Depth::Rows).await, [taken.clone(), never("other")], "the discarded page's rows are the next one's");
    assert_eq!(due(Depth::Keys).await, [never("other")]);
    execute(&queue.pool, "update bridge.run set opened_at = now() + interval '1 s'").await;
    assert_eq!(due(Depth::Rows).await, [never("other")], "which has been");
    execute(&queue.pool, "update bridge.swept set at = now() - interval '2 h'").await;
    let long_ago = [(entity.clone(), 2.0, 3.0), never("other")];
    assert_eq!(due(Depth::Rows).await, long_ago, "it is long ago");
    // The slices of a walk are due as time passes, and no other way; whoever counted on the whole gets it.
    let walk = "insert into bridge.walk (customer, entity, side, since_run, began_at, block, done, secs, rows, pairs, differing)
                select customer, entity, side, run, now() - interval '15 min', 40, 0.3, 1, 0, 0, 0 from bridge.swept";
    execute(&queue.pool, walk).await;
    assert_eq!(due(Depth::Rows).await, [never("other")], "it is further than the time");
    execute(&queue.pool, "update bridge.walk set began_at = began_at - interval '15 min'").await;
    let late = [(entity.clone(), 1.0, 3.0), never("other")];
    assert_eq!(due(Depth::Rows).await, late, "half the time has passed, and a third is done");
    execute(&queue.pool, "update bridge.walk set done = 0.9").await;
    execute(&queue.pool, "update bridge.run set opened_at = now() - interval '1 d'").await;
    assert_eq!(
        due(Depth::Rows).await,
        [taken.clone(), never("other")],
        "a page was discarded since the last one began"
    );
}

/// Its first attempt leaves an intent, which the second must not take for that of a living page.
#[tokio::test]
async fn a_page_that_fails_after_its_intents_were_announced_is_a_dead_letter_and_not_parked() {
    let bridge = teams("own intents", |_| {}).await;
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise 'no' using errcode = 'XX000'; end $$;
        create trigger refuse before insert or update on sync_bridge.receipt for each row when (new.done) execute function refuse()";
    bridge.systems.on_legacy(refuse).await;
    bridge.systems.on_platform("insert into team (id, name) values (gen_random_uuid(), 'a')").await;
    let worker = bridge.work(GRACE);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.dead_letters, report.parked), ("degraded", 1, 0), "{report:#?}");
    worker.stop().await;
}

/// Team `a` went over; the page that brings `b` is a dead letter, and the platform refuses teams until its trigger is dropped.
async fn a_page_died(hint: &str) -> (Bridge, Worker) {
    let bridge = teams(hint, |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform(&failing("XX001")).await;
    bridge.systems.on_legacy("insert into team (label) values ('b')").await;
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.dead_letters), ("degraded", 1), "{report:#?}");
    (bridge, worker)
}

#[tokio::test]
async fn rows_of_a_discarded_page_are_compared_by_the_next_run() {
    let (bridge, worker) = a_page_died("discard").await;
    bridge.systems.on_platform("drop trigger refuse on team").await;
    assert_eq!(bridge.tick().await.ending, "idle", "the dead letter owns its rows");
    assert_eq!((bridge.status().await.state.as_str(), bridge.status().await.dead_letters), ("degraded", 1));

    let queue = &bridge.queue.pool;
    assert_eq!(ops::discard(queue, &Selection::default(), "ann", "by hand").await.expect("an answer"), 1);
    assert!(waiting(&bridge.queue, &Selection::default()).await.is_empty());
    assert_eq!((bridge.status().await.state.as_str(), bridge.status().await.dead_letters), ("idle", 0));
    assert_eq!(ops::standing(queue, &bridge.config).await.expect("numbers").dead_letters.len(), 0);
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.differences), ("done", Some(1)), "{report:#?}");
    let report = bridge.tick().await;
    assert_eq!((report.ending.as_str(), report.rows_to_platform), ("done", 1), "what was found goes over: {report:#?}");
    bridge.settle().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_sweep_leaves_the_rows_of_a_dead_letter_to_whoever_deals_with_it() {
    let (bridge, worker) = a_page_died("swept letter").await;
    let queue = &bridge.queue.pool;
    for _ in 0..2 {
        execute(queue, "update bridge.swept set at = at - interval '9 d'").await;
        let report = bridge.tick().await;
        assert_eq!((report.differences, report.dead_letters), (Some(1), 0), "{report:#?}");
        assert_eq!(bridge.tick().await.ending, "idle", "what it found is nobody's but the dead letter's");
    }
    assert_eq!((waiting(&bridge.queue, &Selection::default()).await.len(), bridge.status().await.parked), (1, 0));

    bridge.systems.on_platform("drop trigger refuse on team").await;
    assert_eq!(ops::requeue(queue, &Selection::default(), "ann", "mended").await.expect("an answer"), 1);
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    worker.stop().await;
}

#[tokio::test]
async fn rows_of_a_page_that_was_discarded_during_a_pause_are_compared_after_it() {
    let (bridge, worker) = a_page_died("discard paused").await;
    bridge.systems.on_platform("drop trigger refuse on team").await;
    let queue = &bridge.queue.pool;
    let team = ops::Scope { customer: CUSTOMER, entity: Some("team"), toward: None };
    ops::pause(queue, team, "ann", "they count").await.expect("a pause");
    assert_eq!(ops::discard(queue, &Selection::default(), "ann", "by hand").await.expect("an answer"), 1);
    // The others' tables are compared meanwhile, and that is no comparison of these.
    execute(queue, "update bridge.swept set at = at - interval '9 d' where entity = 'person'").await;
    assert_eq!(bridge.tick().await.differences, Some(0));
    assert_eq!(bridge.tick().await.ending, "idle");
    ops::resume(queue, team, false, false).await.expect("an end of the pause");
    bridge.ended(bridge.number("select max(id) from bridge.tick").await).await;
    bridge.settle().await;
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    worker.stop().await;
}

/// Waits for a tick that dies.
async fn dies(bridge: &Bridge) {
    let customer = CustomerId::new(CUSTOMER);
    let tick = ops::tick_now(&bridge.queue.pool, &customer).await.expect("a tick");
    let ended = tokio::time::timeout(WAIT_MAX, ops::wait_for_tick(&bridge.queue.pool, tick)).await.expect("an end");
    ended.expect_err("its outcome is refused");
}

#[tokio::test]
async fn what_dies_again_and_again_makes_one_dead_letter_and_none_once_it_comes_through() {
    let bridge = teams("standing", |_| {}).await;
    let all = Selection::default();
    bridge.systems.on_legacy("insert into person (email) values ('p@example.org')").await;
    let worker = bridge.work(GRACE);
    let letters = async || ops::dead_letters(&bridge.queue.pool, &all, false, 10_000).await.expect("dead letters");

    // Before the first load it is the stage whose pages cannot be written down.
    execute(&bridge.queue.pool, REFUSAL).await;
    execute(&bridge.queue.pool, REFUSE_PAGES).await;
    for repeats in 0..3 {
        assert_eq!(bridge.tick().await.ending, "degraded");
        let letters = letters().await;
        assert_eq!((letters.len(), letters[0].repeats), (1, repeats), "{letters:#?}");
        assert_eq!((letters[0].kind.as_str(), letters[0].stage.as_deref()), ("stage", Some("people")));
    }
    let standing = letters().await[0].id;
    let shown = ops::dead_letter(&bridge.queue.pool, standing).await.expect("an answer").expect("a dead letter");
    assert_eq!(shown.history.iter().filter(|attempt| attempt.ending == "dead").count(), 3, "{shown:#?}");
    assert!(shown.letter.repeated_at.is_some() && shown.range.is_none());
    execute(&bridge.queue.pool, "drop trigger refuse on bridge.page").await;
    assert_eq!(bridge.tick().await.ending, "done");
    assert!(letters().await.is_empty(), "a later run did the same");
    bridge.settle().await;
    assert_eq!(bridge.status().await.state, "idle");

    // Later it is the tick.
    execute(
        &bridge.queue.pool,
        "create trigger refuse before update on bridge.tick for each row when (new.state <> 'dead')
         execute function bridge.refuse()",
    )
    .await;
    for repeats in 0..3 {
        dies(&bridge).await;
        let letters = letters().await;
        assert_eq!((letters.len(), letters[0].repeats), (1, repeats), "{letters:#?}");
        assert_eq!(letters[0].kind, "tick");
    }
    assert_eq!(bridge.status().await.state, "degraded");
    // One that was brought back stands for no other.
    assert_eq!(ops::requeue(&bridge.queue.pool, &all, "ann", "too early").await.expect("an answer"), 1);
    eventually("the tick has died again", async || letters().await.len() == 1).await;
    assert_eq!(letters().await[0].repeats, 0);
    execute(&bridge.queue.pool, "drop trigger refuse on bridge.tick").await;
    assert_eq!(bridge.tick().await.ending, "idle");
    assert!(letters().await.is_empty());
    assert_eq!(bridge.status().await.state, "idle");
    worker.stop().await;
}

#[tokio::test]
async fn a_password_that_was_changed_costs_delay_and_no_dead_letter() {
    let bridge = teams("password", |config| {
        for url in config.customers.iter_mut().flat_map(|customer| customer.databases.values_mut()) {
            let (user, rest) = url.expose().split_once("://").expect("a URL").1.split_once(':').expect("a user");
            let (_, place) = rest.split_once('@').expect("a password");
            *url = DatabaseUrl::new(format!("postgres://{user}:was-changed@{place}"), "a side");
        }
    })
    .await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    let customer = CustomerId::new(CUSTOMER);
    ops::tick_now(&bridge.queue.pool, &customer).await.expect("a tick");
    eventually("it is not asked again and again", async || {
        bridge.number("select coalesce(max(probes), 0)::bigint from bridge.circuit").await >= 2
    })
    .await;
    let told = "select count(*) from bridge.circuit where error like '%password authentication failed%'";
    assert_eq!(bridge.number(told).await, 2, "and each says why");
    assert_eq!(bridge.number("select count(*) from bridge.job where state = 'dead'").await, 0);
    assert_eq!(bridge.number("select count(*) from bridge.job where state = 'ready' and attempt = 0").await, 1);
    assert_eq!(bridge.number("select count(*) from bridge.attempt where ending = 'outage'").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn what_died_in_a_stage_that_is_called_otherwise_by_now_comes_back_and_is_overtaken() {
    let mut bridge = teams("renamed stage", |_| {}).await;
    bridge.systems.on_legacy("insert into team (label) values ('a')").await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform(&failing("XX001")).await;
    bridge.systems.on_legacy("insert into team (label) values ('b')").await;
    assert_eq!(bridge.tick().await.dead_letters, 1);
    worker.stop().await;
    bridge.systems.on_platform("drop trigger refuse on team").await;
    let queue = bridge.queue.pool.clone();
    // A stage of that run that could not be cut, and a comparison's page.
    let more = "with stage as (
                    update bridge.stage set state = 'dead' where name = 'teams' and run = (select max(id) from bridge.run)
                    returning id)
                update bridge.job set state = 'dead', last_error = 'no', error_kind = 'permanent'
                from stage where job.kind = 'stage' and job.subject = stage.id";
    execute(&queue, more).await;
    let compares = "insert into bridge.page (customer, stage_name, entity, side, mode, range, rows_cut)
                    select customer, 'reconciliation', entity, side, 'compare', range, rows_cut
                    from bridge.page where state = 'dead'";
    execute(&queue, compares).await;
    let mut config = Config::clone(&bridge.config);
    config.stages[1].name = "crews".into();
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    let page =
        Selection { error_kind: Some("permanent".into()), entity: Some(EntityId::new("team")), ..Selection::default() };
    assert_eq!(ops::requeue(&queue, &page, "ann", "mended").await.expect("an answer"), 1);
    let letters = ops::dead_letters(&queue, &Selection::default(), false, 10_000).await.expect("dead letters");
    assert_eq!(letters.len(), 1, "the stage's: {letters:?}");
    bridge.settle().await;
    same(&bridge).await;
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, ["a", "b"]);
    assert_eq!(number(&queue, "select count(*) from bridge.page where stage is null").await, 0);
    assert!(
        waiting(&bridge.queue, &Selection::default()).await.is_empty(),
        "what the stage died of was done by another"
    );
    assert_eq!(number(&queue, "select count(*) from bridge.job where kind = 'stage' and dealt = 'overtaken'").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_page_that_comes_back_is_no_larger_than_pages_are_by_now() {
    let mut bridge = teams("smaller pages", |_| {}).await;
    let worker = bridge.work(GRACE);
    bridge.settle().await;
    bridge.systems.on_platform(&failing("XX001")).await;
    bridge.systems.on_legacy("insert into team (label) select 'team ' || n from generate_series(10, 29) as n").await;
    assert_eq!(bridge.tick().await.dead_letters, 1);
    worker.stop().await;
    bridge.systems.on_platform("drop trigger refuse on team").await;
    let died = bridge.number("select id from bridge.page where state = 'dead' and rows_cut = 20").await;

    // As the documents advise where a page takes too long.
    let mut config = Config::clone(&bridge.config);
    page_rows(&mut config, 3);
    bridge.config = Arc::new(config);
    let worker = bridge.work(GRACE);
    let queue = &bridge.queue.pool;
    assert_eq!(ops::requeue(queue, &Selection::default(), "ann", "smaller pages").await.expect("an answer"), 1);
    bridge.settle().await;
    let legacy = bridge.systems.legacy_rows("select label from team order by label").await;
    assert_eq!(bridge.systems.platform_rows("select name from team order by name").await, legacy);
    let since = "select count(*), max(rows_read), sum(rows_to_platform)::bigint from bridge.page where state = 'done' and id > $1";
    let (pages, largest, written): (i64, i64, i64) =
        sqlx::query_as(since).bind(died).fetch_one(queue).await.expect("its pages");
    assert!(pages >= 4 && largest <= 6, "{pages} pages of up to {largest} rows");
    assert_eq!((written, legacy.len()), (20, 20));
    assert_eq!(bridge.status().await.dead_letters, 0);
    worker.stop().await;
}

#[tokio::test]
async fn rows_that_a_comparison_named_are_handed_on_where_they_are_too_many_for_a_page() {
    let bridge = teams("named rows", |config| page_rows(config, 2)).await;
    bridge.systems.on_legacy("insert into team (label) select 'team ' || n from generate_series(1, 7) as n").await;
    let data = Data::new(bridge.config.clone());
    let named: Vec<Key> = (1..=7).map(|id| Key(id.to_string())).collect();
    let page = |range: Range| run_page(&data, "team", Side::Legacy, range);
    let compared = Range { lane: Lane::Compared, ..keys(named.clone()) };
    let first = page(compared).await.expect("a page");
    let rest = first.rest.expect("a rest");
    assert_eq!((first.rows_to_platform, &rest.keys[..]), (4, &named[4..]));
    let second = page(rest).await.expect("its rest");
    assert_eq!((second.rows_to_platform, second.rest), (3, None));
    // Those that waited may need each other, however many they are.
    let waited = page(keys(named)).await.expect("a page");
    assert_eq!((waited.rows_read, waited.rest), (7, None));
}

#[tokio::test]
async fn a_stage_that_died_does_not_stand_for_another_and_holds_its_run() {
    let queue = queue("standing stages").await;
    let mut conn = queue.pool.acquire().await.expect("a connection");
    let mut stages = Vec::new();
    for name in ["people", "geo"] {
        let made = open_stage(&queue.pool, 0).await;
        execute(&queue.pool, "update bridge.stage set state = 'dead', ended_at = now() where state <> 'dead'").await;
        execute(&queue.pool, "update bridge.run set state = 'degraded', ended_at = now() where state = 'open'").await;
        sqlx::query("update bridge.stage set name = $2 where id = $1")
            .bind(made.id)
            .bind(name)
            .execute(&mut *conn)
            .await
            .expect("a name");
        let jobs = [(CUSTOMER.to_owned(), made.id)];
        let job = job::insert(&mut conn, sync_bridge::queue::Kind::Stage, &jobs).await.expect("a job")[0].job;
        let claim = claimed(&queue.pool, job).await;
        assert!(job::dead(&mut conn, &claim, "permanent", "no").await.expect("an answer"));
        let died = stage::Stage { name: name.into(), ..made };
        dead_letter::count_again(&mut conn, &claim, Some(&died)).await.expect("an answer");
        stages.push(died);
    }
    assert_eq!(waiting(&queue, &Selection::default()).await.len(), 2);
    // What a load's stage of that name did is another matter.
    let loads = stage::Stage { loads: true, ..stages[1].clone() };
    dead_letter::overtake(&mut conn, CUSTOMER, Some(&loads)).await.expect("an answer");
    assert_eq!(waiting(&queue, &Selection::default()).await.len(), 2);
    dead_letter::overtake(&mut conn, CUSTOMER, Some(&stages[1])).await.expect("an answer");
    assert_eq!(waiting(&queue, &Selection { stage: Some("people".into()), ..Selection::default() }).await.len(), 1);
    assert_eq!(waiting(&queue, &Selection::default()).await.len(), 1);
    // A reconciliation that compares nothing does not do what one that was to compare died of; any does what this one did.
    execute(&queue.pool, "update bridge.stage set name = 'reconciliation'").await;
    let reconciles = |sweep| stage::Stage { name: RECONCILIATION.into(), sweep, ..stages[0].clone() };
    execute(&queue.pool, "update bridge.run set sweep = true").await;
    dead_letter::overtake(&mut conn, CUSTOMER, Some(&reconciles(false))).await.expect("an answer");
    assert_eq!(waiting(&queue, &Selection::default()).await.len(), 1);
    execute(&queue.pool, "update bridge.run set sweep = false").await;
    dead_letter::overtake(&mut conn, CUSTOMER, Some(&reconciles(false))).await.expect("an answer");
    assert!(waiting(&queue, &Selection::default()).await.is_empty());
    execute(
        &queue.pool,
        "update bridge.job set requeued_at = null, dealt = null where id = (select min(id) from bridge.job)",
    )
    .await;
    execute(&queue.pool, "update bridge.run set ended_at = now() - interval '90 d'").await;
    round(&queue.pool).await;
    assert_eq!(number(&queue.pool, "select count(*) from bridge.run").await, 1, "a dead letter holds its run");
    assert!(stage::get(&mut conn, 1).await.expect("an answer").is_some());
}

fn json_of(desk: &Desk, args: &[&str]) -> Value {
    let text = desk.succeeds(args);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

const RUN: [&str; 5] = ["run", "--customer", "acme", "--inline", "--json"];

/// A run that leaves a dead letter says so by its exit code too.
fn is_degraded(desk: &Desk) {
    let output = desk.run(&RUN);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &report["ending"]), (Some(1), &json!("degraded")), "{report}");
}

/// A page that dies of a trigger, on the way from legacy.
const REFUSE: &str = "create or replace function refuse() returns trigger language plpgsql as \
      $$ begin raise exception 'not now' using errcode = 'XX001'; end $$;
    create trigger refuse before insert or update on identity.users for each row execute function refuse()";

async fn at_the_desk(hint: &str) -> (Databases, Desk) {
    let databases = Databases::new(hint).await;
    let desk = databases.desk(hint);
    let file = desk.folder.path().join("bridge.toml");
    // A rare schedule: nothing happens but what is asked for. A wide window: thousands of pages are not to take minutes.
    let text = config(true).replacen("slug = ", "schedule = \"0 0 1 1 *\"\nslug = ", 1);
    let text = text.replacen("[[customers]]", "[defaults]\nwindow_pages = 64\n[[customers]]", 1);
    std::fs::write(file, text).expect("writing a configuration");
    desk.succeeds(&["migrate"]);
    desk.succeeds(&["prepare"]);
    for _ in 0..6 {
        if json_of(&desk, &RUN)["ending"] == "idle" {
            return (databases, desk);
        }
    }
    panic!("never idle");
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_all_that_was_done_about_it() {
    let (databases, desk) = at_the_desk("shown").await;
    on(&databases.platform, REFUSE).await;
    on(&databases.legacy, "update users set name = 'Ada L.', changed = now() where mail like 'ada%'").await;
    is_degraded(&desk);
    let first = json_of(&desk, &["dead-letters", "list", "--json"])[0]["id"].to_string();
    let back = json_of(&desk, &["dead-letters", "requeue", &first, "--reason", "perhaps now", "--json"]);
    assert_eq!(back, json!({ "requeued": 1 }));
    let noted = "select count(*) from bridge.action where customer = 'c-1' and reason = 'perhaps now' and outcome = 're-enqueued 1'";
    assert_eq!(number_on(&databases.queue, noted).await, 1);
    is_degraded(&desk);

    let listed = json_of(&desk, &["dead-letters", "list", "--entity", "user", "--kind", "permanent", "--json"]);
    let second = listed[0]["id"].to_string();
    assert_ne!(first, second);
    let shown = json_of(&desk, &["dead-letters", "show", &second, "--json"]);
    assert_eq!((&shown["generation"], &shown["state"], &shown["mode"]), (&json!(2), &json!("waiting"), &json!("sync")));
    assert!(shown["range"]["told"].as_str().is_some_and(|told| told.contains("up to")), "{shown}");
    assert_eq!(shown["history"][0]["ending"], "dead", "{shown}");
    assert_eq!(shown["earlier"][0]["id"].to_string(), first);
    assert_eq!(shown["earlier"][0]["dealt"][0]["reason"], "perhaps now");
    assert!(shown["requeue_will"].as_str().is_some_and(|will| will.contains("next run, in stage identities")));
    let told = desk.succeeds(&["dead-letters", "show", &second]);
    for part in [
        "PL/pgSQL function refuse() line 1 at RAISE [XX001]",
        "perhaps now",
        "page identities user legacy",
        "discarding will",
        "requeue",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let unknown = desk.run(&["dead-letters", "show", "4711"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));

    let younger = ["dead-letters", "discard", "--customer", "acme", "--stage", "identities", "--younger-than", "1h"];
    let gone = json_of(&desk, &[&younger[..], &["--reason", "by hand", "--json"]].concat());
    assert_eq!(gone, json!({ "discarded": 1 }));
    assert_eq!(desk.succeeds(&["dead-letters", "list"]), "no dead letters\n");
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["dead_letters"], 0);
    let all = json_of(&desk, &["dead-letters", "list", "--all-states", "--json"]);
    assert_eq!((&all[0]["state"], &all[1]["state"]), (&json!("requeued"), &json!("discarded")), "{all}");
    let shown = json_of(&desk, &["dead-letters", "show", &second, "--json"]);
    assert_eq!((&shown["dealt"][0]["action"], &shown["dealt"][0]["reason"]), (&json!("discard"), &json!("by hand")));
    let again = desk.run(&["dead-letters", "discard", &second, "--reason", "again"]);
    assert_eq!(again.status.code(), Some(2), "it is said that it waits no more");
    let again = desk.run(&["dead-letters", "requeue", &first, &second, "4711"]);
    let said = String::from_utf8_lossy(&again.stderr);
    let each = ["3 of 3 ids are no dead letters that wait: ", &format!(" {first} (requeued by "), " 4711 (not known)"];
    assert!(again.status.code() == Some(2) && each.iter().all(|part| said.contains(part)), "{said}");
    assert!(said.contains(&format!("{second} (discarded by ")), "{said}");
    // The run that a discard makes due compares whole tables.
    let ada = number_on(&databases.legacy, "select id::bigint from users where mail like 'ada%'").await.to_string();
    let explain = ["explain", "--customer", "acme", "--entity", "user", "--side", "legacy", "--key", &ada];
    let told = desk.succeeds(&explain);
    assert!(told.contains("or the comparison that is due meets it. One that did would do this:"), "{told}");
    let report = json_of(&desk, &RUN);
    assert_eq!((&report["ending"], &report["differences"]), (&json!("done"), &json!(1)), "{report}");
}

#[tokio::test]
async fn thousands_of_dead_letters_come_back_by_one_command_and_are_all_done_after() {
    // To measure more: `SYNC_BRIDGE_TEST_LETTERS=10000 cargo nextest run --no-capture thousands_of_dead_letters`.
    let count: i64 =
        std::env::var("SYNC_BRIDGE_TEST_LETTERS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    let (databases, desk) = at_the_desk("ten thousand").await;
    // Nobody reads what the workers tell of each page.
    let desk = desk.with("SYNC_BRIDGE_LOG", "warn");
    // One that died as they die; and copies of it, over ranges that hold no row.
    on(&databases.platform, REFUSE).await;
    on(&databases.legacy, "update users set name = 'Ada L.', changed = now() where mail like 'ada%'").await;
    is_degraded(&desk);
    on(&databases.platform, "drop trigger refuse on identity.users").await;
    let copies = format!(
        "with copies as (
             insert into bridge.page (customer, stage_name, stage, run, entity, side, mode, range, rows_cut, state, released_at, ended_at)
             select customer, stage_name, stage, run, entity, side, mode,
                 jsonb_build_object('lane', 'keys', 'rows', 0, 'after', null, 'upto', null),
                 rows_cut, state, released_at, ended_at
             from bridge.page, generate_series(2, {count}) as n where page.state = 'dead'
             returning id, customer
         )
         insert into bridge.job (kind, customer, subject, state, run_at, ended_at, attempt, last_error, error_kind)
         select 'page', customer, id, 'dead', 'epoch', now(), 5, 'it was on purpose', 'transient' from copies"
    );
    on(&databases.queue, &copies).await;

    let requeue = ["dead-letters", "requeue", "--all", "--reason", "test", "--json"];
    let began = Instant::now();
    assert_eq!(json_of(&desk, &requeue), json!({ "requeued": count }));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    assert_eq!(json_of(&desk, &requeue), json!({ "requeued": 0 }), "once");
    assert_eq!(json_of(&desk, &["dead-letters", "list", "--json"]), json!([]));

    let mut workers: Vec<_> = (0..2).map(|_| desk.start(env!("CARGO_BIN_EXE_sync-bridge-worker"), &[])).collect();
    let began = Instant::now();
    let report = json_of(&desk, &["run", "--customer", "acme", "--json"]);
    println!("requeued in {took:?}, worked off in {:?}", began.elapsed());
    assert_eq!((&report["ending"], &report["dead_letters"]), (&json!("done"), &json!(0)), "{report}");
    for worker in &mut workers {
        worker.must_run();
    }
    for worker in workers {
        let output = worker.stop(nix::sys::signal::Signal::SIGTERM);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let done = "select count(*) from bridge.page where generation = 2 and state = 'done'";
    assert_eq!(number_on(&databases.queue, done).await, count);
    assert_eq!(number_on(&databases.queue, "select count(*) from bridge.page where generation > 2").await, 0);
    let named = "select count(*) from identity.users where name = 'Ada L.'";
    assert_eq!(number_on(&databases.platform, named).await, 1, "the true one brought its row");
    assert_eq!(json_of(&desk, &["status", "--json"])[0]["state"], "idle");
}
