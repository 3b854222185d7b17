//! What the tests of the models share: a small client, a receiver of webhooks, and the answers' schemas.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// A shutdown whose grace is long enough for every test.
pub(crate) fn shutdown() -> Shutdown {
    Shutdown::new(Duration::from_secs(10))
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap_or_default())
    }
}

/// A client of one model.
#[derive(Clone)]
pub(crate) struct Caller {
    base: String,
    headers: Vec<(String, String)>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Caller {
    pub(crate) fn new(base: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let headers = [
            ("authorization", "Bearer t"),
            ("content-type", "application/json"),
            ("sforce-call-options", "client=test"),
        ];
        let headers = headers.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { base: base.to_owned(), headers, client }
    }

    /// The same client with a header set, or taken away when the value is empty.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(k, _)| !k.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same client with exactly these headers.
    pub(crate) fn only(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = headers;
        self
    }

    pub(crate) async fn try_raw(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let body =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).map_err(|e| e.to_string())? };
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    pub(crate) async fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Reply, String> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        self.try_raw(method, path, body).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        self.try_call(method, path, &body).await.expect("the model answers")
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, Value::Null).await
    }

    /// Runs a query.
    pub(crate) async fn query(&self, soql: &str) -> Reply {
        let encoded: String = percent_encoding::utf8_percent_encode(soql, percent_encoding::NON_ALPHANUMERIC).collect();
        self.get(&format!("/services/data/v62.0/query?q={encoded}")).await
    }
}

/// One request that a receiver got; it is answered with [`Got::answer`].
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    reply: oneshot::Sender<(u16, String)>,
}

impl Got {
    pub(crate) fn answer(self, status: u16, body: &str) {
        drop(self.reply.send((status, body.to_owned())));
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap_or_default())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// A server that hands every request to the test.
pub(crate) async fn receiver(stop: &Shutdown) -> (String, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (queue, got) = mpsc::channel(10_000);
    let queue = Arc::new(queue);
    let watch = stop.clone();
    let _task = stop.spawn("receiver", async move {
        loop {
            let accepted = tokio::select! {
                () = watch.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { return };
            let (queue, stopping) = (Arc::clone(&queue), watch.clone());
            let service = hyper::service::service_fn(move |request| hand_over(Arc::clone(&queue), request));
            let _task = watch.spawn("receiver-connection", async move {
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    _ = serving => {}
                    () = stopping.stopped() => {}
                }
            });
        }
    });
    (url, got)
}

async fn hand_over(
    queue: Arc<mpsc::Sender<Got>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (reply, answer) = oneshot::channel();
    let got = Got { path: head.uri.path().to_owned(), headers: head.headers, body, reply };
    drop(queue.send(got).await);
    let (status, body) = answer.await.unwrap_or((503, String::new()));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// An interface description, for checking answers.
pub(crate) struct Contract {
    document: Value,
}

impl Contract {
    pub(crate) fn load(name: &str) -> Self {
        let path = format!("{}/specs/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        allow_null(&mut document);
        Self { document }
    }

    /// Checks that the status is declared for the operation and that the body fits its schema.
    pub(crate) fn check(&self, method: &str, path: &str, reply: &Reply) {
        let path = path.split('?').next().unwrap();
        let template = self.template(method, path).unwrap_or_else(|| panic!("{method} {path} is not described"));
        let operation = &self.document["paths"][&template][method.to_lowercase()];
        let declared = &operation["responses"][reply.status.to_string()];
        assert!(!declared.is_null(), "{method} {template} does not declare {}: {}", reply.status, reply.body);
        let schema = declared["content"].as_object().and_then(|c| c.values().next()).map(|c| c["schema"].clone());
        let Some(schema) = schema else { return };
        let whole = json!({"components": self.document["components"], "allOf": [schema]});
        let validator = jsonschema::validator_for(&whole).expect("the schema is one");
        let faults: Vec<String> =
            validator.iter_errors(&reply.body).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(faults.is_empty(), "{method} {path} {}: {faults:?}\n{}", reply.status, reply.body);
    }

    /// The most literal path of the description that has the operation.
    fn template(&self, method: &str, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |t: &&String| {
            let steps: Vec<&str> = t.split('/').collect();
            let holds = self.document["paths"][t.as_str()].get(method.to_lowercase()).is_some();
            holds && steps.len() == parts.len() && steps.iter().zip(&parts).all(|(s, p)| s.starts_with('{') || s == p)
        };
        let paths = self.document["paths"].as_object()?;
        paths.keys().filter(fits).min_by_key(|t| t.matches('{').count()).cloned()
    }
}

/// OpenAPI 3.0 writes `nullable`; JSON Schema wants null among the types.
fn allow_null(value: &mut Value) {
    if let Value::Object(map) = value {
        if map.remove("nullable") == Some(Value::Bool(true)) {
            let kind = map["type"].clone();
            map.insert("type".into(), json!([kind, "null"]));
        }
        map.values_mut().for_each(allow_null);
    } else if let Value::Array(all) = value {
        all.iter_mut().for_each(allow_null);
    }
}
