//! The command line: every command, option and help text. Examples stand first in the long help, because that is what
//! people look for. Holds no behaviour. Secrets are never options: they would show in the list of processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where a configuration is looked for.
pub(crate) const DEFAULT_FILE: &str = "headgate.toml";

/// CRM webhook gateway and change relay.
#[derive(Debug, Parser)]
#[command(
    name = "headgate",
    version,
    max_term_width = 100,
    propagate_version = false,
    arg_required_else_help = true,
    before_long_help = "Examples:\n  headgate demo\n  headgate check headgate.toml\n  headgate serve --config headgate.toml",
    after_long_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration, 4 cannot reach, 5 partial."
)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) talk: Talk,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Talk {
    /// Log more; repeat for still more
    #[arg(short, long, global = true, display_order = 900, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true, display_order = 900)]
    pub(crate) quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run gateway and relay in one process
    #[command(
        before_long_help = "Examples:\n  headgate serve --config headgate.toml\n  HEADGATE__GATEWAY__LISTEN=127.0.0.1:0 headgate serve",
        after_long_help = "Prints one line to stdout when it is ready:\n  ready gateway=http://127.0.0.1:8080 admin=http://127.0.0.1:8081\nSIGTERM and SIGINT drain; a second one stops at once. Exits 1 if open work had to be cut."
    )]
    Serve(ServeArgs),
    /// Run the gateway alone: webhooks in, Kafka out
    #[command(
        before_long_help = "Examples:\n  headgate gateway --config headgate.toml\n  HEADGATE__ADMIN__LISTEN=127.0.0.1:8082 headgate gateway",
        after_long_help = "Needs [stream] engine = \"kafka\": the embedded stream belongs to one process. Any number may run behind a\nload balancer. Prints one line to stdout when it is ready:\n  ready gateway=http://127.0.0.1:8080 admin=http://127.0.0.1:8082\nSIGTERM and SIGINT drain; a second one stops at once."
    )]
    Gateway(ServeArgs),
    /// Run the relay alone: Kafka in, CRMs out
    #[command(
        before_long_help = "Examples:\n  headgate relay --config headgate.toml",
        after_long_help = "Needs [stream] engine = \"kafka\": the embedded stream belongs to one process. Prints one line to stdout when\nit is ready:\n  ready admin=http://127.0.0.1:8081\nSIGTERM and SIGINT drain; a second one stops at once."
    )]
    Relay(ServeArgs),
    /// Show it work: simulated CRMs, signed webhooks, counts and latency
    #[command(
        before_long_help = "Examples:\n  headgate demo\n  headgate demo --changes 20000 --rate 1000\n  headgate demo --json > result.json",
        after_long_help = "Uses temporary data and free ports. Progress goes to stderr. Exits 1 unless lost, duplicated and\nreordered are all 0."
    )]
    Demo(DemoArgs),
    /// Run models of the CRMs alone
    #[command(
        before_long_help = "Examples:\n  headgate simulate --hubspot 127.0.0.1:9101 --salesforce 127.0.0.1:9102\n  headgate simulate --hubspot 127.0.0.1:9101 --hooks headgate.toml",
        after_long_help = "Prints one line to stdout when they are ready:\n  ready hubspot=http://127.0.0.1:9101 salesforce=http://127.0.0.1:9102"
    )]
    Simulate(SimulateArgs),
    /// Check a configuration
    #[command(
        before_long_help = "Examples:\n  headgate check headgate.toml\n  headgate check headgate.toml --online\n  headgate check headgate.toml --json",
        after_long_help = "Each line is ok, warn or fail, and what to do. Exits 0, 3 when something fails, 4 when --online cannot\nreach something."
    )]
    Check(CheckArgs),
    /// Check signature vectors, or explain one captured request
    #[command(
        before_long_help = "Examples:\n  headgate verify --vectors hubspot.json standard-webhooks.json\n  headgate verify --request captured.json --secret-env HUBSPOT_APP_SECRET",
        after_long_help = "A captured request is a JSON object with scheme, method, url, headers and body_base64 (or body), and\noptionally now_ms. The secret is read from the environment and never shown."
    )]
    Verify(VerifyArgs),
    /// Print the changes of a running server as they come
    #[command(
        before_long_help = "Examples:\n  headgate tail\n  headgate tail --from start --json\n  headgate tail --from 2026-01-31T08:00:00Z --system hubspot --object contact,company\n  headgate tail --kind deleted,merged --admin http://127.0.0.1:8081"
    )]
    Tail(TailArgs),
    /// Look at records of a running server
    #[command(
        before_long_help = "Examples:\n  headgate record list\n  headgate record show salesforce contact 003000000000001AAA\n  headgate record show hubspot contact 501 --json"
    )]
    Record(RecordArgs),
    /// Look at, retry or skip what a CRM rejected
    #[command(
        before_long_help = "Examples:\n  headgate deadletter list\n  headgate deadletter show 17\n  headgate deadletter retry 17\n  headgate deadletter skip 17"
    )]
    Deadletter(DeadletterArgs),
    /// Look at and resolve what only a person may decide
    #[command(
        before_long_help = "Examples:\n  headgate conflict list\n  headgate conflict show 4\n  headgate conflict resolve 4 --member salesforce-main\n  headgate conflict resolve 4 --value \"+47 22 12 34 56\""
    )]
    Conflict(ConflictArgs),
    /// Measure, and judge by what is promised
    #[command(
        before_long_help = "Examples:\n  headgate bench gateway\n  headgate bench gateway --attack idle --attack overload --json"
    )]
    Bench(BenchArgs),
    /// Put changes of the past into the stream again, to be looked at once more
    #[command(
        before_long_help = "Examples:\n  headgate replay --from 2026-01-31T08:00:00Z --object contact --dry-run\n  headgate replay --from 2026-01-31T08:00:00Z --system hubspot --rate 100\n  headgate replay --stop 3",
        after_long_help = "Tells volume and time first, then runs on the server and is followed here; Ctrl-C stops it. What is older\nthan what is known loses as always, so nothing is undone. Exits 1 unless it came to its end."
    )]
    Replay(ReplayArgs),
    /// Add an endpoint to all gateways of a cluster, or take one away
    #[cfg(feature = "kafka")]
    #[command(
        before_long_help = "Examples:\n  headgate endpoint list\n  headgate endpoint add new-app.toml\n  headgate endpoint remove new-app",
        after_long_help = "Talks to any gateway. FILE holds one [[endpoint]] as the configuration does; the variables it names\nare read here, and travel sealed. What stands in the file of a gateway wins. Exits 5 while not every\ngateway has it."
    )]
    Endpoint(EndpointArgs),
    /// Look at endpoints that get changes, send them again, go on after a failure
    #[command(
        before_long_help = "Examples:\n  headgate subscription list\n  headgate subscription show crm-copy\n  headgate subscription replay crm-copy --from 2026-01-31T08:00:00Z\n  headgate subscription enable crm-copy\n  headgate subscription add crm-copy --tenant acme --url https://hooks.example.com/crm"
    )]
    Subscription(SubscriptionArgs),
    /// Print a completion script
    #[command(
        before_long_help = "Examples:\n  headgate completion bash > /etc/bash_completion.d/headgate\n  headgate completion zsh > ~/.zfunc/_headgate"
    )]
    Completion(CompletionArgs),
}

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

