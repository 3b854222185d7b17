//! Foreign bytes from seeds: every body of the vectors and of the golden calls, as it is and damaged in a way that a
//! number decides, so that a failure can be run again. The same function is fuzzed under coverage by command.

use headgate_gateway::config::ProviderName;
use headgate_gateway::foreign::try_call;

use super::checks::{BODY, NATIVE_BODY, NOTIFICATION};
use super::harness::salesforce_envelope;

/// Damages of each seed and provider.
const DAMAGES: u64 = 60;
/// What is put in: ends of structures, odd numbers and texts, and names that lead somewhere.
const TOKENS: [&[u8]; 26] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"true",
    b"-1",
    b"1e9",
    b"99999999999999999999999999",
    b"\"\\ud800\"",
    b"\xff",
    b"\0",
    b"<",
    b"</",
    b"/>",
    b"&amp;",
    b"&#0;",
    b"]]>",
    b"<!DOCTYPE a>",
    b"/Date(9999999999999999)/",
    b"\"0xFFFFFFFFFFFF\"",
    b"2026-01-01T00:00:00Z",
    b"\xf0\x9f\x98\x80",
];

const VECTORS: [&str; 9] = [
    include_str!("../vectors/hubspot.json"),
    include_str!("../vectors/standard-webhooks.json"),
    include_str!("../vectors/salesforce-outbound.json"),
    include_str!("../vectors/salesforce-cdc-bitmaps.json"),
    include_str!("../vectors/dataverse.json"),
    include_str!("../vectors/pipedrive.json"),
    include_str!("../vectors/x-hub-signature-256.json"),
    include_str!("../vectors/t-v1.json"),
    include_str!("../vectors/cloudevents.json"),
];

/// Every body of the files, once, and one of each golden kind.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for file in VECTORS {
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let bodies = file["cases"].as_array().unwrap().iter().filter_map(|case| case["body"].as_str());
        // The one with a hundred and one notifications would take all the time.
        seeds.extend(bodies.filter(|body| body.len() < 20_000).map(|body| body.as_bytes().to_vec()));
    }
    seeds.extend([BODY, NATIVE_BODY, &salesforce_envelope(NOTIFICATION)].map(|body| body.as_bytes().to_vec()));
    seeds.push(br#"{"ChangeEventHeader":{"entityName":"Contact","recordIds":["0035g00000AbCdE"],"changeType":"UPDATE","transactionKey":"k","sequenceNumber":1,"commitTimestamp":1767268798412,"changedFields":["0x02"],"nulledFields":[]},"Title":"CTO","Name":{"FirstName":"A"}}"#.to_vec());
    seeds.sort();
    seeds.dedup();
    seeds
}

fn damaged(seed: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=body.len());
        match random.u8(..6) {
            0 if at < body.len() => body[at] ^= 1 << random.u8(..8),
            1 => body.truncate(at),
            2 if at < body.len() => drop(body.remove(at)),
            3 => {
                let end = random.usize(at..=body.len());
                let part = body[at..end].to_vec();
                body.splice(at..at, part);
            }
            4 => drop(body.drain(at..random.usize(at..=body.len()))),
            _ => drop(body.splice(at..at, TOKENS[random.usize(..TOKENS.len())].iter().copied())),
        }
        body.truncate(200_000);
    }
    body
}

fn headers(random: &mut fastrand::Rng) -> Vec<(&'static str, &'static [u8])> {
    const NAMES: [&str; 12] = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-hubspot-signature-v3",
        "x-hubspot-request-timestamp",
        "authorization",
        "content-type",
        "ce-id",
        "ce-type",
        "ce-specversion",
        "stripe-signature",
        "x-hub-signature-256",
    ];
    const VALUES: [&[u8]; 12] = [
        b"m_1",
        b"1767268800",
        b"1767268800000",
        b"v1,AAAA",
        b"Basic Og==",
        b"Bearer x",
        b"1.0",
        b"%C0%A0",
        b"\"a\\\"b\"",
        b"t=1,v1=00",
        b"application/cloudevents+json",
        b"application/cloudevents-batch+json",
    ];
    (0..random.usize(..8)).map(|_| (NAMES[random.usize(..12)], VALUES[random.usize(..12)])).collect()
}

/// Runs one call; the seed of a failure is in its message.
fn run(name: ProviderName, url: &str, headers: &[(&str, &[u8])], body: &[u8], what: impl Fn() -> String) -> usize {
    match try_call(name, url, headers, body) {
        Ok(found) => found,
        Err(broken) => panic!("{broken}: {} {}", name.as_str(), what()),
    }
}

#[test]
fn the_seeds_are_read_by_their_providers() {
    let id: [(&str, &[u8]); 1] = [("webhook-id", b"m_1")];
    for (name, body) in
        [(ProviderName::Hubspot, BODY), (ProviderName::Native, NATIVE_BODY), (ProviderName::TV1, NATIVE_BODY)]
    {
        assert!(run(name, "/in", &id, body.as_bytes(), || "as it is".to_owned()) > 0, "{}", name.as_str());
    }
    let found: usize = seeds()
        .iter()
        .map(|body| ProviderName::ALL.map(|name| run(name, "/in", &id, body, String::new)).iter().sum::<usize>())
        .sum();
    assert!(found > 40, "{found}: most seeds mean something to somebody");
}

#[test]
fn damaged_calls_are_read_or_refused_and_nothing_else() {
    for (number, seed) in seeds().iter().enumerate() {
        for damage in 0..DAMAGES {
            let random = &mut fastrand::Rng::with_seed(number as u64 * 1_000 + damage);
            let body = damaged(seed, random);
            let headers = headers(random);
            let url = ["/in", "/in?code=%", "/in?access_token=x&access_token=y"][random.usize(..3)];
            for name in ProviderName::ALL {
                run(name, url, &headers, &body, || format!("seed {number} damage {damage}"));
            }
        }
    }
}
