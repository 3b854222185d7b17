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
use headgate_schemas::time;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backlog::Memo;
use super::post::Poster;
use super::registered::{self, RegisterError, Registered, Registration, Renewal, Understood};
use super::sign::Key;
use super::{Asked, Metrics, Named, Order, OrderError, Pace, SubscriptionConfig, SubscriptionsConfig, View};
use super::{earlier_until, runner, shown};
use crate::Relay;
use crate::admin::OpenSource;
use crate::engine::Recalled;
use crate::http::SetupError;
use crate::outgoing::{Connector, Lookup, Policy};
use crate::store::{KeptRow, Shelf};
use crate::turn::{self, Owner, Turns};

/// Commands that wait for one subscription; a further one is refused.
const COMMANDS: usize = 8;

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
    overlap: Duration,
    poster: Poster,
    relay: Relay,
    open: OpenSource,
    metrics: Metrics,
    running: Mutex<BTreeMap<String, Running>>,
    /// One registration or removal at a time.
    turns: Turns,
}

struct Running {
    config: SubscriptionConfig,
    /// What signs its calls from the next one on.
    keys: watch::Sender<Vec<Key>>,
    orders: mpsc::Sender<Asked>,
    view: Arc<Mutex<View>>,
    origin: Origin,
    ended: CancellationToken,
    task: JoinHandle<()>,
}

/// Where a subscription stands.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    /// In the file.
    File,
    /// In the state, sealed like this: another registration of the same name is another text.
    State(Vec<u8>),
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
    let SubscriptionsConfig { list, policy, pace, ca_file, tenants, most, overlap } = config;
    let connector = Connector::new(policy.clone(), lookup, pace.deadline);
    let desk = Arc::new(Desk {
        poster: Poster::new(connector, ca_file.as_deref())?,
        metrics: Metrics::register(registry),
        pace,
        policy,
        tenants,
        most,
        overlap,
        relay: relay.clone(),
        open: Arc::clone(open),
        running: Mutex::default(),
        turns: Turns::new(relay.handle.clone(), shutdown.clone()),
    });
    for subscription in list {
        desk.start(subscription, Origin::File);
    }
    shutdown.spawn("subscriptions", turn::look_up(Arc::clone(&desk)));
    Ok(Subscriptions(desk))
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

    /// Makes a subscription. Durable, with the place where it begins, when this returns; made as well when nobody waits
    /// for that any more.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register(&self, registration: Registration, by: String) -> Result<Registered, RegisterError> {
        let asked = registration.understood(&self.0.policy, &self.0.tenants)?;
        turn::in_turn(&self.0, move |desk, epoch| async move { desk.register(epoch, asked, by).await }).await?
    }

    /// Puts a new secret in the place of the one that signs the calls of a subscription that was registered; that one signs
    /// beside it for a while. Durable when this returns; done as well when nobody waits for that any more.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn renew(&self, name: &str, renewal: Renewal, by: String) -> Result<Registered, RegisterError> {
        let name = name.to_owned();
        turn::in_turn(&self.0, move |desk, epoch| async move { desk.renew(epoch, name, renewal, by).await }).await?
    }

    /// Takes away a subscription that was registered. Nothing is sent to it any more when this returns.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn remove(&self, name: &str, by: String) -> Result<(), RegisterError> {
        let name = name.to_owned();
        turn::in_turn(&self.0, move |desk, epoch| async move { desk.remove(epoch, name, by).await }).await?
    }
}

impl Owner for Desk {
    const SHELF: Shelf = Shelf::Endpoint;

    fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Starts what was registered, and ends what another relay took away meanwhile.
    async fn take_up(&self, recalled: &Recalled) {
        let running: Vec<_> = self.running.lock().iter().map(|(n, r)| (n.clone(), r.origin.clone())).collect();
        for (name, origin) in &running {
            let Origin::State(sealed) = origin else { continue };
            if !recalled.rows.iter().any(|row| (&row.0, &row.1) == (name, sealed)) {
                self.end(name).await;
            }
        }
        for (name, sealed) in &recalled.rows {
            match self.running.lock().get(name).map(|running| &running.origin) {
                Some(Origin::File) => {
                    tracing::warn!(subscription = name, "it is registered, too; what the configuration says holds");
                    continue;
                }
                Some(Origin::State(_)) => continue,
                None => {}
            }
            match registered::open(name, sealed, &self.relay.vault) {
                Ok(config) => drop(self.start(config, Origin::State(sealed.clone()))),
                Err(error) => tracing::error!(subscription = name, %error, "a registration cannot be read"),
            }
        }
    }
}

impl Desk {
    fn start(&self, mut subscription: SubscriptionConfig, origin: Origin) -> View {
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
        let (keys, signs) = watch::channel(subscription.keys.clone());
        let parts = runner::Parts {
            config: subscription.clone(),
            keys: signs,
            pace: self.pace.clone(),
            poster: self.poster.clone(),
            relay: self.relay.handle.clone(),
            open: Arc::clone(&self.open),
            metrics: self.metrics.clone(),
            view: Arc::clone(&shared),
            shutdown: self.turns.shutdown().clone(),
            ended: ended.clone(),
        };
        let task = self.turns.shutdown().spawn("subscription", runner::run(parts, asked));
        let name = subscription.name.clone();
        let running = Running { config: subscription, keys, orders, view: shared, origin, ended, task };
        self.running.lock().insert(name, running);
        view
    }

