//! `headgate completion`: a completion script on stdout, made from the command line's own definition.

use std::io::{Write as _, stdout};

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionArgs, Shell};
use crate::exit::{Exit, Failure};

/// Prints the script.
pub(super) fn run(args: &CompletionArgs) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Elvish => clap_complete::Shell::Elvish,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "headgate", &mut script);
    stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
