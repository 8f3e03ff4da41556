//! `sync-bridge init`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use sync_bridge::ops::{self, Drafted};
use sync_bridge::startup::refused;

use crate::out;

/// Guess a first configuration file from the catalogues of both databases; reads no rows, and writes nothing to either
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  export LEGACY_URL='postgres://…' PLATFORM_URL='postgres://…'
  sync-bridge init --legacy-env LEGACY_URL --platform-env PLATFORM_URL             writes bridge.toml
  sync-bridge init --legacy-env LEGACY_URL --platform-env PLATFORM_URL --output -  shows it

Only the catalogues are read: names, types, keys, indexes, references, checks; no row of any table. The file names the two
variables and never holds an address. Each guess says its reason; what is unsure is a comment marked UNSURE. After `prepare`,
`check` finds no error in it but what rights lack: what it would refuse is made a comment.

Exit codes: 0 written, 1 written, but no entity in it is sure, 2 refused: nothing was written")]
pub struct Args {
    /// The environment variable that holds the address of the legacy database
    #[arg(long, value_name = "VAR")]
    legacy_env: String,
    /// The environment variable that holds the address of the platform's database
    #[arg(long, value_name = "VAR")]
    platform_env: String,
    /// Where to write it, `-` for stdout; left out: the configuration file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

pub async fn run(config: &Path, args: Args) -> anyhow::Result<()> {
    let output = args.output.as_deref().unwrap_or(config);
    let to_stdout = output == Path::new("-");
    let is_there = || refused(anyhow!("{} is there already: name another --output, or --force", output.display()));
    if !to_stdout && !args.force && output.exists() {
        return Err(is_there());
    }
    let shown = if to_stdout { Path::new("bridge.toml") } else { output };
    let Drafted { text, counts } = ops::draft(&args.legacy_env, &args.platform_env, shown).await.map_err(refused)?;
    if to_stdout {
        out::say(text.trim_end())?;
    } else {
        let opened = match args.force {
            true => OpenOptions::new().write(true).create(true).truncate(true).open(output),
            false => OpenOptions::new().write(true).create_new(true).open(output),
        };
        let mut file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(is_there()),
            opened => opened.with_context(|| format!("writing {}", output.display())).map_err(refused)?,
        };
        file.write_all(text.as_bytes()).with_context(|| format!("writing {}", output.display()))?;
    }
    let [legacy, platform] = counts.left;
    eprintln!(
        "{}: {} entities with {} fields; {} more guesses are unsure and stand there as comments; {legacy} tables of legacy and \
         {platform} of the platform are not mapped",
        if to_stdout { "guessed".into() } else { output.display().to_string() },
        counts.entities,
        counts.fields,
        counts.doubts,
    );
    if counts.entities == 0 {
        return Err(anyhow!(
            "no entity is sure: take the comment from one that is right, or write it by hand (docs/MAPPING.md)"
        ));
    }
    eprintln!(
        "next: read it through, then `sync-bridge prepare`, `sync-bridge check`, `sync-bridge plan --customer acme`"
    );
    Ok(())
}
