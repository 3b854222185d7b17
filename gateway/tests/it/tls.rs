//! Check 13, TLS as a client sees it: both versions of HTTP, a certificate replaced under open connections, and client
//! certificates where an endpoint asks for one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headgate_certs::{Request, make, write};
use headgate_gateway::config::{EndpointConfig, GatewayConfig, TlsConfig};
use headgate_schemas::time;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Bench, configuration, endpoints, hubspot, job_title, limits, native, within};

const EVENT: &str = r#"{"type":"contact.touched","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19"}}"#;

fn certificates(folder: &Path) {
    let request = Request { server_names: vec!["localhost".to_owned()], client_name: "sender".to_owned(), days: 2 };
    write(&make(&request, time::now()).unwrap(), folder, true).unwrap();
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    folder
}

fn config(folder: &Path, endpoints: Vec<EndpointConfig>) -> GatewayConfig {
    let file = |name: &str| folder.join(name);
    let tls = TlsConfig {
        cert_file: file("server.pem"),
        key_file: file("server-key.pem"),
        reload: Duration::from_secs(3_600),
    };
    GatewayConfig { tls: Some(tls), ..configuration(limits(), endpoints) }
}

/// What a client trusts, shows and speaks.
struct Client<'a> {
    trusts: &'a Path,
    shows: Option<PathBuf>,
    alpn: &'a [&'a [u8]],
    version: &'static SupportedProtocolVersion,
}

impl<'a> Client<'a> {
    fn new(trusts: &'a Path) -> Self {
        Self { trusts, shows: None, alpn: &[b"http/1.1"], version: &TLS13 }
    }

