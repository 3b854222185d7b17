//! Settings of the relay, already checked: the program parses its file into these and reports every fault there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use headgate_schemas::{ObjectType, System};
use secrecy::SecretString;

pub use crate::entity::record::DeletePolicy;
pub use crate::oauth::OauthConfig;
pub use crate::store::StorePlace;

/// Everything the relay is told.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where the state is kept.
    pub store: StoreConfig,
    /// The CRM accounts.
    pub connections: Vec<ConnectionConfig>,
    /// What is kept equal.
    pub links: Vec<LinkConfig>,
    /// Limits.
    pub limits: Limits,
}

/// Changes that a relay takes in one transaction where others work at the same time: each of them is looked up, all of it
/// may have to be done again, and the lease must not end meanwhile.
const SHARED_BATCH: usize = 250;

impl RelayConfig {
    /// Changes that are taken in one transaction.
    pub(crate) fn batch(&self) -> usize {
        if self.store.place.is_shared() { self.limits.accept_batch.min(SHARED_BATCH) } else { self.limits.accept_batch }
    }
}

/// Where the state is kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// A SQLite file or a PostgreSQL database.
    pub place: StorePlace,
    /// The key that seals secrets and rejected messages; made on first start with mode 0600.
    pub key_file: PathBuf,
}

/// Limits of the relay. Full-policy in each line.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls open at once to one connection; further work waits in the store.
    pub calls_per_connection: usize,
    /// Changes taken from the stream in one transaction, while that is short; the rest stays in the stream.
    pub accept_batch: usize,
    /// How long a backlog whose changes are late already is read before anything is sent; then both are done side by side.
    /// Zero: at once.
    pub read_first: Duration,
    /// Records that may be due on one connection that works; beyond it nothing more is read, and the backlog stays in
    /// the stream. What waits is one row for each record, not for each change, so a backlog shrinks as it is read.
    pub due_per_connection: usize,
    /// Entities kept decoded; beyond it the least recently used are read again from the store.
    pub cached_entities: usize,
    /// From the intent to the moment the outcome counts as unknown. Also the time-out of a call.
    pub send_deadline: Duration,
    /// How long a worker has its work for itself without renewing it, where several share one state; then others take
    /// it over. At least three times `send_deadline`, whatever is set.
    pub lease: Duration,
    /// Shortest time between two transactions under load.
    pub tick: Duration,
    /// Bytes of one answer; a longer one is an error of the call.
    pub answer_bytes: usize,
    /// How long the ledger of our own writes is kept.
    pub ledger: Duration,
    /// How long the ids of changes are kept to recognise repeats.
    pub change_ids: Duration,
    /// How long the outcome of each change is kept in detail, from the day on which the last change of its day ended;
    /// the sums are kept for ever.
    pub outcomes: Duration,
    /// How long decisions and answered questions are kept.
    pub decisions: Duration,
    /// How long closed dead letters are kept.
    pub dead_letters: Duration,
    /// How long it is kept who did what.
    pub audit: Duration,
    /// Documents whose open changes are counted afresh in one step, twice a second; the next steps count the others.
    pub recount_batch: usize,
    /// Distinct records that the estimate of a replay counts, some 40 bytes each; beyond it what it tells is the least.
    pub estimate_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_connection: 4,
            accept_batch: 20_000,
            read_first: Duration::from_secs(15),
            due_per_connection: 50_000,
            cached_entities: 50_000,
            send_deadline: Duration::from_secs(10),
            lease: Duration::from_secs(30),
            tick: Duration::from_millis(10),
            answer_bytes: 32 << 20,
            ledger: Duration::from_secs(26 * 3_600),
            change_ids: Duration::from_secs(7 * 86_400),
            outcomes: Duration::from_secs(7 * 86_400),
            decisions: Duration::from_secs(366 * 86_400),
            dead_letters: Duration::from_secs(366 * 86_400),
            audit: Duration::from_secs(366 * 86_400),
            recount_batch: 100,
            estimate_records: 1_000_000,
        }
    }
}

