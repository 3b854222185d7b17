//! The example of the README, carried out: what is written there is what is compiled here, passes its recorded calls and
//! answers. The surprising thing: it stands in the registry like any provider, in the tests of this crate alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::Memory;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ProviderName;
use crate::config::{Credential, EndpointConfig, GatewayConfig, Owner, Owners};
use crate::foreign::try_call;
use crate::vectors::run_file;

const README: &str = include_str!("../../../README.md");
const CODE: &str = include_str!("acme.rs");
const REGISTRY: &str = include_str!("registry.rs");
const VECTORS: &str = include_str!("acme.json");
/// The line of the registry.
const LINE: &str = "Acme = \"acme\", super::acme::Acme;";

#[test]
fn the_readme_shows_what_is_compiled() {
    assert!(README.contains(&format!("```rust\n{CODE}```\n")), "the example of the README is not acme.rs");
    assert!(README.contains(LINE) && REGISTRY.contains(LINE));
    // What it is besides stands nowhere: no other file of the program knows it.
    assert_eq!(
        (ProviderName::Acme.as_str(), ProviderName::of_scheme("acme-token")),
        ("acme", Some(ProviderName::Acme))
    );
}

#[test]
fn its_recorded_calls_come_out_as_they_should() {
    let report = run_file(VECTORS);
    assert_eq!((report.failed, report.passed), (Vec::new(), 6));
    let turned = VECTORS.replace("\"reject\"", "\"accept\"");
    assert_eq!(run_file(&turned).failed.len(), 4);
}

#[test]
fn what_holds_of_every_body_holds_of_its_bodies() {
    let file: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let body = case["body"].as_str().unwrap().as_bytes();
        for end in 0..=body.len() {
            let found = try_call(ProviderName::Acme, "/in/acme/k", &[("x-acme-token", b"t")], &body[..end]);
            // A connection of its own and, by account, none: whose the events are does not stand in them.
            assert_eq!(found, Ok(if end == body.len() { 2 } else { 0 }), "{}", case["name"]);
        }
    }
}

#[tokio::test]
async fn it_answers() {
    let secret = Credential::Secrets(vec!["acme-token".into()]);
    let kind = (ProviderName::Acme, ProviderName::Acme.system());
    let endpoint = EndpointConfig::new("acme", "k", kind, Owners::One(Owner::default()), secret);
    let config = GatewayConfig::new(([127, 0, 0, 1], 0).into(), vec![endpoint]);
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let sink = Arc::new(Memory::new(1));
    let gateway = crate::start(config, sink, &mut Registry::default(), &shutdown).await.unwrap();
    assert_eq!(posted(gateway.local_addr(), "acme-token").await, "204");
    assert_eq!(posted(gateway.local_addr(), "another").await, "401");
    shutdown.drain().await.unwrap();
}

/// The status of a call that shows a token.
async fn posted(at: SocketAddr, token: &str) -> String {
    let body =
        r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"Renée"}}"#;
    let head =
        format!("POST /in/acme/k HTTP/1.1\r\nHost: h\r\nX-Acme-Token: {token}\r\nContent-Length: {}", body.len());
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    String::from_utf8_lossy(&status[9..]).into_owned()
}