    async fn connect(&self, bench: &Bench) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.trusts.join("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.shows {
            Some(folder) => {
                let chain = vec![CertificateDer::from_pem_file(folder.join("client.pem")).unwrap()];
                let key = PrivateKeyDer::from_pem_file(folder.join("client-key.pem")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(bench.gateway.local_addr()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

/// Sends a call and reads the status of its answer.
async fn status(stream: &mut TlsStream<TcpStream>, call: &[u8]) -> String {
    stream.write_all(call).await.unwrap();
    let mut answer = vec![0; 4 << 10];
    let read = within(stream.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[9..12.min(read)]).into_owned()
}

#[tokio::test]
async fn check_13_both_versions_of_tls_and_of_http_are_spoken() {
    let folder = folder();
    let bench = Bench::configured(config(folder.path(), endpoints())).await;
    for version in [&TLS12, &TLS13] {
        let client = Client { version, ..Client::new(folder.path()) };
        let mut stream = client.connect(&bench).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"));
        assert_eq!(status(&mut stream, &hubspot(body)).await, "204");
    }
    let client = Client { alpn: &[b"h2", b"http/1.1"], ..Client::new(folder.path()) };
    let stream = client.connect(&bench).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    bench.shutdown.spawn("h2", connection);
    let call = hyper::Request::get("https://localhost/nowhere").body(()).unwrap();
    let (answer, _) = client.send_request(call, true).unwrap();
    assert_eq!(within(answer).await.unwrap().status(), 404);
    assert!(Client { alpn: &[b"spdy/1"], ..Client::new(folder.path()) }.connect(&bench).await.is_err());
    drop(client);
    assert_eq!(bench.shutdown.drain().await, Ok(()));
}

/// The first message of a client, by hand: its version, the suites it offers, and what TLS 1.2 needs beside them.
fn hello(version: [u8; 2], suites: &[[u8; 2]]) -> Vec<u8> {
    let suites = suites.concat();
    // Groups (P-256, X25519), point formats, signatures (ECDSA and RSA with SHA-256).
    let extensions = [
        &[0, 10, 0, 6, 0, 4, 0, 23, 0, 29][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 6, 0, 4, 4, 3, 4, 1],
        &[0xff, 1, 0, 1, 0],
    ]
    .concat();
    let body = [
        &version[..],
        &[7; 32],
        &[0],
        &u16::try_from(suites.len()).unwrap().to_be_bytes(),
        &suites,
        &[1, 0],
        &u16::try_from(extensions.len()).unwrap().to_be_bytes(),
        &extensions,
    ]
    .concat();
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length(body.len() + 4), &[1, 0], &length(body.len()), &body].concat()
}

#[tokio::test]
async fn check_13_old_versions_and_weak_suites_are_refused() {
    const MODERN: [u8; 2] = [0xc0, 0x2b];
    let folder = folder();
    let bench = Bench::configured(config(folder.path(), endpoints())).await;
    let answer = async |version, suites: &[[u8; 2]]| {
        let mut client = bench.connect().await;
        client.write(hello(version, suites)).await;
        let mut answer = [0; 7];
        within(client.stream.read_exact(&mut answer)).await.unwrap();
        (answer[0], answer[5], answer[6])
    };
    // A server hello for TLS 1.2 with ECDHE, ECDSA, AES-128-GCM; its third byte is the length.
    assert_eq!(answer([3, 3], &[MODERN]).await.0, 22);
    // A fatal alert: the version is not spoken.
    for version in [[3, 0], [3, 1], [3, 2]] {
        assert_eq!(answer(version, &[MODERN]).await, (21, 2, 70), "{version:?}");
    }
    // A fatal alert: nothing in common. RC4, triple DES, AES-CBC with and without forward secrecy, no cipher at all.
    for suite in [[0, 5], [0, 10], [0, 0x2f], [0xc0, 0x09], [0xc0, 0x13], [0, 2]] {
        assert_eq!(answer([3, 3], &[suite]).await, (21, 2, 40), "{suite:?}");
    }
}

#[tokio::test]
async fn check_13_what_is_no_tls_is_cut_and_a_silent_client_as_well() {
    let folder = folder();
    let mut config = config(folder.path(), endpoints());
    config.limits.header_timeout = Duration::from_millis(100);
    let bench = Bench::configured(config).await;
    for said in ["", "\u{16}", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut client = bench.connect().await;
        client.write(said).await;
        client.closed().await;
    }
    bench.counted("gw_connections ", 0).await;
}

#[tokio::test]
async fn check_13_a_new_certificate_is_shown_to_new_connections_and_open_ones_live_on() {
    let (folder, before) = (folder(), tempfile::tempdir().unwrap());
    std::fs::copy(folder.path().join("ca.pem"), before.path().join("ca.pem")).unwrap();
    let bench = Bench::configured(config(folder.path(), endpoints())).await;
    let (old, new) = (Client::new(before.path()), Client::new(folder.path()));
    let mut open = old.connect(&bench).await.unwrap();
    assert_eq!(status(&mut open, &native("m1", EVENT)).await, "204");
    assert!(!bench.gateway.reload_certificate().unwrap(), "nothing changed");

    certificates(folder.path());
    assert!(bench.gateway.reload_certificate().unwrap());
    assert_eq!(status(&mut open, &native("m2", EVENT)).await, "204");
    assert!(old.connect(&bench).await.is_err(), "the old authority did not sign the new certificate");
    let mut fresh = new.connect(&bench).await.unwrap();
    assert_eq!(status(&mut fresh, &native("m3", EVENT)).await, "204");

    // A key that does not belong to the certificate changes nothing.
    std::fs::copy(folder.path().join("client-key.pem"), folder.path().join("server-key.pem")).unwrap();
    assert!(bench.gateway.reload_certificate().is_err());
    std::fs::remove_file(folder.path().join("server-key.pem")).unwrap();
    assert!(bench.gateway.reload_certificate().is_err());
    // And a file that never ends is not waited for.
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("server-key.pem")).unwrap();
    let problem = bench.gateway.reload_certificate().unwrap_err().to_string();
    assert!(problem.ends_with("is longer than 1048576 bytes; name a readable PEM file"), "{problem}");
    assert!(new.connect(&bench).await.is_ok());
}

#[tokio::test]
async fn check_13_only_the_endpoint_that_asks_for_a_client_certificate_needs_one() {
    let (folder, other) = (folder(), folder());
    let mut endpoints = endpoints();
    // The first is HubSpot's; the second, Standard Webhooks, asks.
    endpoints[1].client_ca_file = Some(folder.path().join("ca.pem"));
    let bench = Bench::configured(config(folder.path(), endpoints)).await;
    let event = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO"));

    let mut without = Client::new(folder.path()).connect(&bench).await.unwrap();
    assert_eq!(status(&mut without, &hubspot(&event)).await, "204");
    assert_eq!(status(&mut without, &native("m", EVENT)).await, "401");
    assert_eq!(bench.gateway.rejected()[0].reason, "client_certificate");
    let ours = Client { shows: Some(folder.path().to_owned()), ..Client::new(folder.path()) };
    let mut with = ours.connect(&bench).await.unwrap();
    assert_eq!(status(&mut with, &native("m", EVENT)).await, "204");
    assert_eq!(status(&mut with, &hubspot(&event)).await, "204");
    // One of another authority does not even pass the handshake; with TLS 1.3 the client learns it when it reads.
    let theirs = Client { shows: Some(other.path().to_owned()), ..Client::new(folder.path()) };
    if let Ok(mut stream) = theirs.connect(&bench).await {
        stream.write_all(&native("m2", EVENT)).await.ok();
        assert!(!matches!(within(stream.read(&mut [0; 16])).await, Ok(1..)));
    }
    assert_eq!(bench.sink.records().len(), 2);
}