/// Which running server to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// The configuration the server runs with; only `[admin].listen` is read
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The URL of its admin API
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) admin: Option<String>,
    /// Print JSON as the server sends it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Where to begin: start, now, a position that an earlier line named, or a time
    #[arg(long, value_name = "POSITION", default_value = "now")]
    pub(crate) from: String,
    /// Which changes.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Which changes are meant; names are separated by commas, and without any all are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only of these tenants
    #[arg(long, value_name = "NAMES")]
    pub(crate) tenant: Option<String>,
    /// Only of these systems: salesforce, hubspot, ...
    #[arg(long, value_name = "NAMES")]
    pub(crate) system: Option<String>,
    /// Only of these accounts
    #[arg(long, value_name = "IDS")]
    pub(crate) account: Option<String>,
    /// Only of records of these types: contact, company, ...
    #[arg(long, value_name = "NAMES")]
    pub(crate) object: Option<String>,
    /// Only of these kinds: created, updated, deleted, ...
    #[arg(long, value_name = "NAMES")]
    pub(crate) kind: Option<String>,
    /// Only of the records with these ids
    #[arg(long, value_name = "IDS")]
    pub(crate) record: Option<String>,
    /// The same in one word each, like object=contact,company
    #[arg(long, value_name = "KEY=NAMES", value_parser = part)]
    pub(crate) filter: Vec<(String, String)>,
}

/// One part of a filter.
fn part(text: &str) -> Result<(String, String), String> {
    const KEYS: [&str; 6] = ["tenant", "system", "account", "object", "kind", "record"];
    match text.split_once('=') {
        Some((key, names)) if KEYS.contains(&key) => Ok((key.to_owned(), names.to_owned())),
        _ => Err(format!("write KEY=NAMES with one of {}", KEYS.join(", "))),
    }
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: RecordCommand,
}

