//! All subscriptions of a process: those of the file from the start, and those that were registered over the API, which
//! stand in the state and are looked up whenever this process comes to have it. The file wins where both have a name.
//!
//! The surprising thing is the order when one is taken away: its task ends first, so that nothing writes where it stood
//! after the row is gone; a later one of the same name begins afresh.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::filter::Filter;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Begin, BeginError};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret as _;
use tokio::sync::{Mutex as Turn, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::post::Poster;
use super::registered::{self, RegisterError, Registered, Registration};
use super::{Asked, Metrics, Named, Order, OrderError, Pace, SubscriptionConfig, SubscriptionsConfig, View};
use super::{runner, shown};
use crate::Relay;
use crate::admin::OpenSource;
use crate::engine::Recalled;
use crate::http::SetupError;
use crate::outgoing::{Connector, Lookup, Policy};
use crate::store::{KeptRow, Shelf};

/// Commands that wait for one subscription; a further one is refused.
const COMMANDS: usize = 8;

/// Between two looks at a state that did not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Running subscriptions.
#[derive(Clone)]
pub struct Subscriptions(Arc<Desk>);

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.running.lock().keys()).finish()
    }
}

/// What every subscription needs, and those that run.
struct Desk {
    pace: Pace,
    policy: Policy,
    tenants: Vec<String>,
    most: usize,
    poster: Poster,
    relay: Relay,
    open: OpenSource,
    metrics: Metrics,
    shutdown: Shutdown,
    running: Mutex<BTreeMap<String, Running>>,
    /// One registration or removal at a time; it holds the worker on whose word what is registered was looked up.
    turn: Turn<Option<u64>>,
}

struct Running {
    config: SubscriptionConfig,
    orders: mpsc::Sender<Asked>,
    view: Arc<Mutex<View>>,
    /// It stands in the file.
    fixed: bool,
    ended: CancellationToken,
    task: JoinHandle<()>,
}

/// Starts every subscription of `config` and those that were registered. They read the stream through `open` and keep
/// where they stand in the state of `relay`, until `shutdown`. `lookup` finds the addresses of endpoints.
///
/// # Errors
/// When TLS cannot be set up.
pub fn start(
    config: SubscriptionsConfig,
    relay: &Relay,
    open: &OpenSource,
    lookup: Lookup,
    registry: &mut Registry,
    shutdown: &Shutdown,
) -> Result<Subscriptions, SetupError> {
    let SubscriptionsConfig { list, policy, pace, ca_file, tenants, most } = config;
    let connector = Connector::new(policy.clone(), lookup, pace.deadline);
    let desk = Arc::new(Desk {
        poster: Poster::new(connector, ca_file.as_deref())?,
        metrics: Metrics::register(registry),
        pace,
        policy,
        tenants,
        most,
        relay: relay.clone(),
        open: Arc::clone(open),
        shutdown: shutdown.clone(),
        running: Mutex::default(),
        turn: Turn::new(None),
    });
    for subscription in list {
        desk.start(subscription, true);
    }
    shutdown.spawn("subscriptions", look_up(Arc::clone(&desk)));
    Ok(Subscriptions(desk))
}

/// Looks up what was registered, each time this process comes to have the state.
async fn look_up(desk: Arc<Desk>) {
    let mut held = desk.relay.handle.held();
    loop {
        let has = held.borrow_and_update().is_some();
        let known = desk.know(&mut *desk.turn.lock().await).await;
        tokio::select! {
            () = desk.shutdown.stopped() => return,
            changed = held.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if has && known.is_err() => {}
        }
    }
}

impl Subscriptions {
    /// All, by name.
    pub fn list(&self) -> Vec<View> {
        self.0.running.lock().values().map(|running| running.view.lock().clone()).collect()
    }

    /// One.
    pub fn show(&self, name: &str) -> Option<View> {
        self.0.running.lock().get(name).map(|running| running.view.lock().clone())
    }

    /// Reads on at `begin`: what is there is sent again, what waits is forgotten. Durable when this returns.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn replay(&self, name: &str, begin: Begin, by: String) -> Result<(), OrderError> {
        self.order(name, Order::Replay { begin, by }).await
    }

    /// Goes on where it stands, with everything that waits due at once. Durable when this returns.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn enable(&self, name: &str, by: String) -> Result<(), OrderError> {
        self.order(name, Order::Enable { by }).await
    }

    async fn order(&self, name: &str, order: Order) -> Result<(), OrderError> {
        let orders = self.0.running.lock().get(name).map(|running| running.orders.clone());
        let orders = orders.ok_or_else(|| OrderError::Unknown(name.to_owned()))?;
        let (done, told) = oneshot::channel();
        orders.try_send(Asked { order, done }).map_err(|_| OrderError::Busy)?;
        told.await.unwrap_or(Err(OrderError::Busy))
    }

    /// Makes a subscription. Durable, with the place where it begins, when this returns.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register(&self, registration: Registration, by: String) -> Result<Registered, RegisterError> {
        let desk = &self.0;
        let mut asked = registration.understood(&desk.policy, &desk.tenants)?;
        let name = asked.config.name.clone();
        let mut turn = desk.turn.lock().await;
        let epoch = desk.know(&mut turn).await?;
        let (taken, count) = {
            let running = desk.running.lock();
            (running.contains_key(&name), running.len())
        };
        if taken {
            return Err(RegisterError::Taken(name));
        }
        if count >= desk.most {
            return Err(RegisterError::Full(count));
        }
        // "Now" is now, not when the stream is first read.
        asked.config.begin = desk.place(asked.config.begin.clone()).await?;
        let kept = |shelf, value| KeptRow { shelf, name: name.clone(), value };
        // Where another one of this name stood is no place of this one.
        let rows = vec![kept(Shelf::Endpoint, Some(asked.seal(&desk.relay.vault)?)), kept(Shelf::Subscription, None)];
        desk.keep(epoch, rows, by, "subscription.register").await?;
        let view = desk.start(asked.config, false);
        Ok(Registered { secret: asked.secret.expose_secret().to_owned(), subscription: view })
    }

    /// Takes away a subscription that was registered. Nothing is sent to it any more when this returns.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn remove(&self, name: &str, by: String) -> Result<(), RegisterError> {
        let desk = &self.0;
        let mut turn = desk.turn.lock().await;
        let epoch = desk.know(&mut turn).await?;
        match desk.running.lock().get(name).map(|running| running.fixed) {
            None => return Err(RegisterError::Unknown(name.to_owned())),
            Some(true) => return Err(RegisterError::Fixed(name.to_owned())),
            Some(false) => {}
        }
        let Some(config) = desk.end(name).await else { return Err(RegisterError::Unknown(name.to_owned())) };
        let gone = |shelf| KeptRow { shelf, name: name.to_owned(), value: None };
        let rows = vec![gone(Shelf::Endpoint), gone(Shelf::Subscription)];
        let kept = desk.keep(epoch, rows, by, "subscription.remove").await;
        if kept.is_err() {
            desk.start(config, false);
        }
        kept
    }
}

