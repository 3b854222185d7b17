//! Commands that measure.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// Measurements.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Attack a gateway and measure the valid traffic beside it
    #[command(
        before_long_help = "Examples:\n  headgate bench gateway\n  headgate bench gateway --attack slow --seconds 30\n  headgate bench gateway --report bench/reports/gateway.md",
        after_long_help = "Each attack has a gateway of its own: a process of this program on loopback and temporary data. Valid\ntraffic is measured in quiet and beside the attack. Exits 1 when a promise is broken."
    )]
    Gateway(BenchGateway),
    /// Send changes through a Kafka broker of its own, and take the relay away for a while
    #[command(
        before_long_help = "Examples:\n  headgate bench kafka\n  headgate bench kafka --rate 1000 --away 10\n  headgate bench kafka --report bench/reports/kafka.md",
        after_long_help = "Broker, gateway, relay, load and the models of the CRMs share this machine. Needs Java, and Maven\nwhen the jars are fetched for the first time. Exits 1 when a promise is broken."
    )]
    #[cfg(feature = "kafka")]
    Kafka(BenchKafka),
    /// Run what is measured: a gateway with its stream and nothing else
    #[command(hide = true)]
    Target(BenchTarget),
}

/// Every attack, one after the other.
pub(crate) const ALL_ATTACKS: &str = "all";

/// Arguments of `bench gateway`.
#[derive(Debug, Args)]
pub(crate) struct BenchGateway {
    /// What to do to it; may be repeated [default: all]
    #[arg(long, value_name = "ATTACK", value_parser = attacks())]
    pub(crate) attack: Vec<String>,
    /// How long each phase takes
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// Valid requests per second
    #[arg(long, value_name = "R", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) rate: u32,
    /// Also write the report that is checked in
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `bench kafka`.
#[cfg(feature = "kafka")]
#[derive(Debug, Args)]
pub(crate) struct BenchKafka {
    /// What starts the broker
    #[arg(long, value_name = "SCRIPT", default_value = "deploy/kafka/broker")]
    pub(crate) broker: PathBuf,
    /// Changes per second
    #[arg(long, value_name = "R", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) rate: u32,
    /// How long answers are measured
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// How long the relay is away
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) away: u32,
    /// Also write the report that is checked in
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The names of the attacks.
fn attacks() -> clap::builder::PossibleValuesParser {
    let names = headgate_bench::attack::Attack::ALL.map(headgate_bench::attack::Attack::as_str);
    names.into_iter().chain([ALL_ATTACKS]).collect::<Vec<_>>().into()
}

/// Arguments of `bench target`.
#[derive(Debug, Args)]
pub(crate) struct BenchTarget {
    /// Its configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}
