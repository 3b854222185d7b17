//! Tokens for logins to Kafka by `oauthbearer`: fetched with the program's own credentials, as RFC 6749 says in section
//! 4.4, from the token endpoint that the configuration names.
//!
//! It must not know Kafka's client. The surprising thing: that client asks wherever its events happen to be served, on
//! a thread of its own or inside our runtime, and wants an answer at once. So one token serves all clients of the
//! process, it is fetched on a thread apart, and only the first call and one in each life of a token wait for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_schemas::bounded;
use headgate_schemas::stream::kafka::{Bearer, Token};
use headgate_schemas::{Timestamp, time};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// Longest wait for a token.
const LONGEST: Duration = Duration::from_secs(5);
/// Longest file of certificates.
const CA_FILE_BYTES: u64 = 1 << 20;
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;
/// How long a token is used whose end its endpoint does not tell.
const UNTOLD: Duration = Duration::from_secs(300);

/// Where tokens come from.
#[derive(Debug)]
pub(crate) struct TokenEndpoint {
    /// Its address.
    pub(crate) url: Uri,
    /// Who we are there. Also what Kafka's client is told of us.
    pub(crate) client_id: String,
    /// How we show it.
    pub(crate) client_secret: SecretString,
    /// What is asked for, with blanks between several.
    pub(crate) scope: Option<String>,
    /// Trusted certificates, PEM; without it those that browsers trust.
    pub(crate) ca_file: Option<PathBuf>,
}

/// The token of this process.
pub(crate) struct Tokens {
    endpoint: TokenEndpoint,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: Token,
    /// From when on another one is fetched.
    renew: Timestamp,
}

/// Why there is no token. Says nothing of what was sent or answered.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the file of trusted certificates cannot be used: {0}; name a readable file in PEM form in token_ca_file")]
    Authority(String),
    #[error("it cannot be reached: {0}; check token_url, token_ca_file and the network")]
    Unreachable(String),
    #[error("it did not answer within {} s; check token_url and the network", LONGEST.as_secs())]
    Late,
    #[error("it answered {0}; check client_id, its secret and the scope")]
    Refused(u16),
    #[error("it answered with something that is no token; check token_url")]
    Foreign,
    #[error("no thread could be started for it")]
    Thread,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// Tokens of `endpoint`; none is fetched yet.
    pub(crate) const fn new(endpoint: TokenEndpoint) -> Self {
        Self { endpoint, kept: Mutex::new(None) }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Bearer for Tokens {
    fn token(&self) -> Result<Token, String> {
        let now = time::now();
        // Whoever asks meanwhile waits for the same token.
        let mut kept = self.kept.lock();
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.renew) {
            return Ok(kept.token.clone());
        }
        // A runtime must not be waited for on one of its own threads.
        let fetched = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("kafka-token".to_owned());
            let fetch = thread.spawn_scoped(scope, || self.endpoint.fetch(now)).map_err(|_| TokenError::Thread)?;
            fetch.join().unwrap_or(Err(TokenError::Thread))
        });
        match (fetched, kept.as_ref()) {
            (Ok(fetched), _) => {
                let token = fetched.token.clone();
                *kept = Some(fetched);
                Ok(token)
            }
            // It is asked for again before that one ends.
            (Err(_), Some(kept)) if now < kept.token.expires => Ok(kept.token.clone()),
            (Err(error), _) => Err(format!("no token from {}: {error}", host(&self.endpoint.url))),
        }
    }
}

fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default()
}

impl TokenEndpoint {
    fn fetch(&self, now: Timestamp) -> Result<Kept, TokenError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| TokenError::Thread)?;
        let asked = runtime.block_on(async { tokio::time::timeout(LONGEST, self.ask()).await });
        let Answer { access_token, expires_in } = asked.map_err(|_| TokenError::Late)??;
        let life = expires_in.map_or(UNTOLD, Duration::from_secs);
        let token =
            Token { value: SecretString::from(access_token), principal: self.client_id.clone(), expires: now + life };
        // Kafka's client asks when four fifths of a life are over: by then there is to be a new one.
        Ok(Kept { token, renew: now + life * 7 / 10 })
    }

    async fn ask(&self) -> Result<Answer, TokenError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(self.tls()?).https_or_http().enable_http1().build();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let unreachable = |error: &dyn std::error::Error| {
            TokenError::Unreachable(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        };
        let response = client.request(self.request()?).await.map_err(|error| unreachable(&error))?;
        if !response.status().is_success() {
            return Err(TokenError::Refused(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| TokenError::Foreign)?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| TokenError::Foreign)
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, TokenError> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form = match &self.scope {
            Some(scope) => format!("grant_type=client_credentials&scope={}", escaped(scope)),
            None => "grant_type=client_credentials".to_owned(),
        };
        // RFC 6749, section 2.3.1: both parts are escaped before they are joined.
        let login = format!("{}:{}", escaped(&self.client_id), escaped(self.client_secret.expose_secret()));
        let mut login =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(login))).map_err(|_| TokenError::Foreign)?;
        login.set_sensitive(true);
        Request::post(&self.url)
            .header(AUTHORIZATION, login)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|_| TokenError::Foreign)
    }

    fn tls(&self) -> Result<ClientConfig, TokenError> {
        let refused = |error: &dyn fmt::Display| TokenError::Authority(error.to_string());
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                let pem = bounded::read(file, CA_FILE_BYTES).map_err(|problem| refused(&problem))?;
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate.map_err(|e| refused(&e))?).map_err(|e| refused(&e))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| refused(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }
}
