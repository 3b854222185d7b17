//! HubSpot webhooks: signatures v1, v2, v3 and the events of both naming generations.
//!
//! Facts come from HubSpot's developer documentation, "Validating requests from HubSpot" and "Webhooks API", and its
//! public API specification collection (Webhooks v3 and 2026-09). It must not know any other provider. The surprising
//! thing: v3 signs a URL in which exactly twelve escapes are decoded, once, wherever they stand; `%20`, `%25`, `%26`,
//! `%2B`, `%3D` and `%23` stay as they are.

use std::borrow::Cow;
use std::time::Duration;

use headgate_schemas::{System, Timestamp};
use hyper::StatusCode;
use serde::de::IgnoredAny;

use super::{Answer, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed};
use crate::signature::{self, Keys, Refusal, SharedKey};

mod event;
mod kind;
mod raw;
mod workflow;

const SIGNATURE: &str = "x-hubspot-signature";
const SIGNATURE_VERSION: &str = "x-hubspot-signature-version";
const SIGNATURE_V3: &str = "x-hubspot-signature-v3";
const TIMESTAMP: &str = "x-hubspot-request-timestamp";

/// "Webhooks API": a request is retried for up to 24 hours; two more for clocks and queues.
const REMEMBERED_FOR: Duration = Duration::from_secs(26 * 3_600);

/// HubSpot as a provider.
pub(crate) struct Hubspot;

impl Provider for Hubspot {
    fn system(&self) -> System {
        System::Hubspot
    }

    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::windowed("hubspot-v3"), Scheme::windowed("hubspot-v2"), Scheme::windowed("hubspot-v1")] }
    }

    fn body_bytes(&self) -> Option<usize> {
        // 100 events of which each may carry a property of its largest size.
        Some(5 << 20)
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let text = |name| signature::single(call.headers, name).ok().flatten();
        if call.headers.contains_key(SIGNATURE_V3) {
            let url = Some(decode(call.url).into_owned());
            return Signed { scheme: "hubspot-v3", url, timestamp: text(TIMESTAMP).map(str::to_owned) };
        }
        match (call.headers.contains_key(SIGNATURE), text(SIGNATURE_VERSION)) {
            (true, Some("v1")) => Signed { scheme: "hubspot-v1", url: None, timestamp: None },
            (true, Some("v2")) => Signed { scheme: "hubspot-v2", url: Some(call.url.to_owned()), timestamp: None },
            _ => Signed { scheme: "none", url: None, timestamp: None },
        }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, now: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        // The strong header decides alone: present and wrong is never retried with a weaker one.
        if let Some(tag) = signature::single(call.headers, SIGNATURE_V3)? {
            return verify_v3(call, keys, tag, endpoint.config.raw_url_fallback, now);
        }
        let tag = signature::required(call.headers, SIGNATURE)?;
        let version = signature::required(call.headers, SIGNATURE_VERSION)?;
        if !endpoint.config.allow_legacy {
            return Err(Refusal::Legacy);
        }
        verify_legacy(call, keys, tag, version)
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        if workflow::is_action(call.body) && endpoint.config.allow_legacy {
            return workflow::read(call, &endpoint.config, received_at);
        }
        event::read(call, &endpoint.config, received_at)
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::NO_CONTENT)
    }
}

fn verify_v3(
    call: &Call<'_>,
    keys: &[SharedKey],
    tag: &str,
    raw_url_fallback: bool,
    now: Timestamp,
) -> Result<&'static str, Refusal> {
    let timestamp = signature::required(call.headers, TIMESTAMP)?;
    let at_ms = signature::digits(timestamp)?;
    let tag = signature::base64::<32>(tag)?;
    let matches = |url: &str| {
        let parts = [call.method.as_bytes(), url.as_bytes(), call.body, timestamp.as_bytes()];
        keys.iter().any(|key| key.verify(&parts, &tag))
    };
    let decoded = decode(call.url);
    let scheme = if matches(&decoded) {
        "hubspot-v3"
    } else if raw_url_fallback && decoded != call.url && matches(call.url) {
        "hubspot-v3-raw-url"
    } else {
        return Err(Refusal::Mismatch);
    };
    signature::within_window(at_ms, now)?;
    Ok(scheme)
}

/// Versions 1 and 2 hash the secret as a prefix, so whoever holds one valid pair can extend it. The padding such a
/// forgery must contain is neither UTF-8 nor JSON; that check is all that stops it.
fn verify_legacy(call: &Call<'_>, keys: &[SharedKey], tag: &str, version: &str) -> Result<&'static str, Refusal> {
    let tag = signature::lower_hex32(tag)?;
    let v2: [&[u8]; 3] = [call.method.as_bytes(), call.url.as_bytes(), call.body];
    let (scheme, parts): (_, &[&[u8]]) = match version {
        "v1" => ("hubspot-v1", &v2[2..]),
        "v2" => ("hubspot-v2", &v2),
        _ => return Err(Refusal::Malformed),
    };
    if !keys.iter().any(|key| key.verify_prefix_hash(parts, &tag)) {
        return Err(Refusal::Mismatch);
    }
    let sound = call.body.is_empty()
        || std::str::from_utf8(call.body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if sound { Ok(scheme) } else { Err(Refusal::Unsound) }
}

/// Decodes the twelve escapes of "Validating requests from HubSpot" and no other, once.
fn decode(url: &str) -> Cow<'_, str> {
    let mut parts = url.split('%');
    let mut out = String::new();
    out.push_str(parts.next().unwrap_or_default());
    let mut changed = false;
    for part in parts {
        match part.get(..2).and_then(escaped) {
            Some(plain) => {
                changed = true;
                out.push(plain);
                out.push_str(&part[2..]);
            }
            None => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(url) }
}

/// The character behind one of the twelve escapes. Hexadecimal digits in either case.
fn escaped(hex: &str) -> Option<char> {
    Some(match hex.to_ascii_uppercase().as_str() {
        "3A" => ':',
        "2F" => '/',
        "3F" => '?',
        "40" => '@',
        "21" => '!',
        "24" => '$',
        "27" => '\'',
        "28" => '(',
        "29" => ')',
        "2A" => '*',
        "2C" => ',',
        "3B" => ';',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_escapes_are_decoded_once() {
        for (url, expected) in [
            ("/in/hubspot/k", "/in/hubspot/k"),
            ("%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B", ":/?@!$'()*,;"),
            ("%3a%2f%3f%2a%2c%3b", ":/?*,;"),
            ("%20%25%26%2B%3D%23", "%20%25%26%2B%3D%23"),
            ("%253A", "%253A"),
            ("%%3A%", "%:%"),
            ("%3", "%3"),
            ("é%3Aé", "é:é"),
            ("%3é", "%3é"),
        ] {
            assert_eq!(decode(url), expected, "{url}");
        }
        assert!(matches!(decode("/plain"), Cow::Borrowed(_)));
    }
}
