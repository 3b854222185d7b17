//! Stands between the models and the gateway, as a proxy does, and writes down every post with its answer. Some posts it
//! makes twice, because providers do.
//!
//! It reads bodies for the chronicle with a scanner of its own; what it forwards are the bytes as they came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::chronicle::{Chronicle, now, short};
use crate::stage::FIELDS;

/// Every so many posts is made a second time.
const REPEAT_EVERY: u64 = 10;

/// The proxy. Clones share it.
#[derive(Clone)]
pub(crate) struct Witness(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    gateway: OnceLock<String>,
    chronicle: Arc<Chronicle>,
    client: Client<HttpConnector, Full<Bytes>>,
    posts: AtomicU64,
    shutdown: Shutdown,
}

/// A post as it came.
#[derive(Clone)]
struct Post {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Witness {
    /// Listens on a free port.
    pub(crate) async fn open(chronicle: &Arc<Chronicle>, shutdown: &Shutdown) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let inner = Inner {
            addr: listener.local_addr().unwrap(),
            gateway: OnceLock::new(),
            chronicle: Arc::clone(chronicle),
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            posts: AtomicU64::new(0),
            shutdown: shutdown.clone(),
        };
        let witness = Self(Arc::new(inner));
        let serving = witness.clone();
        shutdown.spawn("witness", async move {
            let stop = serving.0.shutdown.clone();
            loop {
                let accepted = tokio::select! {
                    () = stop.stopped() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (witness, stop) = (serving.clone(), stop.clone());
                serving.0.shutdown.spawn("witness-connection", async move {
                    let service = service_fn(|request| witness.clone().take(request));
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        () = stop.stopped() => {}
                        ended = connection => drop(ended),
                    }
                });
            }
        });
        witness
    }

    /// `http://` and its address: the public URL of the gateway behind it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.addr)
    }

    /// Tells where the gateway is; until then every post is refused.
    pub(crate) fn forward_to(&self, gateway: &str) {
        self.0.gateway.get_or_init(|| gateway.to_owned());
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(bad_gateway()) };
        let post = Post { path: parts.uri.path().to_owned(), headers: parts.headers, body: body.to_bytes() };
        if self.0.posts.fetch_add(1, Ordering::Relaxed) % REPEAT_EVERY == REPEAT_EVERY - 1 {
            let (witness, post) = (self.clone(), post.clone());
            self.0.shutdown.spawn("witness-repeat", async move { drop(witness.forward(post).await) });
        }
        Ok(self.forward(post).await.unwrap_or_else(bad_gateway))
    }

    /// Forwards a post and writes it down with its answer. `None` when there was none.
    async fn forward(&self, post: Post) -> Option<Response<Full<Bytes>>> {
        let (system, events) = read(&post);
        let answer = self.exchange(post).await;
        let status = answer.as_ref().map(|answer| answer.status().as_u16());
        self.0.chronicle.line(&json!({
            "what": "post", "at": now(), "system": system, "status": status, "events": events,
        }));
        answer
    }

    async fn exchange(&self, post: Post) -> Option<Response<Full<Bytes>>> {
        let mut request = Request::post(format!("{}{}", self.0.gateway.get()?, post.path));
        for (name, value) in post.headers.iter().filter(|(name, _)| *name != HOST) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(post.body)).unwrap();
        let exchange = async {
            let (parts, body) = self.0.client.request(request).await.ok()?.into_parts();
            let mut answer = Response::new(Full::new(body.collect().await.ok()?.to_bytes()));
            *answer.status_mut() = parts.status;
            Some(answer)
        };
        tokio::time::timeout(Duration::from_secs(10), exchange).await.ok().flatten()
    }
}

fn bad_gateway() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}

/// The system a post came from and what it tells.
fn read(post: &Post) -> (&'static str, Vec<Value>) {
    let text = String::from_utf8_lossy(&post.body);
    match post.path.split('/').nth(2) {
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
