//! Posting webhooks: the client, HubSpot's signature, and HubSpot's delivery with its arrays and retries.
//!
//! It knows events and addresses, not how a change came about. Facts are those of HubSpot's webhooks guide: arrays of
//! at most 100, ten requests at once, five seconds per request, ten retries. The surprising thing: waiting for a retry
//! holds no request slot, so a failing batch lets newer events overtake it, as in the real service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::time;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::{Semaphore, mpsc};

use super::SimError;
use super::hubspot::WebhookEvent;

/// Events waiting for delivery to one address; when full, the newest are dropped and counted.
const QUEUE: usize = 100_000;
/// Events of one request.
const ARRAY: usize = 100;
/// Requests in flight to one address.
const IN_FLIGHT: usize = 10;
/// Requests waiting for a retry; beyond it a failed request is given up.
const WAITING: usize = 10_000;
/// Largest answer that is read.
const ANSWER_CAP: usize = 64 * 1024;

/// An address that gets a model's webhooks.
#[derive(Clone)]
pub struct Hook {
    /// Absolute `http://` address, as the receiver knows itself.
    pub url: String,
    /// Which model posts there.
    pub provider: HookProvider,
    /// HubSpot: the app's client secret. Salesforce: the id of the sending organisation.
    pub secret: String,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("url", &self.url).field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Which model posts to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookProvider {
    /// Signed JSON arrays.
    Hubspot,
    /// SOAP outbound messages.
    Salesforce,
}

/// When a failed delivery is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPlan {
    /// Wait before the first retry; it doubles from there.
    pub first: Duration,
    /// Longest wait.
    pub longest: Duration,
    /// Retries before a delivery is given up.
    pub retries: u32,
}

impl Default for RetryPlan {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30), retries: 10 }
    }
}

impl RetryPlan {
    /// Wait before retry number `attempt`, counted from 1.
    pub fn wait(&self, attempt: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.longest)
    }
}

/// How deliveries went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookStats {
    /// Events or notifications handed over for delivery, counted for each address.
    pub told: u64,
    /// Events or notifications acknowledged.
    pub accepted: u64,
    /// Requests that failed and were tried again.
    pub retried: u64,
    /// Events or notifications given up after the last retry.
    pub given_up: u64,
    /// Events dropped because the queue was full.
    pub dropped: u64,
}

