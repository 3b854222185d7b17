//! A call signed with a known secret: the scheme, a place, what is changed there; an empty line; the body. As it is it
//! must be believed; with one byte changed in what the signature covers, or in the signature, nobody may believe it.
//!
//! It signs by itself and shares no code with the gateway. The surprising thing: a scheme that only shows a secret covers
//! no body, so there only the secret is damaged.

use std::fmt::Write as _;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::config::{Credential, Place, ProviderName};
use headgate_gateway::foreign::Attempt;
use headgate_schemas::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::text::split;

const URL: &str = "https://hooks.example.com/in/x";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp::from_millis(1_767_268_800_000);
const SECONDS: &str = "1767268799";
const MILLIS: &str = "1767268799000";

/// What was promised of every signature and did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The sender's own call is refused.
    #[error("a call of {0} as it was signed is refused")]
    Refused(&'static str),
    /// A damaged call is believed.
    #[error("a call of {0} is believed with a byte changed")]
    Believed(&'static str),
}

/// A way of signing.
#[derive(Clone, Copy)]
struct Scheme {
    name: &'static str,
    provider: ProviderName,
    sign: fn(&[u8]) -> Signed,
}

/// What a signed call carries besides its body.
struct Signed {
    credential: Credential,
    /// Name, what stands before it, and what one changed byte of must be noticed.
    headers: Vec<(&'static str, &'static str, Vec<u8>)>,
    covers_body: bool,
}

const SCHEMES: [Scheme; 10] = [
    Scheme { name: "hubspot-v3", provider: ProviderName::Hubspot, sign: hubspot_v3 },
    Scheme { name: "hubspot-v2", provider: ProviderName::Hubspot, sign: |body| hubspot_old("v2", body) },
    Scheme { name: "hubspot-v1", provider: ProviderName::Hubspot, sign: |body| hubspot_old("v1", body) },
    Scheme { name: "standard-webhooks", provider: ProviderName::Native, sign: standard },
    Scheme { name: "standard-webhooks-v1a", provider: ProviderName::Native, sign: standard_public },
    Scheme { name: "x-hub-signature-256", provider: ProviderName::HubSignature256, sign: hub },
    Scheme { name: "t-v1", provider: ProviderName::TV1, sign: t_v1 },
    Scheme { name: "basic", provider: ProviderName::Pipedrive, sign: basic },
    Scheme { name: "header", provider: ProviderName::Dynamics, sign: header },
    Scheme { name: "bearer", provider: ProviderName::Cloudevents, sign: bearer },
];

/// Signs the body, damages the call and tries both; answers 1 where the scheme is known.
///
/// # Errors
/// A broken promise.
pub fn run(input: &[u8]) -> Result<usize, crate::Broken> {
    let (head, body) = split(input);
    let head = String::from_utf8_lossy(head);
    let mut words = head.split_ascii_whitespace();
    let Some(scheme) = words.next().and_then(|name| SCHEMES.iter().find(|s| s.name == name)) else { return Ok(0) };
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or_default();
    let (place, change) = (number(), u8::try_from(number() % 255).map_or(1, |n| n + 1));
    // The old signatures can be forged for anything else; see the gateway's provider.
    let old = matches!(scheme.name, "hubspot-v1" | "hubspot-v2");
    if old && !body.is_empty() && serde_json::from_slice::<serde_json::Value>(body).is_err() {
        return Ok(0);
    }
    let mut signed = (scheme.sign)(body);
    if !signed.is_believed(scheme, body) {
        return Err(Broken::Refused(scheme.name).into());
    }
    let mut body = body.to_vec();
    signed.damage(&mut body, place, change);
    if signed.is_believed(scheme, &body) { Err(Broken::Believed(scheme.name).into()) } else { Ok(1) }
}

impl Signed {
    fn new<const N: usize>(credential: Credential, headers: [(&'static str, &'static str, Vec<u8>); N]) -> Self {
        Self { credential, headers: headers.into(), covers_body: true }
    }

    fn is_believed(&self, scheme: &Scheme, body: &[u8]) -> bool {
        let headers: Vec<(&str, Vec<u8>)> =
            self.headers.iter().map(|(name, fixed, covered)| (*name, [fixed.as_bytes(), covered].concat())).collect();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let attempt = Attempt {
            provider: scheme.provider,
            credential: &self.credential,
            url: URL,
            headers: &headers,
            body,
            now: NOW,
            allow_legacy: true,
        };
        attempt.is_believed()
    }

    /// Changes one byte of body and headers, counted through.
    fn damage(&mut self, body: &mut [u8], place: usize, change: u8) {
        let body = if self.covers_body { body } else { &mut [] };
        let covered = self.headers.iter_mut().flat_map(|(_, _, covered)| covered.iter_mut());
        let mut bytes: Vec<&mut u8> = body.iter_mut().chain(covered).collect();
        let count = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(place % count) {
            **byte ^= change;
        }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length; the error type serves other MACs")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn secret() -> Credential {
    Credential::Secrets(vec![SECRET.into()])
}

fn hubspot_v3(body: &[u8]) -> Signed {
    let tag = STANDARD.encode(hmac(SECRET.as_bytes(), &[b"POST", URL.as_bytes(), body, MILLIS.as_bytes()]));
    Signed::new(
        secret(),
        [("x-hubspot-signature-v3", "", tag.into()), ("x-hubspot-request-timestamp", "", MILLIS.into())],
    )
}

fn hubspot_old(version: &'static str, body: &[u8]) -> Signed {
    let mut hash = Sha256::new();
    hash.update(SECRET);
    if version == "v2" {
        hash.update("POST");
        hash.update(URL);
    }
    hash.update(body);
    Signed::new(
        secret(),
        [
            ("x-hubspot-signature", "", hex(&hash.finalize()).into()),
            ("x-hubspot-signature-version", "", version.into()),
        ],
    )
}

/// Id and time as Standard Webhooks puts them before the body.
fn prefix() -> String {
    format!("m_1.{SECONDS}.")
}

fn standard_with(credential: Credential, tag: String) -> Signed {
    Signed::new(
        credential,
        [
            ("webhook-id", "", b"m_1".to_vec()),
            ("webhook-timestamp", "", SECONDS.into()),
            ("webhook-signature", "", tag.into()),
        ],
    )
}

fn standard(body: &[u8]) -> Signed {
    let key = SECRET.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok()).unwrap_or_default();
    let tag = hmac(&key, &[prefix().as_bytes(), body]);
    standard_with(secret(), format!("v1,{}", STANDARD.encode(tag)))
}

fn standard_public(body: &[u8]) -> Signed {
    #[expect(clippy::expect_used, reason = "every 32 bytes are a seed of Ed25519")]
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed");
    let tag = pair.sign(&[prefix().as_bytes(), body].concat());
    let key = format!("whpk_{}", STANDARD.encode(pair.public_key()));
    standard_with(Credential::PublicKey(key), format!("v1a,{}", STANDARD.encode(tag)))
}

fn hub(body: &[u8]) -> Signed {
    let tag = hex(&hmac(SECRET.as_bytes(), &[body]));
    Signed::new(secret(), [("x-hub-signature-256", "", format!("sha256={tag}").into())])
}

fn t_v1(body: &[u8]) -> Signed {
    let tag = hex(&hmac(SECRET.as_bytes(), &[SECONDS.as_bytes(), b".", body]));
    Signed::new(secret(), [("stripe-signature", "", format!("t={SECONDS},v1={tag}").into())])
}

fn basic(_: &[u8]) -> Signed {
    let credential = Credential::Basic { username: "crm".to_owned(), passwords: vec![SECRET.into()] };
    let shown = STANDARD.encode(format!("crm:{SECRET}"));
    Signed { credential, headers: vec![("authorization", "Basic ", shown.into())], covers_body: false }
}

fn header(_: &[u8]) -> Signed {
    let credential = Credential::Shown {
        place: Place::Header,
        names: vec!["x-relay-key".to_owned()],
        values: vec![vec![SECRET.into()]],
    };
    Signed { credential, headers: vec![("x-relay-key", "", SECRET.into())], covers_body: false }
}

fn bearer(_: &[u8]) -> Signed {
    Signed { credential: secret(), headers: vec![("authorization", "Bearer ", SECRET.into())], covers_body: false }
}
