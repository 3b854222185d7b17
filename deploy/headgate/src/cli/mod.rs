//! The command line: every command, option and help text. Examples stand first in the long help, because that is what
//! people look for. Holds no behaviour. Secrets are never options: they would show in the list of processes.
//!
//! | file | holds the options of |
//! |---|---|
//! | `run` | what is the whole program, or needs none that runs |
//! | `stream` | what reads the stream of a running server |
//! | `record` | records of a running server, and what waits for a person |
//! | `endpoint` | endpoints that gateways share |
//! | `bench` | measurements |

mod bench;
#[cfg(feature = "kafka")]
mod endpoint;
mod record;
mod run;
mod stream;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[cfg(feature = "kafka")]
pub(crate) use bench::BenchKafka;
pub(crate) use bench::{ALL_ATTACKS, BenchArgs, BenchCommand, BenchGateway, BenchTarget};
#[cfg(feature = "kafka")]
pub(crate) use endpoint::{EndpointArgs, EndpointCommand};
pub(crate) use record::{
    ConflictArgs, ConflictCommand, DeadletterArgs, DeadletterCommand, ListConflicts, ListRecords, RecordArgs,
    RecordCommand, ResolveConflict, ShowRecord,
};
pub(crate) use run::{CheckArgs, CompletionArgs, DemoArgs, ServeArgs, Shell, SimulateArgs, VerifyArgs};
pub(crate) use stream::{AddSubscription, FilterArgs, ReplayArgs, SubscriptionArgs, SubscriptionCommand, TailArgs};

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
