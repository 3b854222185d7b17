//! TLS: the certificate the gateway shows, taken up again when its files change, and the client certificates that some
//! endpoints ask for.
//!
//! It must not know HTTP. The surprising thing: a client certificate cannot be demanded in the handshake, since the
//! endpoint is known only from the request. So every client may show one, and an endpoint that asks for one refuses
//! the call of a client that showed none of its authority.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::bounded;
use headgate_schemas::shutdown::Shutdown;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::metrics::{Metrics, Reloaded};
use crate::peer::Peer;

/// Longest file: a chain has a few certificates, the bundle of a system some hundreds.
const FILE_BYTES: u64 = 1 << 20;

/// Why TLS cannot be spoken. Names files, never what stands in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or not to its end.
    #[error("{} {problem}; name a readable PEM file", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{} holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// Certificate and key do not make an identity together.
    #[error("{} and {} do not belong together: {source}", cert.display(), key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// An authority cannot check clients.
    #[error("{} cannot check client certificates; name the authority that signs them", .0.display())]
    Authority(PathBuf),
}

/// Checks the client certificates of one endpoint.
pub(crate) struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAuthority")
    }
}

impl ClientAuthority {
    /// From the file of an endpoint. Adds its roots to `union`, by which the handshake checks.
    pub(crate) fn load(file: &Path, union: &mut RootCertStore) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(file, &read(file)?)? {
            roots.add(certificate.clone()).map_err(|_| TlsError::Authority(file.to_owned()))?;
            union.add(certificate).map_err(|_| TlsError::Authority(file.to_owned()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        verifier.map(Self).map_err(|_| TlsError::Authority(file.to_owned()))
    }

    /// Whether the peer showed a certificate of this authority, valid at `now`. Asked for each request: these endpoints
    /// have few, and a certificate may expire while its connection stays open.
    pub(crate) fn vouches_for(&self, peer: &Peer, now: Duration) -> bool {
        let Some((own, chain)) = peer.certificates.split_first() else { return false };
        self.0.verify_client_cert(own, chain, UnixTime::since_unix_epoch(now)).is_ok()
    }
}

/// The identity shown to clients.
pub(crate) struct Tls {
    config: TlsConfig,
    clients: Arc<RootCertStore>,
    current: Mutex<Current>,
}

struct Current {
    files: [String; 2],
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files. `clients` are the authorities of all endpoints that ask for client certificates.
    pub(crate) fn load(config: TlsConfig, clients: RootCertStore) -> Result<Self, TlsError> {
        let clients = Arc::new(clients);
        let files = [read(&config.cert_file)?, read(&config.key_file)?];
        let server = server(&config, &files, &clients)?;
        Ok(Self { config, clients, current: Mutex::new(Current { files, server }) })
    }

    /// What the next handshake uses. Connections keep what they began with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.lock().server))
    }

    /// Takes up changed files; tells whether there was anything to take up. On an error the old identity stays.
    /// Blocks while it reads.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let files = [read(&self.config.cert_file)?, read(&self.config.key_file)?];
        if self.current.lock().files == files {
            return Ok(false);
        }
        let server = server(&self.config, &files, &self.clients)?;
        *self.current.lock() = Current { files, server };
        Ok(true)
    }

    /// Looks for changed files until the stop.
    pub(crate) async fn watch(self: Arc<Self>, metrics: Metrics, shutdown: Shutdown) {
        let mut looks = tokio::time::interval(self.config.reload.max(Duration::from_secs(1)));
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                _ = looks.tick() => {}
            }
            let this = Arc::clone(&self);
            let reloaded = tokio::task::spawn_blocking(move || this.reload()).await;
            let result = match reloaded {
                Ok(Ok(false)) | Err(_) => continue,
                Ok(Ok(true)) => {
                    tracing::info!("the certificate was replaced; open connections keep the old one");
                    "ok"
                }
                // Certificate and key are two files: between the two writes they do not fit, and the next look mends it.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the certificate was not replaced and the old one stays");
                    "failed"
                }
            };
            metrics.tls_reloads.get_or_create(&Reloaded { result }).inc();
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server(
    config: &TlsConfig,
    files: &[String; 2],
    clients: &Arc<RootCertStore>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let [certificate, key] = files;
    let chain = certificates(&config.cert_file, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::NoKey(config.key_file.clone()))?;
    let identity = |source| TlsError::Identity { cert: config.cert_file.clone(), key: config.key_file.clone(), source };
    // Versions 1.2 and 1.3: the safe defaults of the library have no older ones and no weak suites.
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(identity)?;
    let builder = if clients.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(clients), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|_| TlsError::Authority(config.cert_file.clone()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut server = builder.with_single_cert(chain, key).map_err(identity)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn read(file: &Path) -> Result<String, TlsError> {
    bounded::read(file, FILE_BYTES).map_err(|problem| TlsError::Read { file: file.to_owned(), problem })
}

fn certificates(file: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate(file.to_owned());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}
