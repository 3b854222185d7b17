//! Keys, rates and configurations that must not work; the checks of foreign bytes are in `checks`.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::config::{Credential, GatewayConfig, Limits, ProviderName};
use headgate_gateway::{KeyError, StartError};
use headgate_schemas::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use super::harness::{
    Bench, HUBSPOT, OLD_SECRET, SECRET, endpoint, endpoints, hubspot, hubspot_signature, limits, mac, native,
    native_public, post,
};

const BODY: &str = r#"[{"eventId":1,"subscriptionId":41,"portalId":5550123,"appId":70077,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"jobtitle","propertyValue":"CTO"}]"#;

#[tokio::test]
async fn both_live_secrets_are_accepted_and_no_other() {
    let bench = Bench::new().await;
    for (secret, expected) in [(SECRET, 204), (OLD_SECRET, 204), ("another", 401)] {
        let (signature, at) = hubspot_signature(secret, HUBSPOT, BODY.as_bytes());
        let headers = [("X-HubSpot-Signature-v3", signature.as_str()), ("X-HubSpot-Request-Timestamp", at.as_str())];
        assert_eq!(bench.send(post(HUBSPOT, &headers, BODY)).await.status, expected);
    }
}

#[tokio::test]
async fn a_public_key_checks_ed25519_and_is_never_an_hmac_secret() {
    let bench = Bench::new().await;
    let v1a = |key: &Ed25519KeyPair, content: &[u8]| format!("v1a,{}", STANDARD.encode(key.sign(content)));
    assert_eq!(bench.send(native_public(v1a, "{}")).await.status, 204);
    let after_others = |key: &Ed25519KeyPair, content: &[u8]| format!("v2,AAAA v1,AAAA {}", v1a(key, content));
    assert_eq!(bench.send(native_public(after_others, "{}")).await.status, 204);
    let confused = |key: &Ed25519KeyPair, content: &[u8]| format!("v1,{}", mac(key.public_key().as_ref(), &[content]));
    assert_eq!(bench.send(native_public(confused, "{}")).await.status, 401);
    let wrong = |key: &Ed25519KeyPair, content: &[u8]| v1a(key, &[content, b" "].concat());
    assert_eq!(bench.send(native_public(wrong, "{}")).await.status, 401);
}

#[tokio::test]
async fn a_verified_sender_that_is_too_fast_is_told_so_and_a_stranger_costs_it_nothing() {
    let bench = Bench::with(Limits { endpoint_rate: 1, ..limits() }).await;
    for _ in 0..3 {
        assert_eq!(bench.send(post(HUBSPOT, &[], BODY)).await.status, 401);
    }
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204);
    // A machine that stalls for a second may earn one more, but not a hundred of them.
    let mut replies = Vec::new();
    for _ in 0..100 {
        replies.push(bench.send(hubspot(BODY)).await);
    }
    let told = replies.iter().find(|reply| reply.status != 204).unwrap();
    assert_eq!((told.status, told.header("retry-after")), (429, Some("5")));
    assert_eq!(bench.send(native("m", "{}")).await.status, 204, "another endpoint has its own rate");
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let bench = Bench::with(Limits { connections: 1, ..limits() }).await;
    let mut first = bench.connect().await;
    assert_eq!(first.send(post("/", &[], "")).await.status, 404);
    assert_eq!(bench.connect().await.closed().await, 0);
    assert_eq!(first.send(post("/", &[], "")).await.status, 404);
    drop(first);
    // The slot comes back once the gateway has seen the end.
    bench.counted("gw_connections ", 0).await;
    assert_eq!(bench.send(post("/", &[], "")).await.status, 404);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_does_not_start() {
    let start = async |endpoints| {
        let config = GatewayConfig::new(([127, 0, 0, 1], 0).into(), endpoints);
        let bench = Bench::new().await;
        let shutdown = Shutdown::new(Duration::from_secs(1));
        headgate_gateway::start(config, bench.sink, &mut Registry::default(), &shutdown).await.map(|_| ())
    };
    let mut twice = endpoints();
    twice.push(twice[0].clone());
    assert!(matches!(start(twice).await, Err(StartError::SameKey { .. })));
    let mut keyless = endpoints();
    keyless[0].key.clear();
    assert!(matches!(start(keyless).await, Err(StartError::EmptyKey { .. })));
    for (provider, credential, expected) in [
        (ProviderName::Hubspot, Credential::None, KeyError::NeedsSecret),
        (ProviderName::Hubspot, Credential::Secrets(vec!["".into()]), KeyError::Empty),
        (ProviderName::Hubspot, Credential::Secrets(vec!["a".into(), "b".into(), "c".into()]), KeyError::TooMany),
        (ProviderName::Native, Credential::Secrets(vec!["whsec_!".into()]), KeyError::NotBase64),
        (ProviderName::Native, Credential::PublicKey("whsec_AAAA".to_owned()), KeyError::NotPublicKey),
        (ProviderName::Native, Credential::PublicKey("whpk_AAAA".to_owned()), KeyError::NotPublicKey),
    ] {
        match start(vec![endpoint("e", "/k", provider, credential)]).await {
            Err(StartError::Credential { endpoint, source }) => {
                assert_eq!((endpoint.as_str(), source), ("e", expected))
            }
            other => panic!("{other:?}"),
        }
    }
}