impl HookStats {
    /// Whether nothing waits for its delivery or for another attempt.
    pub const fn is_through(&self) -> bool {
        self.told == self.accepted + self.given_up + self.dropped
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) told: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> HookStats {
        HookStats {
            told: self.told.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// HubSpot's signature version 3: HMAC-SHA256 over method, address, body and time in milliseconds, in Base64.
///
/// Twelve escapes of the address are decoded before signing, as the webhooks guide prescribes.
pub fn hubspot_signature(secret: &str, method: &str, url: &str, body: &[u8], timestamp_ms: i64) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length; the error type serves other MACs")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(method.as_bytes());
    mac.update(decoded(url).as_bytes());
    mac.update(body);
    mac.update(timestamp_ms.to_string().as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

fn decoded(url: &str) -> String {
    const ESCAPES: [(&str, char); 12] = [
        ("3A", ':'),
        ("2F", '/'),
        ("3F", '?'),
        ("40", '@'),
        ("21", '!'),
        ("24", '$'),
        ("27", '\''),
        ("28", '('),
        ("29", ')'),
        ("2A", '*'),
        ("2C", ','),
        ("3B", ';'),
    ];
    let mut out = String::with_capacity(url.len());
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hit = ESCAPES.iter().find(|(hex, _)| after.get(..2).is_some_and(|two| two.eq_ignore_ascii_case(hex)));
        match hit {
            Some((_, plain)) => {
                out.push(*plain);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

/// Why a post has no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("the request could not be built; check the address")]
    Request(#[from] hyper::http::Error),
    #[error("no answer; try again")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off; try again")]
    Body,
    #[error("no answer in time; try again")]
    Late,
}

/// A small client for `http://` addresses; its connections are shared.
#[derive(Clone, Debug)]
pub(crate) struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Poster {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let builder = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client: builder }
    }

    /// Posts and reads the answer, all within `time`.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(&str, String)],
        body: Bytes,
        time: Duration,
    ) -> Result<(u16, Bytes), PostError> {
        let mut request = Request::post(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_CAP).collect().await;
            Ok((status, body.map_err(|_| PostError::Body)?.to_bytes()))
        };
        tokio::time::timeout(time, exchange).await.unwrap_or(Err(PostError::Late))
    }

    /// Posts one array of events, signed as HubSpot signs. True when it was taken.
    pub(crate) async fn post_events(&self, url: &str, secret: &str, events: &[WebhookEvent]) -> bool {
        let Ok(body) = serde_json::to_vec(events) else { return false };
        let now_ms = time::now().millis();
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("x-hubspot-request-timestamp", now_ms.to_string()),
            ("x-hubspot-signature-v3", hubspot_signature(secret, "POST", url, &body, now_ms)),
        ];
        let answer = self.post(url, &headers, body.into(), Duration::from_secs(5)).await;
        matches!(answer, Ok((200..=299, _)))
    }
}

/// Checks that an address can be posted to.
pub(crate) fn check_url(url: &str) -> Result<(), SimError> {
    let parsed = url.parse::<Uri>().ok().filter(|u| u.scheme_str() == Some("http") && u.host().is_some());
    parsed.map(drop).ok_or_else(|| SimError::HookAddress { url: url.to_owned() })
}

/// Delivers HubSpot's events to every hook.
#[derive(Debug)]
pub(crate) struct EventHooks {
    queues: Mutex<Vec<mpsc::Sender<WebhookEvent>>>,
    counters: Arc<Counters>,
    poster: Poster,
    retry: RetryPlan,
    shutdown: Shutdown,
}

impl EventHooks {
    pub(crate) fn start(hooks: &[Hook], retry: RetryPlan, shutdown: &Shutdown) -> Result<Self, SimError> {
        let started = Self {
            queues: Mutex::new(Vec::new()),
            counters: Arc::new(Counters::default()),
            poster: Poster::new(),
            retry,
            shutdown: shutdown.clone(),
        };
        hooks.iter().filter(|h| h.provider == HookProvider::Hubspot).try_for_each(|h| started.attach(h))?;
        Ok(started)
    }

    /// Delivers to one more address from now on.
    pub(crate) fn attach(&self, hook: &Hook) -> Result<(), SimError> {
        check_url(&hook.url)?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        self.queues.lock().push(queue);
        let delivery = Arc::new(Delivery {
            hook: hook.clone(),
            poster: self.poster.clone(),
            retry: self.retry,
            counters: Arc::clone(&self.counters),
            slots: Semaphore::new(IN_FLIGHT),
            waiting: Semaphore::new(WAITING),
        });
        let _task = self.shutdown.spawn("sim-hooks", dispatch(delivery, waiting, self.shutdown.clone()));
        Ok(())
    }

    /// Hands events over for delivery; never waits.
    pub(crate) fn send(&self, events: &[WebhookEvent]) {
        for queue in self.queues.lock().iter() {
            Counters::add(&self.counters.told, events.len());
            let dropped = events.iter().filter(|e| queue.try_send((*e).clone()).is_err()).count();
            Counters::add(&self.counters.dropped, dropped);
        }
    }

    pub(crate) fn stats(&self) -> HookStats {
        self.counters.read()
    }
}

struct Delivery {
    hook: Hook,
    poster: Poster,
    retry: RetryPlan,
    counters: Arc<Counters>,
    slots: Semaphore,
    waiting: Semaphore,
}

async fn dispatch(delivery: Arc<Delivery>, mut queue: mpsc::Receiver<WebhookEvent>, stop: Shutdown) {
    let mut events = Vec::with_capacity(ARRAY);
    loop {
        let got = tokio::select! {
            () = stop.stopped() => return,
            got = queue.recv_many(&mut events, ARRAY) => got,
        };
        if got == 0 {
            return;
        }
        let array = std::mem::take(&mut events);
        // Taking the slot here keeps what waits in the queue, where later arrays can still grow to their full size.
        let Ok(slot) = delivery.slots.acquire().await else { return };
        slot.forget();
        let _task = stop.spawn("sim-hook-post", deliver(Arc::clone(&delivery), array, stop.clone()));
    }
}

/// Delivers one array, retries included. The caller has taken a slot; it is given back after each request.
async fn deliver(delivery: Arc<Delivery>, mut events: Vec<WebhookEvent>, stop: Shutdown) {
    let Delivery { hook, poster, retry, counters, slots, waiting } = delivery.as_ref();
    for attempt in 0..=retry.retries {
        if attempt > 0 {
            let Ok(place) = waiting.try_acquire() else { break };
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(retry.wait(attempt)) => {}
            }
            let Ok(slot) = slots.acquire().await else { return };
            slot.forget();
            drop(place);
            events.iter_mut().for_each(|e| e.attempt_number = attempt);
            Counters::add(&counters.retried, 1);
        }
        let taken = poster.post_events(&hook.url, &hook.secret, &events).await;
        slots.add_permits(1);
        if taken {
            Counters::add(&counters.accepted, events.len());
            return;
        }
    }
    tracing::warn!(events = events.len(), "the hook took no delivery; its events are given up");
    Counters::add(&counters.given_up, events.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_computed_by_an_independent_tool() {
        // printf '%s' 'POSThttps://hooks.example.com/in/hubspot/a[]1767268800000' | openssl dgst -sha256 -hmac s3cret -binary | base64
        let signature =
            hubspot_signature("s3cret", "POST", "https://hooks.example.com/in/hubspot/a", b"[]", 1_767_268_800_000);
        assert_eq!(signature, "MMNob2plGe5qPK7iDkED56i3rGt8fhO6jYJ54il2x8E=");
    }

    #[test]
    fn exactly_twelve_escapes_are_decoded_once() {
        assert_eq!(decoded("http://h/a%3ab%2Fc%20d%25%40%zz%"), "http://h/a:b/c%20d%25@%zz%");
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let plan = RetryPlan::default();
        let waits: Vec<u128> = (1..=8).map(|n| plan.wait(n).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(plan.wait(u32::MAX).as_secs(), 30);
    }
}