/// Commands of `record`.
#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Show one record: what each CRM shows, what is open and why, what happened
    #[command(
        before_long_help = "Examples:\n  headgate record show salesforce contact 003000000000001AAA\n  headgate record show hubspot contact 501 --since 2h --field city\n  headgate record show hubspot contact 501 --json"
    )]
    Show(ShowRecord),
    /// List webhooks that were refused, with the reason and what was expected
    #[command(before_long_help = "Examples:\n  headgate record rejected\n  headgate record rejected --json")]
    Rejected {
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// List records, the first ones first
    #[command(
        before_long_help = "Examples:\n  headgate record list\n  headgate record list --state held\n  headgate record list --limit 10 --after 120 --json"
    )]
    List(ListRecords),
}

/// Arguments of `record show`.
#[derive(Debug, Args)]
pub(crate) struct ShowRecord {
    /// The system: salesforce, hubspot, ...
    #[arg(value_name = "SYSTEM")]
    pub(crate) system: headgate_schemas::System,
    /// The object: contact, company, ...
    #[arg(value_name = "OBJECT")]
    pub(crate) object: String,
    /// The id of the record in that system
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Only what happened since then: a time, or how long ago, like 2h
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only what is about this field
    #[arg(long, value_name = "NAME")]
    pub(crate) field: Option<String>,
    /// Only what is about this connection
    #[arg(long, value_name = "CONNECTION")]
    pub(crate) target: Option<String>,
    /// The newest N lines of the history [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) limit: Option<u32>,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `record list`.
#[derive(Debug, Args)]
pub(crate) struct ListRecords {
    /// Only those that stand so: in_sync, working, held, differs, leaving, gone
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// Only after this entity: the next page
    #[arg(long, value_name = "ENTITY", default_value_t = 0)]
    pub(crate) after: u64,
    /// The most records to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `deadletter`.
#[derive(Debug, Args)]
pub(crate) struct DeadletterArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: DeadletterCommand,
}

/// Commands of `deadletter`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadletterCommand {
    /// List dead letters
    #[command(before_long_help = "Examples:\n  headgate deadletter list\n  headgate deadletter list --json")]
    List {
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Show one: what was rejected, why, and what to do
    #[command(before_long_help = "Examples:\n  headgate deadletter show 17")]
    Show(OneDeadletter),
    /// Send it again
    #[command(before_long_help = "Examples:\n  headgate deadletter retry 17")]
    Retry(OneDeadletter),
    /// Give it up; the difference between the systems stays
    #[command(before_long_help = "Examples:\n  headgate deadletter skip 17")]
    Skip(OneDeadletter),
}

/// One dead letter.
#[derive(Debug, Args)]
pub(crate) struct OneDeadletter {
    /// Its id, as the list shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `conflict`.
#[derive(Debug, Args)]
pub(crate) struct ConflictArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ConflictCommand,
}

/// Commands of `conflict`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictCommand {
    /// List conflicts that wait for a person
    #[command(
        before_long_help = "Examples:\n  headgate conflict list\n  headgate conflict list --link contacts --field phone\n  headgate conflict list --all --json"
    )]
    List(ListConflicts),
    /// Show one: the candidates, what each choice does, and what was decided before
    #[command(before_long_help = "Examples:\n  headgate conflict show 4")]
    Show {
        /// Its id, as the list shows it
        #[arg(value_name = "ID")]
        id: u64,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Choose one of the answers that `conflict show` names
    #[command(
        before_long_help = "Examples:\n  headgate conflict resolve 4 --member salesforce-main\n  headgate conflict resolve 4 --keep\n  headgate conflict resolve 4 --value \"Oslo\" --edition 2\n  headgate conflict resolve 5 --separate\n  headgate conflict resolve 6 --record 003Ws000004NXPuIAO"
    )]
    Resolve(ResolveConflict),
}

