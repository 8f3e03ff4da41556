//! Random damage for as many rounds as one likes: `cargo run --example damage -- --rounds 200 --seed 1`.
//! Prints each kind of damage with how often it was done, what it was called and what became of it; fails at the first round in which one
//! was called otherwise, was not repaired or listed, or in which anything else was touched.

#[path = "../tests/it/damage/mod.rs"]
mod damage;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use damage::{Damage, Tally, World};

#[derive(Parser)]
struct Args {
    /// How many rounds
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// The first round's seed; the next ones count up
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let start = Instant::now();
    let mut world = World::new("damage").await;
    let mut tally = Tally::new();
    for seed in args.seed..args.seed + args.rounds {
        match world.round(seed).await {
            Ok(round) => round.into_iter().for_each(|(damage, count)| *tally.entry(damage).or_default() += count),
            Err(failed) => {
                println!(
                    "FAILED seed {seed} (rounds before it leave their rows: begin at --seed {}): {failed}",
                    args.seed
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{:<20}{:>7}  {:<12}ends", "damage", "times", "called");
    for damage in Damage::ALL {
        let times = tally.get(&damage).copied().unwrap_or_default();
        println!("{:<20}{times:>7}  {:<12}{}", format!("{damage:?}"), damage.name().unwrap_or("-"), damage.end());
    }
    let all: u64 = tally.values().sum();
    println!(
        "{} rounds, {all} damages, 0 called otherwise, 0 left, {:.0} s",
        args.rounds,
        start.elapsed().as_secs_f64()
    );
    world.end().await;
    ExitCode::SUCCESS
}
