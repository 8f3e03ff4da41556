#[path = "../tests/it/model/mod.rs"]
mod model;
use model::pair::*;
use model::search::*;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut m = PairModel::default();
    if args.first().is_some_and(|a| a == "ident") {
        use model::identity::*;
        let mut m = IdentityModel::default();
        let mut states = 20_000_000;
        for a in &args[1..] {
            let (k, v) = a.split_once('=').unwrap_or((a, "1"));
            match k { "e" => m.edits = v.parse().unwrap(), "del" => m.deletes = true, "nochg" => m.changes = false, "noalone" => m.alone = false, "s" => states = v.parse().unwrap(),
              "omit" => m.omit = Some(match v { "C3" => Guard::UniqueLegacyKey, "C4" => Guard::Void, "C5" => Guard::LookAgain, _ => panic!() }), _ => panic!() }
        }
        let o = search(&m, Bounds { states, seconds: 600, threads: 2 });
        println!("{} states, depth {}, {:?}, complete {}", o.states, o.depth, o.took, o.complete);
        if let Some(c) = o.found {
            println!("{}", c.what);
            for (i, (w, s)) in c.steps.iter().enumerate() { println!("{i:3} {w:<80} {s}"); }
        }
        return;
    }
    let mut states = 20_000_000;
    for a in &args {
        let (k, v) = a.split_once('=').unwrap_or((a, "1"));
        match k {
            "f" => m.fields = v.parse().unwrap(),
            "e" => m.edits = v.parse().unwrap(),
            "v" => m.values = v.parse().unwrap(),
            "w" => m.workers = v.parse().unwrap(),
            "s" => states = v.parse().unwrap(),
            "del" => m.deletes = true,
            "re" => m.reinserts = true,
            "sight" => m.sightings = v.parse().unwrap(),
            "maxw" => m.writes_max = v.parse().unwrap(),
            "noalone" => m.alone = false,
            "nostrict" => m.strict = false,
            "any" => m.rule = Rule::Any,
            "manual" => m.rule = Rule::Fixed([sync_bridge::config::Policy::Manual; 2]),
            "first" => m.start = Start::FirstContact,
            "newl" => m.start = Start::NewOnLegacy,
            "newp" => m.start = Start::NewOnPlatform,
            "omit" => m.omit = Some(match v {
                "B1" => Guard::ImageOnPlatform, "B2" => Guard::ImageOnLegacy, "B3" => Guard::Revision, "B4" => Guard::Receipt,
                "B5" => Guard::Void, "B6" => Guard::ReadAgain, "B7" => Guard::Order, "B8" => Guard::OneStatement,
                "B9" => Guard::BasePerField, "B10" => Guard::Record, "B11" => Guard::Due, "B12" => Guard::BothSides,
                "B13" => Guard::Stamps, "B14" => Guard::List, "B16" => Guard::SweepOrder, "B15" => Guard::Tombstone, "R" => Guard::ImageOnRecord, _ => panic!() }),
            _ => panic!("{k}"),
        }
    }
    let o = search(&m, Bounds { states, seconds: 600, threads: 2 });
    println!("{} states, depth {}, {:?}, complete {}", o.states, o.depth, o.took, o.complete);
    if let Some(c) = o.found {
        println!("{}", c.what);
        for (i, (w, s)) in c.steps.iter().enumerate() { println!("{i:3} {w:<80} {s}"); }
    }
}
