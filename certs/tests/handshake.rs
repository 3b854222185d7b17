//! The files are used as a server and a client use them: read back, and shaken hands with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headgate_certs::{Bundle, FILES, MakeError, Request, WriteError, make, write};
use headgate_schemas::{Timestamp, time};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

fn request() -> Request {
    Request {
        server_names: vec!["hooks.test".to_owned(), "127.0.0.1".to_owned()],
        client_name: "sender".to_owned(),
        days: 2,
    }
}

fn bundle(now: Timestamp) -> Bundle {
    make(&request(), now).unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Certificate and key from the files called `name`.
fn identity(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_file(folder.join(format!("{name}-key.pem"))).unwrap())
}

fn roots(folder: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    Arc::new(roots)
}

/// Shakes hands in memory: the server of `folder` shows `server`, the client trusts `trusted` and shows `client`.
fn handshake(folder: &Path, trusted: &Path, server: &str, client: &str, host: &str) -> Result<(), rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(folder), provider()).build().unwrap();
    let (chain, key) = identity(folder, server);
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let (chain, key) = identity(folder, client);
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trusted))
        .with_client_auth_cert(chain, key)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), host)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn written(now: Timestamp) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&bundle(now), folder.path(), false).unwrap();
    folder
}

#[test]
fn server_and_client_trust_each_other_under_every_name() {
    let folder = written(time::now());
    for host in ["hooks.test", "127.0.0.1"] {
        assert_eq!(handshake(folder.path(), folder.path(), "server", "client", host), Ok(()));
    }
}

#[test]
fn another_name_another_authority_and_another_use_are_refused() {
    let (folder, other) = (written(time::now()), written(time::now()));
    let (ours, theirs) = (folder.path(), other.path());
    assert!(handshake(ours, ours, "server", "client", "other.test").is_err());
    assert!(handshake(ours, theirs, "server", "client", "hooks.test").is_err());
    assert!(handshake(ours, ours, "client", "client", "hooks.test").is_err());
    assert!(handshake(ours, ours, "server", "server", "hooks.test").is_err());
}

#[test]
fn the_certificates_expire_and_are_not_valid_ahead_of_time() {
    let day = Duration::from_hours(24);
    for (made, good) in [
        (time::now() - day, true),
        (time::now() - 3 * day, false),
        (time::now() + day, false),
        (time::now() + Duration::from_mins(50), true),
    ] {
        let folder = written(made);
        let result = handshake(folder.path(), folder.path(), "server", "client", "hooks.test");
        assert_eq!(result.is_ok(), good, "{result:?}");
    }
}

#[test]
fn keys_are_for_their_owner_only() {
    let folder = written(time::now());
    for name in FILES {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        // Whatever the process masks out of the certificates' mode, a key has exactly this one.
        match name.contains("key") {
            true => assert_eq!(mode, 0o600, "{name}"),
            false => assert_eq!(mode & 0o600, 0o600, "{name}"),
        }
    }
}

#[test]
fn an_existing_file_stops_it_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(inner.join("client-key.pem"), "precious").unwrap();
    let first = bundle(time::now());
    assert!(matches!(write(&first, &inner, false), Err(WriteError::Exists(path)) if path.ends_with("client-key.pem")));
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(inner.join("client-key.pem")).unwrap(), "precious");
    write(&first, &inner, true).unwrap();
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 6);
    assert_eq!(std::fs::read_to_string(inner.join("client-key.pem")).unwrap(), first.client.key);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let now = Timestamp::from_secs(1_767_268_798);
    assert!(matches!(make(&Request { server_names: vec![], ..request() }, now), Err(MakeError::NoName)));
    assert!(matches!(make(&Request { days: 0, ..request() }, now), Err(MakeError::NoDays)));
    let strange = Request { server_names: vec!["größe.test".to_owned()], ..request() };
    assert!(matches!(make(&strange, now), Err(MakeError::Refused { part: "server", .. })));
}

#[test]
fn debug_output_shows_no_key() {
    let bundle = bundle(Timestamp::from_secs(1_767_268_798));
    assert!(bundle.server.key.contains("PRIVATE KEY"));
    assert!(!format!("{bundle:?}").contains("PRIVATE KEY"));
}

#[test]
fn the_program_writes_names_and_refuses_to_repeat_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_headgate-certs");
        Command::new(program).arg(folder.path().join("new")).args(arguments).output().unwrap()
    };
    let first = run(&["--name", "hooks.test"]);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(String::from_utf8(first.stdout).unwrap().lines().count(), 6);
    let path = folder.path().join("new");
    assert_eq!(handshake(&path, &path, "server", "client", "hooks.test"), Ok(()));
    assert!(handshake(&path, &path, "server", "client", "localhost").is_err());
    let second = run(&[]);
    assert!(!second.status.success());
    assert!(String::from_utf8(second.stderr).unwrap().contains("exists already"));
    assert!(run(&["--force"]).status.success());
    assert_eq!(handshake(&path, &path, "server", "client", "localhost"), Ok(()));
}
