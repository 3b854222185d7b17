//! Senders that sign like many others do: `X-Hub-Signature-256`, and a header of the form `t=…,v1=…`. Their bodies are
//! events in the native form.
//!
//! Facts come from GitHub's "Validating webhook deliveries" and Stripe's "Verify webhook signatures manually". It must
//! not know how an event is read. The surprising thing: both take the secret as text, whatever it looks like; a prefix
//! that Standard Webhooks would take off belongs to it here.

use std::time::Duration;

use headgate_schemas::Timestamp;
use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use super::{Answer, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed, native};
use crate::signature::{self, Keys, Refusal};

/// As long as the native form, since such senders retry for about as long.
const REMEMBERED_FOR: Duration = Duration::from_secs(76 * 3_600);
/// Signatures looked at in one header.
const SIGNATURES: usize = 8;

const HUB_SIGNATURE: &str = "x-hub-signature-256";
const HUB_DELIVERY: &str = "x-github-delivery";
const T_V1_SIGNATURE: &str = "stripe-signature";

/// Senders of `X-Hub-Signature-256`. The signature covers no time, so a repeat is only known by its id.
pub(crate) struct HubSignature256;

impl Provider for HubSignature256 {
    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::timeless("x-hub-signature-256")] }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let scheme = if call.headers.contains_key(HUB_SIGNATURE) { "x-hub-signature-256" } else { "none" };
        Signed { scheme, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        let header = signature::required(call.headers, HUB_SIGNATURE)?;
        let tag = signature::lower_hex32(header.strip_prefix("sha256=").ok_or(Refusal::Malformed)?)?;
        let matches = keys.iter().any(|key| key.verify(&[call.body], &tag));
        if matches { Ok("x-hub-signature-256") } else { Err(Refusal::Mismatch) }
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        match signature::single(call.headers, HUB_DELIVERY) {
            Ok(Some(id)) if !id.is_empty() => native::read(call, endpoint, received_at, id.as_bytes()),
            Ok(_) => native::read(call, endpoint, received_at, &Sha256::digest(call.body)),
            Err(_) => Err(Malformed("the delivery id is repeated or too long")),
        }
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::NO_CONTENT)
    }
}

/// Senders of `t=…,v1=…`.
pub(crate) struct TV1;

impl Provider for TV1 {
    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::windowed("t-v1")] }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let header = signature::single(call.headers, T_V1_SIGNATURE).ok().flatten();
        let timestamp = header.and_then(|list| entries(list).find(|(name, _)| *name == "t"));
        Signed {
            scheme: if header.is_some() { "t-v1" } else { "none" },
            url: None,
            timestamp: timestamp.map(|(_, value)| value.to_owned()),
        }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, now: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        let list = signature::required(call.headers, T_V1_SIGNATURE)?;
        let mut times = entries(list).filter(|(name, _)| *name == "t");
        let (Some((_, timestamp)), None) = (times.next(), times.next()) else { return Err(Refusal::Malformed) };
        let at_s = signature::digits(timestamp)?;
        let parts: [&[u8]; 3] = [timestamp.as_bytes(), b".", call.body];
        let matches = entries(list)
            .filter(|(name, _)| *name == "v1")
            .take(SIGNATURES)
            .filter_map(|(_, tag)| signature::lower_hex32(tag).ok())
            .any(|tag| keys.iter().any(|key| key.verify(&parts, &tag)));
        if !matches {
            return Err(Refusal::Mismatch);
        }
        signature::within_window(at_s.saturating_mul(1_000), now)?;
        Ok("t-v1")
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        // The header's time is that of the attempt; the body alone is the same at each of them.
        native::read(call, endpoint, received_at, &Sha256::digest(call.body))
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::NO_CONTENT)
    }
}

fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.split(',').filter_map(|entry| entry.trim().split_once('='))
}