impl Desk {
    fn start(&self, mut subscription: SubscriptionConfig, fixed: bool) -> View {
        // Whatever the filter says: nobody gets what is another tenant's.
        subscription.filter = Filter { tenants: vec![subscription.tenant.clone()], ..subscription.filter };
        let (orders, asked) = mpsc::channel(COMMANDS);
        let view = View {
            name: subscription.name.clone(),
            tenant: subscription.tenant.clone(),
            url: shown(&subscription.url),
            ..View::default()
        };
        let (shared, ended) = (Arc::new(Mutex::new(view.clone())), CancellationToken::new());
        let parts = runner::Parts {
            config: subscription.clone(),
            pace: self.pace.clone(),
            poster: self.poster.clone(),
            relay: self.relay.handle.clone(),
            open: Arc::clone(&self.open),
            metrics: self.metrics.clone(),
            view: Arc::clone(&shared),
            shutdown: self.shutdown.clone(),
            ended: ended.clone(),
        };
        let task = self.shutdown.spawn("subscription", runner::run(parts, asked));
        let name = subscription.name.clone();
        self.running.lock().insert(name, Running { config: subscription, orders, view: shared, fixed, ended, task });
        view
    }

    /// Ends the task of a subscription, and waits for that.
    async fn end(&self, name: &str) -> Option<SubscriptionConfig> {
        let running = self.running.lock().remove(name)?;
        running.ended.cancel();
        // A task that failed has ended as well.
        drop(running.task.await);
        let named = Named { subscription: name.to_owned() };
        self.metrics.waiting.remove(&named);
        self.metrics.disabled.remove(&named);
        Some(running.config)
    }

    /// Looks up what is registered, unless that was done since this process came to have the state. Returns the worker.
    async fn know(&self, known: &mut Option<u64>) -> Result<u64, RegisterError> {
        let epoch = self.relay.handle.held().borrow().ok_or(RegisterError::Busy)?.epoch;
        if *known != Some(epoch) {
            let recalled = self.relay.handle.recall(Shelf::Endpoint, None).await.ok_or(RegisterError::Busy)?;
            self.take_up(&recalled).await;
            *known = Some(recalled.epoch);
        }
        known.ok_or(RegisterError::Busy)
    }

    /// Starts what was registered, and ends what another relay took away meanwhile.
    async fn take_up(&self, recalled: &Recalled) {
        let registered = |name: &str| recalled.rows.iter().any(|(registered, _)| registered == name);
        let running: Vec<(String, bool)> = self.running.lock().iter().map(|(n, r)| (n.clone(), r.fixed)).collect();
        for (name, _) in running.iter().filter(|(name, fixed)| !fixed && !registered(name)) {
            self.end(name).await;
        }
        for (name, sealed) in &recalled.rows {
            match running.iter().find(|(running, _)| running == name) {
                Some((_, true)) => {
                    tracing::warn!(subscription = name, "it is registered, too; what the configuration says holds");
                }
                Some((_, false)) => {}
                None => match registered::open(name, sealed, &self.relay.vault) {
                    Ok(config) => drop(self.start(config, false)),
                    Err(error) => tracing::error!(subscription = name, %error, "a registration cannot be read"),
                },
            }
        }
    }

    /// Where that is in the stream.
    async fn place(&self, begin: Begin) -> Result<Begin, RegisterError> {
        let open = Arc::clone(&self.open);
        let found = tokio::task::spawn_blocking(move || {
            let mut source = open()?;
            let cursor = begin.cursor(source.as_ref())?;
            source.assign(&cursor.positions())?;
            Ok::<_, BeginError>(Begin::At(cursor.to_string()))
        });
        Ok(found.await.map_err(|_| RegisterError::Busy)??)
    }

    async fn keep(&self, epoch: u64, rows: Vec<KeptRow>, by: String, what: &'static str) -> Result<(), RegisterError> {
        let durable = self.relay.handle.keep(epoch, rows, Some((by, what))).map_err(|_| RegisterError::Busy)?;
        durable.await.map_err(|_| RegisterError::Busy)
    }
}
