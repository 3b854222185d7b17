//! Seeds made of the gateway's vectors: each recorded call for its provider, and some as they were captured.

use headgate_foreign::webhook;
use serde_json::Value;

use super::{in_crate, updating};

/// Files of vectors and the targets that get their calls.
const FILES: [(&str, &str); 8] = [
    ("hubspot", "hubspot"),
    ("salesforce-outbound", "salesforce"),
    ("dataverse", "dynamics"),
    ("pipedrive", "pipedrive"),
    ("standard-webhooks", "native"),
    ("x-hub-signature-256", "hub-signature-256"),
    ("t-v1", "t-v1"),
    ("cloudevents", "cloudevents"),
];
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

#[test]
fn the_seeds_are_those_of_the_vectors() {
    for (file, target) in FILES {
        let text = std::fs::read_to_string(in_crate(&format!("../../gateway/tests/vectors/{file}.json"))).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
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
}

fn check(path: &str, seed: &[u8]) {
    let path = in_crate(path);
    if updating() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, seed).unwrap();
    }
    let written = std::fs::read(&path).unwrap_or_default();
    assert!(written == seed, "{}: run UPDATE_SEEDS=1 cargo test -p headgate-foreign", path.display());
}
