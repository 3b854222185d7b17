//! Seeds made of the gateway's vectors: each recorded call for its provider, and some as they were captured.

use std::collections::BTreeSet;

use headgate_foreign::webhook;
use headgate_gateway::config::ProviderName;
use serde_json::Value;

use super::{files, in_crate, updating};

/// Longer bodies teach nothing that shorter ones do not.
const LONGEST: usize = 4_000;
/// Captured calls of each file.
const CAPTURED: usize = 5;

fn seed(case: &Value) -> Option<Vec<u8>> {
    let body = case["body"].as_str()?;
    let headers = case["headers"].as_object()?.iter().flat_map(|(name, values)| match values {
        Value::Array(values) => values.iter().filter_map(|v| Some((name.as_str(), v.as_str()?))).collect(),
        value => value.as_str().map(|value| (name.as_str(), value)).into_iter().collect::<Vec<_>>(),
    });
    (body.len() <= LONGEST).then(|| webhook::write(case["url"].as_str().unwrap_or_default(), headers, body.as_bytes()))
}

/// Whose recorded calls stand in a file; nobody's, where it holds something else.
fn provider(cases: &[Value]) -> Option<ProviderName> {
    cases.iter().find_map(|case| match case["mode"].is_string() {
        true => Some(ProviderName::Cloudevents),
        false => ProviderName::of_scheme(case["scheme"].as_str()?),
    })
}

#[test]
fn the_seeds_are_those_of_the_vectors() {
    let mut found = BTreeSet::new();
    for (file, text) in files(&in_crate("../../gateway/tests/vectors")) {
        let file = file.strip_suffix(".json").unwrap();
        let vectors: Value = serde_json::from_slice(&text).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        let Some(target) = provider(cases).map(ProviderName::as_str) else { continue };
        found.insert(target);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            if let Some(seed) = seed(case) {
                check(&format!("seeds/{target}/vector-{name}.http"), &seed);
            }
        }
        let short = cases.iter().filter(|case| seed(case).is_some() && case["scheme"].is_string());
        for case in short.take(CAPTURED) {
            let name = case["name"].as_str().unwrap();
            check(&format!("seeds/captured/{file}-{name}.json"), case.to_string().as_bytes());
        }
    }
    assert_eq!(found, ProviderName::ALL.iter().map(|name| name.as_str()).collect());
}

fn check(path: &str, seed: &[u8]) {
    let path = in_crate(path);
    if updating() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, seed).unwrap();
    }
    let written = std::fs::read(&path).unwrap_or_default();
    assert!(written == seed, "{}: run UPDATE_SEEDS=1 cargo test -p headgate-foreign vectors", path.display());
}
