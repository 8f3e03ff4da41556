//! Random histories for as long as one likes: `cargo run --release --example histories -- --seconds 600 --seed 1`.
//! Prints how many happened and, of each that fails, its seed, the smallest form found and what does not hold.
//! `--only SEED` lets one happen again.

#[path = "../tests/it/histories/mod.rs"]
mod histories;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use clap::Parser;
use histories::world::{Tally, World};
use histories::{happens, left, plan, shown, shrunk};

#[derive(Parser)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first history's seed; the next ones count up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// This history alone
    #[arg(long)]
    only: Option<u64>,
    /// Give up after so many failures
    #[arg(long, default_value_t = 5)]
    failures: usize,
    /// Show failures as they are, without making them smaller
    #[arg(long)]
    whole: bool,
    /// Show what both databases hold after the smallest failing history
    #[arg(long)]
    left: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let world = World::new().await;
    let start = Instant::now();
    let (mut done, mut failures) = (0, 0);
    let mut tally = Tally::default();
    let mut seed = args.only.unwrap_or(args.seed);
    while start.elapsed() < Duration::from_secs(args.seconds) && failures < args.failures {
        let history = plan::make(seed);
        done += 1;
        match happens(&world, &history).await {
            Ok(happened) => tally.add(&happened),
            Err(failed) => {
                failures += 1;
                println!("FAILED seed {seed}: {failed}");
                let (least, why) = match args.whole {
                    true => (history, failed),
                    false => shrunk(&world, &history, failed).await,
                };
                if args.left {
                    let _ = happens(&world, &least).await;
                    println!("what it leaves:\n{}", left(&world).await);
                }
                println!("smallest found: {}  => {why}\n", shown(&least));
            }
        }
        seed += 1;
        if args.only.is_some() {
            break;
        }
    }
    println!(
        "{done} histories, seeds {} to {}, in {} s: {failures} failed\n{tally:?}",
        args.only.unwrap_or(args.seed),
        seed - 1,
        start.elapsed().as_secs()
    );
    std::process::ExitCode::from(u8::from(failures > 0))
}
