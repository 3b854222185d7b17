//! Commands about records of a running server: how they are, what a CRM rejected, what a person has to decide.

use clap::{Args, Subcommand};

use super::Server;

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
