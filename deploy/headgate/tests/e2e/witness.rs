//! Stands between the models and the gateway, as a proxy does, and writes down every post with its answer. Some posts it
//! makes twice, because providers do.
//!
//! It reads bodies for the chronicle with a scanner of its own; what it forwards are the bytes as they came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use hyper::Request;
use serde_json::{Value, json};

use crate::chronicle::{Chronicle, now, short};
use crate::proxy::{self, Answer, Forward, Serve};
use crate::stage::FIELDS;

/// Every so many posts is made a second time.
const REPEAT_EVERY: u64 = 10;

/// The proxy. Clones share it.
#[derive(Clone)]
pub(crate) struct Witness(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    gateways: OnceLock<Vec<String>>,
    chronicle: Arc<Chronicle>,
    forward: Forward,
    posts: AtomicU64,
    turns: AtomicUsize,
    /// Longest time a post is held back, in milliseconds.
    hold: AtomicU64,
    dice: Mutex<fastrand::Rng>,
    shutdown: Shutdown,
}

impl Witness {
    /// Listens on a free port.
    pub(crate) async fn open(chronicle: &Arc<Chronicle>, shutdown: &Shutdown) -> Self {
        let (listener, addr) = proxy::bind().await;
        let witness = Self(Arc::new(Inner {
            addr,
            gateways: OnceLock::new(),
            chronicle: Arc::clone(chronicle),
            forward: Forward::new(),
            posts: AtomicU64::new(0),
            turns: AtomicUsize::new(0),
            hold: AtomicU64::new(0),
            dice: Mutex::new(fastrand::Rng::with_seed(5)),
            shutdown: shutdown.clone(),
        }));
        proxy::serve(listener, witness.clone(), shutdown);
        witness
    }

    /// `http://` and its address: the public URL of the gateway behind it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.addr)
    }

    /// Tells where the gateways are, which take the posts in turn; until then no post is answered.
    pub(crate) fn forward_to(&self, gateways: Vec<String>) {
        self.0.gateways.get_or_init(|| gateways);
    }

    /// From now on holds every post back for a time up to this, so that later ones overtake it.
    pub(crate) fn hold_back(&self, longest: Duration) {
        self.0.hold.store(u64::try_from(longest.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Forwards a post and writes it down with its answer. `None` when there was none.
    async fn forward(&self, post: Request<Bytes>) -> Option<Answer> {
        let (system, events) = read(&post);
        let gateways = self.0.gateways.get()?;
        let turn = self.0.turns.fetch_add(1, Ordering::Relaxed) % gateways.len();
        let answer = self.0.forward.send(&gateways[turn], post).await;
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        self.0.chronicle.line(&json!({
            "what": "post", "at": now(), "system": system, "status": status, "events": events,
        }));
        answer
    }
}

impl Serve for Witness {
    async fn answer(self, post: Request<Bytes>) -> Option<Answer> {
        let longest = self.0.hold.load(Ordering::Relaxed);
        if longest > 0 {
            let held = self.0.dice.lock().unwrap().u64(0..longest);
            tokio::time::sleep(Duration::from_millis(held)).await;
        }
        if self.0.posts.fetch_add(1, Ordering::Relaxed) % REPEAT_EVERY == REPEAT_EVERY - 1 {
            let (witness, post) = (self.clone(), post.clone());
            self.0.shutdown.spawn("witness-repeat", async move { drop(witness.forward(post).await) });
        }
        self.forward(post).await
    }
}

/// The system a post came from and what it tells.
fn read(post: &Request<Bytes>) -> (&'static str, Vec<Value>) {
    let text = String::from_utf8_lossy(post.body());
    match post.uri().path().split('/').nth(2) {
        Some("hubspot") => ("hubspot", hubspot(&text)),
        Some("salesforce") => ("salesforce", salesforce(&text)),
        other => panic!("a post to {other:?}"),
    }
}

fn hubspot(text: &str) -> Vec<Value> {
    let events: Vec<Value> = serde_json::from_str(text).unwrap();
    events
        .iter()
        .map(|event| {
            let field = event["propertyName"].as_str().map(|name| (name, short(&event["propertyValue"])));
            let fields: BTreeMap<&str, Value> = field.into_iter().collect();
            json!({"id": event["objectId"].to_string(), "fields": fields})
        })
        .collect()
}

/// The notifications of an outbound message with the mapped fields they carry.
fn salesforce(text: &str) -> Vec<Value> {
    text.split("<Notification>")
        .skip(1)
        .map(|notification| {
            let values = FIELDS.iter().filter_map(|(_, field)| Some((*field, element(notification, field)?)));
            let fields: BTreeMap<&str, String> = values.collect();
            json!({"id": element(notification, "Id").unwrap(), "fields": fields, "state": true})
        })
        .collect()
}

/// The text of an element of the row, without the few escapes that values of a test have.
fn element(notification: &str, name: &str) -> Option<String> {
    let (_, rest) = notification.split_once(&format!("<sf:{name}>"))?;
    let (value, _) = rest.split_once('<')?;
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}