    /// Ends the task of a subscription, and waits for that.
    async fn end(&self, name: &str) -> Option<(SubscriptionConfig, Origin)> {
        let running = self.running.lock().remove(name)?;
        running.ended.cancel();
        // A task that failed has ended as well.
        drop(running.task.await);
        let named = Named { subscription: name.to_owned() };
        self.metrics.waiting.remove(&named);
        self.metrics.disabled.remove(&named);
        Some((running.config, running.origin))
    }

    async fn register(&self, epoch: u64, mut asked: Understood, by: String) -> Result<Registered, RegisterError> {
        let name = asked.config.name.clone();
        let (taken, count) = {
            let running = self.running.lock();
            (running.contains_key(&name), running.len())
        };
        if taken {
            return Err(RegisterError::Taken(name));
        }
        if count >= self.most {
            return Err(RegisterError::Full(count));
        }
        // "Now" is now, not when the stream is first read.
        let (begin, memo) = self.place(asked.config.begin.clone()).await?;
        asked.config.begin = begin;
        let sealed = asked.seal(&self.relay.vault)?;
        let kept = |shelf, value| KeptRow { shelf, name: name.clone(), value: Some(value) };
        // Where another one of this name stood is no place of this one.
        let memo = memo.encode().map_err(|_| RegisterError::Busy)?;
        let rows = vec![kept(Shelf::Endpoint, sealed.clone()), kept(Shelf::Subscription, memo)];
        self.keep(epoch, rows, by, "subscription.register").await?;
        let view = self.start(asked.config, Origin::State(sealed));
        Ok(Registered { secret: asked.secret.expose_secret().to_owned(), subscription: view })
    }

    async fn renew(&self, epoch: u64, name: String, renewal: Renewal, by: String) -> Result<Registered, RegisterError> {
        let sealed = match self.running.lock().get(&name).map(|running| &running.origin) {
            None => return Err(RegisterError::Unknown(name)),
            Some(Origin::File) => return Err(RegisterError::Fixed(name)),
            Some(Origin::State(sealed)) => sealed.clone(),
        };
        let now = time::now();
        let renewed = registered::renew(&name, &sealed, renewal, self.overlap, now, &self.relay.vault)?;
        if let Some(sealed) = &renewed.sealed {
            let row = KeptRow { shelf: Shelf::Endpoint, name: name.clone(), value: Some(sealed.clone()) };
            let kept = self.keep(epoch, vec![row], by, "subscription.secret").await;
            kept.map_err(|_| RegisterError::Renewing)?;
        }
        let mut running = self.running.lock();
        let running = running.get_mut(&name).ok_or(RegisterError::Unknown(name))?;
        running.config.keys.clone_from(&renewed.keys);
        if let Some(sealed) = renewed.sealed {
            running.origin = Origin::State(sealed);
        }
        let subscription = {
            let mut view = running.view.lock();
            view.earlier_secrets_until = earlier_until(&renewed.keys, now);
            view.clone()
        };
        running.keys.send_replace(renewed.keys);
        Ok(Registered { secret: renewed.secret.expose_secret().to_owned(), subscription })
    }

    async fn remove(&self, epoch: u64, name: String, by: String) -> Result<(), RegisterError> {
        if self.running.lock().get(&name).is_some_and(|running| running.origin == Origin::File) {
            return Err(RegisterError::Fixed(name));
        }
        let Some((config, origin)) = self.end(&name).await else { return Err(RegisterError::Unknown(name)) };
        let gone = |shelf| KeptRow { shelf, name: name.clone(), value: None };
        let rows = vec![gone(Shelf::Endpoint), gone(Shelf::Subscription)];
        let kept = self.keep(epoch, rows, by, "subscription.remove").await;
        if kept.is_err() {
            self.start(config, origin);
        }
        kept
    }

    /// Where that is in the stream, as text and as it is kept.
    async fn place(&self, begin: Begin) -> Result<(Begin, Memo), RegisterError> {
        let open = Arc::clone(&self.open);
        let found = tokio::task::spawn_blocking(move || {
            let mut source = open()?;
            let cursor = begin.cursor(source.as_ref())?;
            source.assign(&cursor.positions())?;
            Ok::<_, BeginError>((Begin::At(cursor.to_string()), Memo::at(&cursor, source.topic().id)))
        });
        Ok(found.await.map_err(|_| RegisterError::Busy)??)
    }

    async fn keep(&self, epoch: u64, rows: Vec<KeptRow>, by: String, what: &'static str) -> Result<(), RegisterError> {
        let durable = self.relay.handle.keep(epoch, rows, Some((by, what))).map_err(|_| RegisterError::Busy)?;
        durable.await.map_err(|_| RegisterError::Busy)
    }
}
