//! `sync-bridge completions`

use clap_complete::Shell;

use crate::out;

/// Print what a shell needs to complete this command's words
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sync-bridge completions bash > ~/.local/share/bash-completion/completions/sync-bridge
  sync-bridge completions zsh > ~/.zfunc/_sync-bridge        a folder of fpath, before compinit
  sync-bridge completions fish > ~/.config/fish/completions/sync-bridge.fish

Exit codes: 0 here it is, 2 no such shell")]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, &name, &mut script);
    let script = String::from_utf8_lossy(&script);
    // For bash it spells a hyphen of the program's name in two ways, so that nothing is completed after a verb (clap's issue 6421).
    let script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    out::say(script.trim_end())
}