/// Arguments of `conflict list`.
#[derive(Debug, Args)]
pub(crate) struct ListConflicts {
    /// Also those that have ended
    #[arg(long)]
    pub(crate) all: bool,
    /// Only of this link
    #[arg(long, value_name = "NAME")]
    pub(crate) link: Option<String>,
    /// Only about this field
    #[arg(long, value_name = "NAME")]
    pub(crate) field: Option<String>,
    /// Only of this kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only after this id: the next page
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: u64,
    /// The most conflicts to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `conflict resolve`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("choice").required(true))]
pub(crate) struct ResolveConflict {
    /// Its id, as the list shows it
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
    /// Take the value of this connection
    #[arg(long, value_name = "CONNECTION", group = "choice")]
    pub(crate) member: Option<String>,
    /// Keep the value in force, the linked record, or the records in the other CRMs
    #[arg(long, group = "choice")]
    pub(crate) keep: bool,
    /// Take this value; an empty one clears the field
    #[arg(long, value_name = "VALUE", group = "choice", allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// The two are one: link them
    #[arg(long, group = "choice")]
    pub(crate) link: bool,
    /// They are not the same
    #[arg(long, group = "choice")]
    pub(crate) separate: bool,
    /// Link this record, by its id in the CRM
    #[arg(long, value_name = "RECORD", group = "choice")]
    pub(crate) record: Option<String>,
    /// Let the records in the other CRMs go, too
    #[arg(long, group = "choice")]
    pub(crate) delete: bool,
    /// The edition that was shown; refused if the candidates have changed since
    #[arg(long, value_name = "N")]
    pub(crate) edition: Option<u32>,
    /// Who chooses, for the log [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `endpoint`.
#[cfg(feature = "kafka")]
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: EndpointCommand,
}

/// What can be done with shared endpoints.
#[cfg(feature = "kafka")]
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// List those that were added
    List {
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Add one, or put another in its place
    Add {
        /// One [[endpoint]]
        file: PathBuf,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Take one away
    Remove {
        /// Its name
        name: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}

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

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ReplayArgs {
    /// Where to begin: a time, a position of the stream, or start
    #[arg(long, value_name = "TIME|POSITION", group = "what")]
    pub(crate) from: Option<String>,
    /// Stop the replay of this number instead
    #[arg(long, value_name = "ID", group = "what", conflicts_with_all = ["dry_run", "rate"])]
    pub(crate) stop: Option<u64>,
    /// Only tell what it would do: volume, what it can cost, time
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Changes a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Which changes.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Arguments of `subscription`.
#[derive(Debug, Args)]
pub(crate) struct SubscriptionArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: SubscriptionCommand,
}

/// Commands of `subscription`.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// List subscriptions: how each is, what waits
    #[command(before_long_help = "Examples:\n  headgate subscription list\n  headgate subscription list --json")]
    List {
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Show one: how it is, why, and where it stands
    #[command(before_long_help = "Examples:\n  headgate subscription show crm-copy")]
    Show(OneSubscription),
    /// Read on elsewhere in the stream: what is there is sent again, what waits is forgotten
    #[command(
        before_long_help = "Examples:\n  headgate subscription replay crm-copy --from start\n  headgate subscription replay crm-copy --from 2026-01-31T08:00:00Z"
    )]
    Replay {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Where: start, now, a position of the stream, or a time
        #[arg(long, value_name = "POSITION")]
        from: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Go on where it stands, with everything that waits due at once
    #[command(before_long_help = "Examples:\n  headgate subscription enable crm-copy")]
    Enable(OneSubscription),
    /// Register an endpoint with the server; prints the secret that signs its calls, this once
    #[command(
        before_long_help = "Examples:\n  headgate subscription add crm-copy --tenant acme --url https://hooks.example.com/crm --object contact\n  headgate subscription add crm-copy --tenant acme --url https://hooks.example.com/crm --from start"
    )]
    Add(AddSubscription),
    /// Put a new secret in the place of the one that signs the calls of a registered one; prints it, this once
    #[command(
        before_long_help = "Examples:\n  headgate subscription secret crm-copy\n  headgate subscription secret crm-copy --at-once",
        after_long_help = "The secret before it signs beside it for [subscriptions] secret_overlap (24h), so that the receiver may change in its own time; a receiver that knows either believes every call."
    )]
    Secret {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Earlier secrets sign no more, as after a leak
        #[arg(long)]
        at_once: bool,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Take away one that was registered; those of the configuration are taken out there
    #[command(before_long_help = "Examples:\n  headgate subscription remove crm-copy")]
    Remove(OneSubscription),
}

/// Arguments of `subscription add`.
#[derive(Debug, Args)]
pub(crate) struct AddSubscription {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where changes are posted
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// Where to begin: start, now, a position of the stream, or a time
    #[arg(long, value_name = "POSITION", default_value = "now")]
    pub(crate) from: String,
    /// Which changes; the tenant must be named.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// One subscription.
#[derive(Debug, Args)]
pub(crate) struct OneSubscription {
    /// Its name, as the file gives it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The server.
    #[command(flatten)]
    pub(crate) server: Server,
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
