//! `sync-bridge check`

use std::collections::HashMap;
use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;
use sync_bridge::config::{Config, CustomerId, Finding, Severity, Unserved, Why};
use sync_bridge::startup::{self, Sides, refused};

use crate::out;
use sync_bridge::told::counted;

/// Hold the mapping against the live databases; writes nothing
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge check                   all customers
  sync-bridge check --customer acme   one
  sync-bridge check --strict          where a warning is to stop a rollout, too
  sync-bridge check --sample 1000     try the lenses on up to a thousand rows of each table

An error means that rows could not be kept equal; a warning, that some rows will be quarantined, or that it costs more than it
should. Each has a code that stays the same over versions.

With --json one line on stdout, also if the file itself is wrong:
  {\"file\": \"bridge.toml\", \"errors\": 1, \"warnings\": 0,
   \"customers\": [{\"customer\": \"c-1\", \"slug\": \"acme\", \"entities\": 3, \"errors\": 1, \"warnings\": 0}],
   \"findings\": [{\"severity\": \"error\", \"code\": \"no-such-column\", \"customer\": \"c-1\", \"entity\": \"user\", \"field\": \"email\",
     \"side\": \"legacy\", \"place\": {\"line\": 14, \"column\": 26, \"from\": 412, \"upto\": 420},
     \"object\": \"localhost:5432/old: public.users.emial\", \"message\": \"…\", \"help\": \"…\"}]}
line and column count from 1, from and upto are bytes of the file; all but severity, code and message may be null.

Exit codes: 0 nothing is wrong (warnings are on stderr), 1 only warnings and --strict was given, 2 errors")]
pub struct Args {
    /// Only this customer, by id or slug
    #[arg(long, value_name = "CUSTOMER")]
    customer: Option<String>,
    /// Try the lenses on so many rows of each table: the newest, and others from all over it; a value that breaks a law is shown
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: Option<u32>,
    /// End with 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// One line of JSON, also if something is wrong
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: documented above, and the same over versions but for what is added.
#[derive(Serialize)]
struct Report<'r> {
    file: String,
    errors: usize,
    warnings: usize,
    customers: Vec<OfCustomer<'r>>,
    findings: &'r [Finding],
}

#[derive(Serialize)]
struct OfCustomer<'r> {
    customer: &'r CustomerId,
    slug: &'r str,
    entities: usize,
    errors: usize,
    warnings: usize,
}

pub async fn run(path: &Path, args: Args) -> anyhow::Result<()> {
    let config = match startup::loaded(path) {
        Ok(config) => config,
        Err(error) => {
            if args.json {
                let file = path.display().to_string();
                let (errors, findings) = (error.findings.len(), &error.findings[..]);
                out::say_json(&Report { file, errors, warnings: 0, customers: Vec::new(), findings })?;
            }
            return Err(refused(error));
        }
    };
    let config = startup::with_customers(config).await?;
    let asked: Vec<CustomerId> = match &args.customer {
        Some(named) => vec![out::customer(&config, named)?.id.clone()],
        None => config.customers.iter().map(|customer| customer.id.clone()).collect(),
    };
    let sides = Sides::open(config).await?;
    let customers = sides.config.customers.iter().filter(|customer| asked.contains(&customer.id));
    let found = startup::findings(&sides.data, customers, args.sample).await;
    let config = sides.config.clone();
    sides.close().await?;
    let mut found = found?;
    if args.customer.is_none() {
        found.extend(config.unserved.iter().filter_map(unreadable));
    }
    tell(&config, &asked, &found, &args)
}

/// What the queue database keeps of a customer, and cannot be read.
fn unreadable(one: &Unserved) -> Option<Finding> {
    let Why::Unreadable(problem) = &one.why else { return None };
    let said = format!("what the queue database keeps of customer `{}` cannot be read: {problem}", one.id);
    Some(Finding { customer: Some(one.id.clone()), ..Finding::error("customer", said) })
}

fn tell(config: &Config, asked: &[CustomerId], found: &[Finding], args: &Args) -> anyhow::Result<()> {
    let count = |severity: Severity, customer: Option<&CustomerId>| {
        let is = |finding: &&Finding| {
            finding.severity == severity && customer.is_none_or(|customer| finding.customer.as_ref() == Some(customer))
        };
        found.iter().filter(is).count()
    };
    let entities = config.entities().count();
    let customers: Vec<OfCustomer<'_>> = config
        .customers
        .iter()
        .filter(|customer| asked.contains(&customer.id))
        .map(|customer| OfCustomer {
            customer: &customer.id,
            slug: &customer.slug,
            entities,
            errors: count(Severity::Error, Some(&customer.id)),
            warnings: count(Severity::Warning, Some(&customer.id)),
        })
        .collect();
    let (errors, warnings) = (count(Severity::Error, None), count(Severity::Warning, None));
    if args.json {
        let file = config.path.display().to_string();
        out::say_json(&Report { file, errors, warnings, customers, findings: found })?;
    } else {
        show(config, found);
        for one in customers.iter().filter(|one| one.errors == 0) {
            let warned =
                if one.warnings == 0 { String::new() } else { format!(", {}", counted(one.warnings, "warning")) };
            out::say(&format!("customer {}: fine (entities: {entities}{warned})", one.slug))?;
        }
    }
    let all = [(errors, "error"), (warnings, "warning")];
    let all: Vec<String> =
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what)).collect();
    let all = format!("{}: {}", config.path.display(), all.join(" and "));
    match (errors, warnings) {
        (0, 0) => Ok(()),
        (0, _) if !args.strict => Ok(()),
        (0, _) => Err(anyhow!("{all}, and `--strict` takes warnings for errors")),
        _ => Err(refused(anyhow!("{all}"))),
    }
}

/// Everything on stderr, in the order of the file; what many customers have in common is said once.
fn show(config: &Config, found: &[Finding]) {
    /// More say nothing new: the rest is counted.
    const OBJECTS_SHOWN_MAX: usize = 3;
    let mut alike: Vec<Vec<&Finding>> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for finding in found {
        let Finding { severity, code, place, entity, field, message, help, .. } = finding;
        // Each customer has a place of its own for its databases.
        let place = place.filter(|_| entity.is_some());
        let at = *known.entry((severity, code, place, entity, field, message, help)).or_insert(alike.len());
        match alike.get_mut(at) {
            Some(findings) => findings.push(finding),
            None => alike.push(vec![finding]),
        }
    }
    alike.sort_by_key(|findings| findings[0].place);
    for findings in &alike {
        let mut objects: Vec<String> =
            findings.iter().take(OBJECTS_SHOWN_MAX).filter_map(|finding| object(config, finding)).collect();
        if findings.len() > OBJECTS_SHOWN_MAX {
            objects.push(format!("and {} more customers", findings.len() - OBJECTS_SHOWN_MAX));
        }
        if let Some(finding) = findings.first() {
            let (severity, code) = (finding.severity.as_str(), finding.code);
            eprintln!("{severity}[{code}]: {}\n", config.source.show(finding, &objects));
        }
    }
}

/// `customer acme, legacy: localhost:5432/old: public.users.emial`.
fn object(config: &Config, finding: &Finding) -> Option<String> {
    let slug = finding.customer.as_ref().and_then(|id| config.customer(id)).map(|customer| customer.slug.as_str())?;
    let side = finding.side.map(|side| format!(", {side}")).unwrap_or_default();
    let object = finding.object.as_deref().map(|object| format!(": {object}")).unwrap_or_default();
    Some(format!("customer {slug}{side}{object}"))
}
