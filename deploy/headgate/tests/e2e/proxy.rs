//! A small HTTP proxy in the test's own process: takes whole requests and lets its owner answer them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// A whole answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Longest wait for an answer from behind.
const BEHIND: Duration = Duration::from_secs(30);

/// Answers requests.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    /// `None` when there is no answer to give: the caller gets 502.
    fn answer(self, request: Request<Bytes>) -> impl Future<Output = Option<Answer>> + Send;
}

/// Binds a free port; [`serve`] answers on it.
pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Answers until the shutdown.
pub(crate) fn serve(listener: TcpListener, by: impl Serve, shutdown: &Shutdown) {
    let stop = shutdown.clone();
    shutdown.spawn("proxy", async move {
        loop {
            let accepted = tokio::select! {
                () = stop.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (by, watch) = (by.clone(), stop.clone());
            stop.spawn("proxy-connection", async move {
                let service = service_fn(|request| take(by.clone(), request));
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    () = watch.stopped() => {}
                    ended = serving => drop(ended),
                }
            });
        }
    });
}

async fn take(by: impl Serve, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let answer = match body.collect().await {
        Ok(body) => by.answer(Request::from_parts(parts, body.to_bytes())).await,
        Err(_) => None,
    };
    Ok(answer.unwrap_or_else(|| {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    }))
}

/// Sends requests on. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Forward(Client<HttpConnector, Full<Bytes>>);

impl Forward {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
    }

    /// Sends a request to the server at `base` and brings its answer back.
    pub(crate) async fn send(&self, base: &str, request: Request<Bytes>) -> Option<Answer> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut onward = Request::builder().method(parts.method).uri(format!("{base}{path}"));
        for (name, value) in parts.headers.iter().filter(|(name, _)| ![HOST, CONNECTION].contains(name)) {
            onward = onward.header(name, value);
        }
        let onward = onward.body(Full::new(body)).unwrap();
        let exchange = async {
            let (mut parts, body) = self.0.request(onward).await.ok()?.into_parts();
            for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
                parts.headers.remove(name);
            }
            Some(Response::from_parts(parts, Full::new(body.collect().await.ok()?.to_bytes())))
        };
        tokio::time::timeout(BEHIND, exchange).await.ok().flatten()
    }
}
