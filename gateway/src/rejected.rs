//! Calls that were refused, for whoever wonders why nothing arrives: the reason, and what the call should have been.
//!
//! It must not hold a secret, a signature, a header's value apart from the signed time, the key of a path or a byte of
//! a body. The surprising thing: each endpoint has a ring of its own, and strangers share one, so a flood of nonsense
//! never pushes out the three calls that show a wrong secret.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use headgate_schemas::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// Calls kept per endpoint, and of unknown endpoints together; beyond it the oldest is forgotten.
const KEPT: usize = 50;

/// One refused call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedCall {
    /// When it came.
    pub at: Timestamp,
    /// The endpoint's name; none when the key is of no endpoint.
    pub endpoint: Option<String>,
    /// The provider in the path.
    pub provider: &'static str,
    /// Who called, as far as it is known; behind a trusted proxy whom that names.
    pub peer: Option<IpAddr>,
    /// The answer.
    pub status: u16,
    /// A fixed word, as in the metrics.
    pub reason: &'static str,
    /// The reason in words, with what to do.
    pub detail: String,
    /// What would have been accepted.
    pub expected: Option<Expected>,
    /// Bytes of the body that were read.
    pub body_bytes: usize,
}

/// What a signature must cover. The secret is the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// The scheme that the headers ask for, or `none`.
    pub scheme: &'static str,
    /// The URL as it enters the signature, its key and its query hidden.
    pub url: Option<String>,
    /// The time as the call states it.
    pub timestamp: Option<String>,
}

/// The rings. Locked for refused calls only.
#[derive(Debug, Default)]
pub(crate) struct Rejected {
    rings: Mutex<HashMap<Option<String>, VecDeque<RejectedCall>, ahash::RandomState>>,
}

impl Rejected {
    /// Keeps one call. Endpoints are bounded by the configuration, and so are the rings.
    pub(crate) fn note(&self, call: RejectedCall) {
        let mut rings = self.rings.lock();
        let ring = match rings.get_mut(&call.endpoint) {
            Some(ring) => ring,
            None => rings.entry(call.endpoint.clone()).or_default(),
        };
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(call);
    }

    /// All that are kept, the last one first.
    pub(crate) fn list(&self) -> Vec<RejectedCall> {
        let mut all: Vec<_> = self.rings.lock().values().flatten().cloned().collect();
        all.sort_by_key(|call| std::cmp::Reverse(call.at));
        all
    }
}

/// `url` without the endpoint's key and the values of its query.
pub(crate) fn hidden(url: &str, key: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, ""), |(path, _)| (path, "?…"));
    match path.strip_suffix(key) {
        Some(before) if !key.is_empty() => format!("{before}…{query}"),
        _ => format!("{path}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(endpoint: Option<&str>, at: i64) -> RejectedCall {
        RejectedCall {
            at: Timestamp::from_secs(at),
            endpoint: endpoint.map(str::to_owned),
            provider: "hubspot",
            peer: None,
            status: 401,
            reason: "signature_mismatch",
            detail: String::new(),
            expected: None,
            body_bytes: 0,
        }
    }

    #[test]
    fn a_flood_pushes_out_its_own_calls_only() {
        let rejected = Rejected::default();
        rejected.note(call(Some("app"), 1));
        (2..1_000).for_each(|at| rejected.note(call(None, at)));
        let list = rejected.list();
        assert_eq!((list.len(), list[0].at, list[50].at), (51, Timestamp::from_secs(999), Timestamp::from_secs(1)));
    }

    #[test]
    fn keys_and_queries_are_hidden() {
        assert_eq!(hidden("https://h/in/hubspot/k1", "k1"), "https://h/in/hubspot/…");
        assert_eq!(hidden("https://h/in/hubspot/k1?code=s3cret&x=1", "k1"), "https://h/in/hubspot/…?…");
        assert_eq!(hidden("https://h/in", "k1"), "https://h/in");
    }
}
