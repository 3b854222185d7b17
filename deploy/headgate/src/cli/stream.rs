//! Commands about the stream of a running server: to read along, to replay, and subscriptions. They say with the same
//! options which changes are meant.

use clap::{Args, Subcommand};

use super::Server;

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
