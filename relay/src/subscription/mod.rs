//! Subscriptions out: a tenant names an endpoint and gets its changes there, signed as Standard Webhooks.
//!
//! Each subscription reads the stream by itself and keeps its own backlog, so a dead or slow endpoint delays nobody but
//! its own subscriber; what is too much for the backlog stays in the stream. Changes of one record go out one after the
//! other and none is left out; those of different records go side by side. A change may arrive twice, always under the
//! same `webhook-id`. A change that is refused for longer than `disable_after`, or an endpoint that says 410, disables the
//! subscription with a notice; nothing is lost then, a person lets it go on or sends it elsewhere in the stream.
//!
//! | file | holds |
//! |---|---|
//! | `backlog` | order, retries, bounds, what outlives the process; pure |
//! | `sign` | signatures; pure |
//! | `post` | one attempt over the guarded client of [`crate::outgoing`] |
//! | `runner` | the task that joins them with the stream and the state |
//! | `desk` | all that run: those of the file, and those that were registered over the API |
//! | `registered` | what is registered, checked and sealed; new secrets |

mod backlog;
mod desk;
mod post;
mod registered;
mod runner;
pub mod sign;

use std::path::PathBuf;
use std::time::Duration;

use headgate_schemas::Timestamp;
use headgate_schemas::filter::Filter;
use headgate_schemas::stream::{Begin, BeginError};
use hyper::Uri;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::oneshot;

pub use desk::{Subscriptions, start};
pub use registered::{RegisterError, Registered, Registration, Renewal};

use crate::outgoing::Policy;
use sign::Key;

/// All subscriptions and what they share.
#[derive(Clone, Debug)]
pub struct SubscriptionsConfig {
    /// The endpoints that are served.
    pub list: Vec<SubscriptionConfig>,
    /// What may be called.
    pub policy: Policy,
    /// How fast.
    pub pace: Pace,
    /// Authorities that endpoints' certificates may come from, beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Tenants that there are: nobody else registers an endpoint.
    pub tenants: Vec<String>,
    /// Subscriptions, those of the file included; a further one is not registered.
    pub most: usize,
    /// How long a secret still signs in whose place there is another one.
    pub overlap: Duration,
}

/// How long an earlier secret signs unless it is set.
pub const OVERLAP: Duration = Duration::from_hours(24);

/// Subscriptions that may be registered unless it is set.
pub const MOST: usize = 100;

/// Limits of one subscription. Full-policy in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Calls open at once to one endpoint; further changes wait.
    pub calls: usize,
    /// From the start of a call to its answer; then the attempt has failed.
    pub deadline: Duration,
    /// Changes taken from the stream and not delivered yet; then no more are read, and the rest stays in the stream.
    pub waiting: usize,
    /// The same in bytes.
    pub waiting_bytes: usize,
    /// Longest pause after the first failed attempt; it doubles with each further one.
    pub retry_first: Duration,
    /// Longest pause between two attempts.
    pub retry_most: Duration,
    /// A change that has been refused for so long disables its subscription.
    pub disable_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            calls: 8,
            deadline: Duration::from_secs(15),
            waiting: 1_000,
            waiting_bytes: 8 << 20,
            retry_first: Duration::from_secs(5),
            retry_most: Duration::from_secs(3_600),
            disable_after: Duration::from_secs(3 * 86_400),
        }
    }
}

impl Pace {
    /// Before a change that failed `attempts` times before is tried again, in microseconds.
    fn pause(&self, attempts: u32, random: u64) -> i64 {
        backlog::pause(self.retry_first, self.retry_most, attempts, random)
    }

    /// Before the next call to an endpoint that is doubted, in microseconds.
    fn doubt(&self, times: u32) -> i64 {
        backlog::pause(DOUBT_FIRST.min(self.retry_first), DOUBT_MOST.min(self.retry_most), times, u64::MAX)
    }
}

/// Pause between calls to an endpoint that fails: at first, and at most.
const DOUBT_FIRST: Duration = Duration::from_secs(1);
const DOUBT_MOST: Duration = Duration::from_secs(30);

/// One endpoint.
#[derive(Clone, Debug)]
pub struct SubscriptionConfig {
    /// Its name; unique.
    pub name: String,
    /// Whose it is: only changes of this tenant are sent.
    pub tenant: String,
    /// Where they are posted.
    pub url: Uri,
    /// What they are signed with: one, or two while a secret is replaced.
    pub keys: Vec<Key>,
    /// Which changes.
    pub filter: Filter,
    /// Where a new subscription begins.
    pub begin: Begin,
}

/// How a subscription is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is being opened.
    #[default]
    Starting,
    /// Everything that was tried was taken.
    Well,
    /// Something is being refused and tried again.
    Failing,
    /// Nothing is sent until a person says so.
    Disabled,
}

/// A subscription as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Where changes are posted, without the query, which may carry a key.
    pub url: String,
    /// How it is.
    pub state: Standing,
    /// Why, where it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when something has been refused, or nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Changes taken from the stream and not delivered yet.
    pub waiting: usize,
    /// Calls under way.
    pub open: usize,
    /// Changes delivered since it was made.
    pub delivered: u64,
    /// The next attempt, if nothing is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Where it reads on in the stream.
    pub position: String,
    /// What the stream dropped before it could be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overtaken: Option<String>,
    /// Until when the secret before the last one, or an earlier one, still signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier_secrets_until: Option<String>,
    /// What was lost when another stream took the place of the one that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

/// What a person asks of a subscription.
enum Order {
    /// Read on elsewhere; what waits is forgotten.
    Replay { begin: Begin, by: String },
    /// Try everything that waits at once, also if it was disabled.
    Enable { by: String },
}

struct Asked {
    order: Order,
    done: oneshot::Sender<Result<(), OrderError>>,
}

/// Why an order was not carried out. Nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OrderError {
    /// No subscription has that name.
    #[error("there is no subscription \"{0}\"; subscription list shows those there are")]
    Unknown(String),
    /// It cannot begin there.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// It is not open yet, is stopping, or the state cannot be written.
    #[error("the subscription cannot take orders now; try again in a moment")]
    Busy,
}

/// By subscription and what came of its calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    subscription: String,
    outcome: &'static str,
}

/// By subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    subscription: String,
}

/// What subscriptions count.
#[derive(Clone, Debug, Default)]
struct Metrics {
    calls: Family<Called, Counter>,
    waiting: Family<Named, Gauge>,
    disabled: Family<Named, Gauge>,
    overtaken: Family<Named, Counter>,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register("subscription_calls", "Calls to subscribers, by outcome", m.calls.clone());
        registry.register("subscription_waiting", "Changes read and not delivered yet", m.waiting.clone());
        registry.register("subscription_disabled", "1: nothing is sent until a person says so", m.disabled.clone());
        let help = "Times changes were lost to the stream before they were delivered; alert on any rise";
        registry.register("subscription_overtaken", help, m.overtaken.clone());
        m
    }
}

/// When the last of the keys ends that end.
fn earlier_until(keys: &[Key], now: Timestamp) -> Option<String> {
    let live = keys.iter().filter(|key| key.is_live(now)).filter_map(Key::until);
    live.max().map(|until| until.to_string())
}

/// A URL without its query.
fn shown(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{host}{}", url.path())
}