/// A tenant's account in one CRM.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Its name; unique.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Which CRM.
    pub system: System,
    /// The CRM's account id in canonical form.
    pub account: String,
    /// Scheme and host, without a trailing slash.
    pub base_url: String,
    /// How calls are authorised.
    pub auth: Auth,
    /// Version of the CRM's API: HubSpot `2026-09` (or `2026-03`, `v3`), Salesforce `62.0`.
    pub api_version: String,
    /// Name we give ourselves where the CRM records it.
    pub client: String,
    /// The id of our app there, if the CRM marks changes with it.
    pub app_id: Option<String>,
    /// The field that holds our own id.
    pub external_id_field: String,
    /// Whether what our writes need there is made by us.
    pub set_up: SetUp,
    /// Oldest answer a read may give (replicas, search indexes).
    pub read_lag: Duration,
    /// Longest run of one call in the CRM: how long a write of unknown outcome may still land.
    pub longest_run: Duration,
}

/// Whether what our writes need in a CRM, the field of our external id, is made by us where the CRM allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// It is made when it is missing.
    Auto,
    /// It is only looked for.
    Never,
}

/// How calls are authorised.
#[derive(Clone, Debug)]
pub enum Auth {
    /// `Authorization: Bearer …`, always the same.
    Bearer(SecretString),
    /// Access tokens that end and are fetched anew.
    Oauth(Box<OauthConfig>),
}

/// One object kept equal among connections of one tenant.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its name; unique.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// The neutral type.
    pub object: ObjectType,
    /// The connections; at least two.
    pub members: Vec<String>,
    /// The one that wins ties.
    pub primary: String,
    /// How an overwritten edit is guarded against.
    pub guard: Guard,
    /// Who wins a conflict.
    pub policy: PolicyConfig,
    /// How records come and go.
    pub records: RecordsConfig,
}

/// How a link treats records that come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsConfig {
    /// What a delete does elsewhere.
    pub delete: DeletePolicy,
    /// How long a record must be missing before it counts as deleted.
    pub grace: Duration,
    /// Most entities of the link that may go within an hour before a person is asked.
    pub brake_count: usize,
    /// The same as a share of the link's entities, of 100; ten may always go.
    pub brake_percent: u8,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self { delete: DeletePolicy::Nothing, grace: Duration::from_secs(60), brake_count: 50, brake_percent: 5 }
    }
}

/// How an edit that nobody reported yet is guarded against before a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Not at all.
    None,
    /// One packed read before the packed write.
    Read,
    /// That read, and its version as the precondition of the write where the CRM checks one; elsewhere as `Read`.
    Strict,
}

impl Guard {
    /// The name in the configuration and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Strict => "strict",
        }
    }
}

/// Who wins a conflict, by field.
#[derive(Clone, Debug, Default)]
pub struct PolicyConfig {
    /// For every field but consent; without it the built-in table holds.
    pub default: Option<Policy>,
    /// By neutral field name.
    pub fields: Vec<(String, Policy)>,
}

/// Who wins a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The later edit; a tie goes to the lower rank (primary first, then the order of `members`).
    LastWrite,
    /// The primary member; among the others the later edit.
    Ours,
    /// The newest edit of a non-primary member.
    Theirs,
    /// The first of these members; then the later edit.
    FieldPriority(Vec<String>),
    /// A person.
    Manual,
}

/// The admin API: where it listens, and what readers of the stream may take of it.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Readers of `/v1/changes` at once; a further one is refused with 503.
    pub readers: usize,
    /// How long a client may take nothing of what it asked for; then its connection is closed.
    pub reader_stall: Duration,
}

impl AdminConfig {
    /// The defaults for an address.
    pub const fn new(listen: SocketAddr) -> Self {
        Self { listen, readers: 32, reader_stall: Duration::from_secs(30) }
    }
}
