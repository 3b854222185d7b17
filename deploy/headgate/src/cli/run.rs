//! Commands that are the whole program or need none that runs: serve and its halves, demo, simulate, check, verify,
//! completion.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::DEFAULT_FILE;

/// Arguments of `serve`, `gateway` and `relay`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(crate) config: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Distinct changes to send
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) changes: Option<u64>,
    /// Changes per second
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Longest time to send [default: 10, or until the given number of changes is sent]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: Option<u32>,
    /// Seed of everything random
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keep everything running afterwards, until it is interrupted
    #[arg(long)]
    pub(crate) stay: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("models").required(true).multiple(true))]
pub(crate) struct SimulateArgs {
    /// Where the HubSpot model listens
    #[arg(long, value_name = "ADDR", group = "models")]
    pub(crate) hubspot: Option<SocketAddr>,
    /// Where the Salesforce model listens
    #[arg(long, value_name = "ADDR", group = "models")]
    pub(crate) salesforce: Option<SocketAddr>,
    /// A configuration whose endpoints get the webhooks of the models
    #[arg(long, value_name = "FILE")]
    pub(crate) hooks: Option<PathBuf>,
    /// Take only the tokens named in the --hooks file
    #[arg(long, requires = "hooks")]
    pub(crate) strict_auth: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(crate) file: PathBuf,
    /// Also try to reach every CRM
    #[arg(long)]
    pub(crate) online: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct VerifyArgs {
    /// Files of signature vectors
    #[arg(long, value_name = "FILE", num_args = 1.., group = "what")]
    pub(crate) vectors: Vec<PathBuf>,
    /// A captured request
    #[arg(long, value_name = "FILE", group = "what", requires = "secret_env")]
    pub(crate) request: Option<PathBuf>,
    /// The environment variable that holds the secret of the request
    #[arg(long, value_name = "NAME", conflicts_with = "vectors")]
    pub(crate) secret_env: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// A shell with completion.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// elvish
    Elvish,
    /// fish
    Fish,
    /// `PowerShell`
    Powershell,
    /// zsh
    Zsh,
}
