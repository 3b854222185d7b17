//! A subscriber behind TLS: it believes nobody, verifies every call as Standard Webhooks says, refuses for as long as the
//! test wants, and writes down what it took. Shares no code with the sender.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::stage::Stage;

/// A call that was verified.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// `webhook-id`.
    pub(crate) id: String,
    /// The event.
    pub(crate) event: Value,
}

impl Taken {
    /// The record that it is of.
    pub(crate) fn record(&self) -> &str {
        self.event["data"]["object"]["id"].as_str().unwrap()
    }
}

/// The endpoint.
pub(crate) struct Subscriber {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    secret: Mutex<Option<String>>,
    refuses: AtomicBool,
    refused: Mutex<Vec<Taken>>,
    taken: Mutex<Vec<Taken>>,
    unverified: Mutex<Vec<String>>,
}

impl Subscriber {
    /// Listens on this machine with the server's certificate of a folder, for as long as the stage stands.
    pub(crate) async fn open(stage: &Stage, certificates: &Path) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificates.join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certificates.join("server-key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let calls = Arc::clone(&shared);
        drop(stage.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&calls));
                open.spawn(async move {
                    // Whoever does not believe our certificate hangs up here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(served.await);
                });
            }
        }));
        Self { address, shared }
    }

    /// Its URL, by the name in its certificate.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/crm?key=s3cr3t", self.address.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What calls must be signed with.
    pub(crate) fn expect(&self, secret: &str) {
        *self.shared.secret.lock() = Some(secret.to_owned());
    }

    /// Answers 500 from now on, or takes what comes.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn refused(&self) -> Vec<Taken> {
        self.shared.refused.lock().clone()
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().clone()
    }

    /// Calls whose signature did not hold.
    pub(crate) fn unverified(&self) -> Vec<String> {
        self.shared.unverified.lock().clone()
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let status = |code: u16| Ok(Response::builder().status(code).body(Empty::new()).unwrap());
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let secret = shared.secret.lock().clone();
    let signed = secret.is_some_and(|secret| is_signed(&secret, &id, &timestamp, &body, &header("webhook-signature")));
    if !signed || head.uri.path_and_query().map(|p| p.as_str()) != Some("/crm?key=s3cr3t") {
        shared.unverified.lock().push(id);
        return status(401);
    }
    let taken = Taken { id, event: serde_json::from_slice(&body).unwrap() };
    if shared.refuses.load(Ordering::SeqCst) {
        shared.refused.lock().push(taken);
        return status(500);
    }
    shared.taken.lock().push(taken);
    status(204)
}

/// Verifies as the specification of Standard Webhooks says: one of the signatures must be ours.
fn is_signed(secret: &str, id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    signatures.split(' ').any(|signature| {
        let mac = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        mac.is_some_and(|mac| aws_lc_rs::hmac::verify(&key, &message, &mac).is_ok())
    })
}
