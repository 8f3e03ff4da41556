//! What traces are told of jobs. Never: a decision; what is in a row.

use sqlx::PgConnection;
use tracing::Span;

use super::stage::{RunEnded, StageEnded};
use crate::clock;
use crate::ledger::job::Claim;
use crate::ledger::tick::{self, Lineage};
use crate::telemetry::traces::{self, Attribute, Node, Trace};

/// Where a job stands in its tick's trace.
pub struct Traced {
    lineage: Lineage,
    trace: Trace,
}

/// Asks the ledger, if anybody receives traces. That it does not answer is no matter of the job.
pub async fn load(conn: &mut PgConnection, claim: &Claim) -> Option<Traced> {
    if !traces::are_sent() {
        return None;
    }
    let lineage = tick::lineage(conn, claim.kind, claim.subject).await;
    let lineage = lineage.inspect_err(|error| tracing::debug!(job = claim.job, "its trace is not known: {error}"));
    let lineage = lineage.ok().flatten()?;
    Some(Traced { trace: Trace::of(lineage.tick, lineage.made_at), lineage })
}

impl Traced {
    /// Hangs an attempt's span where it belongs: a tick's below its tick, any other below its stage.
    pub fn hang(&self, span: &Span, claim: &Claim) {
        let Lineage { run, stage, stage_name, .. } = &self.lineage;
        let node = run.zip(*stage).map_or(Node::Tick, |(run, stage)| Node::Stage { run, stage });
        let mut attributes = self.attributes(claim);
        attributes.extend(run.map(|run| ("run", run.into())));
        attributes.extend(stage.map(|stage| ("stage_id", stage.into())));
        attributes.extend(stage_name.clone().map(|name| ("stage", name.into())));
        traces::hang(span, self.trace, node, attributes);
    }

    pub fn tick_ended(&self, claim: &Claim, outcome: &'static str) {
        let attributes = [self.attributes(claim), vec![("ending", outcome.into())]].concat();
        traces::ended(self.trace, Node::Tick, self.lineage.made_at, clock::now(), attributes);
    }

    pub fn stage_ended(&self, claim: &Claim, ended: &StageEnded) {
        let StageEnded { stage, ending, lived } = ended;
        let node = Node::Stage { run: stage.run, stage: stage.id };
        let own = vec![
            ("run", stage.run.into()),
            ("stage_id", stage.id.into()),
            ("stage", stage.name.clone().into()),
            ("ending", (*ending).into()),
        ];
        traces::ended(self.trace, node, lived.created_at, lived.ended_at, [self.attributes(claim), own].concat());
    }

    pub fn run_ended(&self, claim: &Claim, ended: &RunEnded) {
        let RunEnded { run, closed } = ended;
        let own = vec![("run", (*run).into()), ("ending", closed.ending.clone().into())];
        let (node, attributes) = (Node::Run { run: *run }, [self.attributes(claim), own].concat());
        traces::ended(self.trace, node, closed.opened_at, closed.ended_at, attributes);
    }

    fn attributes(&self, claim: &Claim) -> Vec<Attribute> {
        vec![("customer", claim.customer.clone().into()), ("tick", self.lineage.tick.into())]
    }
}
