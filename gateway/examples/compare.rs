//! One refused call whose signature is wrong at a chosen place, for counting the instructions of its comparison:
//! `compare SCHEME PLACE`, the place in two digits from 00 (first) to 99 (last). `gateway/tests/compare.sh` runs it under
//! valgrind and compares the counts.
//!
//! The surprising thing: one letter becomes another letter of its case, and nothing here takes another way for another
//! place, because decoding may tell digits from letters, and it is only the comparison that must tell nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measuring tool ends by panicking")]

use headgate_gateway::vectors::explain;
use headgate_schemas::Timestamp;
use serde_json::Value;

/// File, header, and the length of what stands before the signature in it.
fn scheme(name: &str) -> (&'static str, &'static str, usize) {
    match name {
        "hubspot-v3" => (include_str!("../tests/vectors/hubspot.json"), "X-HubSpot-Signature-v3", 0),
        "standard-webhooks" => (include_str!("../tests/vectors/standard-webhooks.json"), "webhook-signature", 3),
        "x-hub-signature-256" => (include_str!("../tests/vectors/x-hub-signature-256.json"), "X-Hub-Signature-256", 7),
        "http-basic" => (include_str!("../tests/vectors/pipedrive.json"), "Authorization", 6),
        other => panic!("no scheme {other}"),
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("SCHEME");
    let place: usize = arguments.next().expect("PLACE").parse().expect("a number");
    let (file, header, prefix) = scheme(&name);
    let file: Value = serde_json::from_str(file).unwrap();
    let accepted = |case: &&Value| {
        case["scheme"] == name.as_str() && case["expect"] == "accept" && case["headers"][header].is_string()
    };
    let mut case = file["cases"].as_array().unwrap().iter().find(accepted).expect("an accepted case").clone();
    let mut signature = case["headers"][header].as_str().unwrap().as_bytes().to_vec();
    let text = &signature[prefix..];
    let lower = text.iter().all(|byte| !byte.is_ascii_uppercase());
    let letters = if lower { b'b'..=b'z' } else { b'B'..=b'Z' };
    let places: Vec<usize> = (0..text.len()).filter(|at| letters.contains(&text[*at])).collect();
    signature[prefix + places[place * (places.len() - 1) / 99]] = if lower { b'a' } else { b'A' };
    case["headers"][header] = String::from_utf8(signature).unwrap().into();
    let explanation = explain(&case.to_string(), Timestamp::from_millis(0)).unwrap();
    assert!(!explanation.accepted, "the call must be refused");
}
