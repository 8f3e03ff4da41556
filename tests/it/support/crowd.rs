//! A ledger as large as that of a fleet after weeks: many customers, and whatever their runs left. Made by the database itself.

use sqlx::{AssertSqlSafe, PgPool};

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub customers: u32,
    /// Of each customer; one tick of ten opened a run.
    pub runs: u32,
    /// Of each run.
    pub pages: u32,
}

impl Crowd {
    /// Blocks of a configuration for all of them, each with these databases.
    pub fn customers(self, databases: &str) -> String {
        (1..=self.customers)
            .map(|number| {
                format!("[[customers]]\nid = \"c-{number}\"\nslug = \"customer-{number}\"\ndatabases = {databases}\n")
            })
            .collect()
    }

    /// Fills a queue database that has its tables, and has it look at them.
    pub async fn fill(self, queue: &PgPool) {
        let Crowd { customers, runs, pages } = self;
        let ticks = runs * 10;
        let sql = format!(
            "insert into bridge.tick (customer, at, origin, state, created_at, ended_at)
             select 'c-' || c, at, 'schedule', case when t % 10 = 1 then 'opened' else 'idle' end, at, at + interval '1 s'
             from generate_series({ticks}, 1, -1) t, generate_series(1, {customers}) c,
                 lateral (select date_trunc('second', now()) - t * interval '1 min' as at) instant
             order by t desc, c;

             insert into bridge.run (customer, tick, state, first_load, sweep, scan, opened_at, ended_at)
             select customer, id, case when id % 50 = 0 then 'degraded' else 'done' end, false, id % 40 = 1, id % 3 = 0, at, at + interval '9 s'
             from bridge.tick where state = 'opened' order by id;

             insert into bridge.stage (run, customer, position, name, state, opened_at, ended_at)
             select id, customer, position, name, 'closed', opened_at, ended_at
             from bridge.run, (values (0, 'identities'), (1, 'reconciliation')) stages (position, name) order by id, position;

             insert into bridge.page (customer, stage_name, stage, run, entity, side, mode, range, rows_cut, state, rows_read, rows_to_platform,
                 rows_to_legacy, rows_unchanged, released_at, ended_at)
             select stage.customer, stage.name, stage.id, stage.run, 'user', case when p % 2 = 0 then 'legacy' else 'platform' end, 'sync',
                 '{{\"lane\": \"stamp\"}}', 100, case when p = 1 and stage.run % 97 = 0 then 'dead' else 'done' end, 100, 40, 0, 60,
                 stage.opened_at, stage.ended_at
             from bridge.stage, generate_series(1, {pages}) p where stage.position = 0 order by stage.id, p;

             insert into bridge.job (kind, customer, subject, state, attempt, run_at, claimed_by, claimed_at, ended_at, last_error, error_kind)
             select kind, customer, subject, state, 1, date_trunc('second', ended_at), null, null, ended_at,
                 case when state = 'dead' then 'the disk of ' || customer || ' is full' end, case when state = 'dead' then 'permanent' end
             from (select 'tick' as kind, customer, id as subject, 'done' as state, ended_at from bridge.tick
                 union all select 'stage', customer, id, 'done', ended_at from bridge.stage
                 union all select 'page', customer, id, state, ended_at from bridge.page) work
             order by ended_at, kind, subject;

             insert into bridge.attempt (job, number, worker, claimed_at, ended_at, ending, error_kind, error, next_run_at)
             select id, 1, 'a worker', ended_at, ended_at, case when state = 'dead' then 'dead' else 'failed' end, 'transient', 'cut off',
                 case when state <> 'dead' then ended_at end
             from bridge.job where id % 10 = 0 or state = 'dead' order by id;

             insert into bridge.watermark (customer, entity, side, watermark, signature, settled_at)
             select 'c-' || c, 'user', side, now(), '{{}}', now() - interval '1 min'
             from generate_series(1, {customers}) c, unnest(array['legacy', 'platform']) side;

             insert into bridge.swept (customer, run, since_run, entity, side, depth, secs, rows, pairs, differing, missing)
             select 'c-' || c, 1, 1, 'user', side, depth, 1, 1000, 1000, 0, 0
             from generate_series(1, {customers}) c, unnest(array['legacy', 'platform']) side, unnest(array['rows', 'keys']) depth;

             insert into bridge.parked (customer, entity, side, key, reason, woken, run, stage, round)
             select 'c-' || c, 'user', 'legacy', 'k' || k, 'busy', false, 1, 1, 0 from generate_series(1, {customers}) c, generate_series(1, 3) k;

             insert into bridge.quarantine (customer, entity, side, key, reason, page)
             select 'c-' || c, 'user', 'legacy', 'k' || k, 'too long', 1 from generate_series(1, {customers}) c, generate_series(1, 3) k;

             insert into bridge.difference (customer, run, entity, legacy_key, kind, fields)
             select 'c-' || c, (select max(id) from bridge.run where customer = 'c-' || c), 'user', 'k' || k, 'missed', '{{name}}'
             from generate_series(1, {customers}) c, generate_series(1, 3) k;

             insert into bridge.action (who, action, customer, subject, reason, outcome)
             select 'operator', 'requeue', 'c-' || c, 'dead letters', 'test', 'done' from generate_series(1, {customers}) c, generate_series(1, 5);

             analyze bridge.tick, bridge.run, bridge.stage, bridge.page, bridge.job, bridge.attempt, bridge.watermark, bridge.swept,
                 bridge.parked, bridge.quarantine, bridge.difference, bridge.action"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(queue).await.expect("filling the ledger");
    }
}
