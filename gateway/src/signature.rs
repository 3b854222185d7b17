//! Keys and the small checks every signed call shares: one header exactly once, strict timestamps, a window closed on
//! both sides, comparison in constant time. It must not know any provider. The surprising thing: every check answers
//! with a [`Refusal`] that names the reason for counters only; the caller outside sees one and the same 401.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A signature older or newer than this is refused; exactly this much is still accepted.
pub(crate) const WINDOW_MS: i64 = 300_000;

/// Longest signature or timestamp header looked at: two rotated Ed25519 signatures need under 300 bytes.
const HEADER_BYTES: usize = 2_048;

/// Why a call was not believed. For counters and logs; never shown to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such endpoint.
    #[error("no endpoint has this key")]
    UnknownEndpoint,
    /// A header the scheme needs is absent.
    #[error("a signature header is missing")]
    Missing,
    /// A header that must stand once stands more often.
    #[error("a signature header is repeated")]
    Repeated,
    /// A header is not in the form the scheme prescribes.
    #[error("a signature header is malformed")]
    Malformed,
    /// The timestamp is outside the window.
    #[error("the timestamp is more than 5 minutes from this machine's clock; check both clocks")]
    Window,
    /// Only a weak signature is present and the endpoint does not allow it.
    #[error("only a legacy signature is present; set allow_legacy to accept it")]
    Legacy,
    /// The signature is of another secret, URL, body or time.
    #[error("the signature does not match; check the secret and public_url")]
    Mismatch,
    /// The call names another sender than the one this endpoint is for.
    #[error("the call is from another organization; check organization and the connection's account")]
    Organization,
    /// The endpoint asks for a client certificate and none of its authority was shown.
    #[error("the client showed no certificate of the endpoint's authority; check client_ca_file and the sender")]
    ClientCertificate,
    /// A legacy signature covers bytes that are not complete JSON in UTF-8: the mark of a length extension.
    #[error("a legacy signature over a body that is not complete JSON")]
    Unsound,
}

impl Refusal {
    /// The `reason` label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::Missing => "signature_missing",
            Self::Repeated => "signature_repeated",
            Self::Malformed => "signature_malformed",
            Self::Window => "timestamp_window",
            Self::Legacy => "legacy_not_allowed",
            Self::Mismatch => "signature_mismatch",
            Self::Organization => "organization",
            Self::ClientCertificate => "client_certificate",
            Self::Unsound => "legacy_unsound",
        }
    }
}

/// A credential that cannot become a key. Says what is expected and never what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider needs a shared secret.
    #[error("needs a shared secret (secret_env or secret_file)")]
    NeedsSecret,
    /// The provider needs a user name and a password.
    #[error("needs username and a password (password_env or password_file)")]
    NeedsPassword,
    /// The provider needs a value to be shown, and its name.
    #[error("needs the name of a header or parameter, and its value (secret_env or secret_file)")]
    NeedsShown,
    /// The secret is empty.
    #[error("its secret is empty")]
    Empty,
    /// More than two live secrets.
    #[error("has more than two live secrets; retire the oldest")]
    TooMany,
    /// The secret is not what the scheme prescribes.
    #[error("its secret must be whsec_ followed by base64")]
    NotBase64,
    /// The public key is not what the scheme prescribes.
    #[error("its public key must be whpk_ followed by the base64 of 32 bytes")]
    NotPublicKey,
}

/// What the calls of one endpoint are checked with.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Up to two live shared secrets.
    Shared(Vec<SharedKey>),
    /// A public key of a sender that signs with Ed25519.
    Public(PublicKey),
    /// None: the call names its sender, and the path is what a stranger cannot guess.
    None,
}

/// A shared secret, keyed once and cloned per call.
pub(crate) struct SharedKey {
    mac: Hmac<Sha256>,
    secret: SecretSlice<u8>,
    /// Its time is over: nothing matches it any more.
    ended: AtomicBool,
    /// It has matched since [`SharedKey::note`] was called.
    matched: AtomicBool,
    /// Microseconds of the last call it verified, 0 before the first.
    last_used: AtomicI64,
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

impl SharedKey {
    /// From the secret's bytes.
    pub(crate) fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| KeyError::Empty)?;
        Ok(Self {
            mac,
            secret: secret.to_vec().into(),
            ended: AtomicBool::new(false),
            matched: AtomicBool::new(false),
            last_used: AtomicI64::new(0),
        })
    }

    /// Whether `tag` is the HMAC-SHA256 of the joined `parts`, compared in constant time.
    pub(crate) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        self.matches(mac.verify_slice(tag).is_ok())
    }

    /// Whether `tag` is the plain SHA-256 of the secret and the joined `parts`, compared in constant time.
    pub(crate) fn verify_prefix_hash(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let mut hash = Sha256::new();
        hash.update(self.secret.expose_secret());
        for part in parts {
            hash.update(part);
        }
        self.matches(hash.finalize().as_slice().ct_eq(tag).into())
    }

    /// Whether `shown` is the secret itself. Digests are compared, so that neither its length nor its beginning is told
    /// by the time it takes.
    pub(crate) fn is_shown(&self, shown: &[u8]) -> bool {
        let secret = Sha256::digest(self.secret.expose_secret());
        self.matches(Sha256::digest(shown).as_slice().ct_eq(secret.as_slice()).into())
    }

    /// Ends it, or takes that back. Called before a verification that it must not pass any more.
    pub(crate) fn end(&self, ended: bool) {
        self.ended.store(ended, Ordering::Relaxed);
    }

    /// Notes that a call at `now` was verified, if it was this key that did it.
    pub(crate) fn note(&self, now: Timestamp) {
        if self.matched.swap(false, Ordering::Relaxed) {
            self.last_used.store(now.micros(), Ordering::Relaxed);
        }
    }

    /// The last call it verified.
    pub(crate) fn last_used(&self) -> Option<Timestamp> {
        let micros = self.last_used.load(Ordering::Relaxed);
        (micros != 0).then(|| Timestamp::from_micros(micros))
    }

    /// Whether a comparison counts. An ended key is compared all the same, so that it takes as long as any other.
    fn matches(&self, equal: bool) -> bool {
        let matches = equal && !self.ended.load(Ordering::Relaxed);
        if matches {
            self.matched.store(true, Ordering::Relaxed);
        }
        matches
    }
}

/// An Ed25519 public key.
#[derive(Debug)]
pub(crate) struct PublicKey(UnparsedPublicKey<[u8; 32]>);

impl PublicKey {
    /// From `whpk_` and base64.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        let encoded = text.strip_prefix("whpk_").ok_or(KeyError::NotPublicKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::NotPublicKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::NotPublicKey)?;
        Ok(Self(UnparsedPublicKey::new(&ED25519, bytes)))
    }

    /// Whether `signature` is of `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}

/// The value of a header that may stand at most once, in visible ASCII and of bounded length.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::Repeated);
    }
    if value.len() > HEADER_BYTES {
        return Err(Refusal::Malformed);
    }
    value.to_str().map(Some).map_err(|_| Refusal::Malformed)
}

/// The value of a header that must stand exactly once.
pub(crate) fn required<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refusal> {
    single(headers, name)?.ok_or(Refusal::Missing)
}

/// A whole number of 1 to 18 decimal digits: no sign, no space, no exponent.
pub(crate) fn digits(text: &str) -> Result<i64, Refusal> {
    if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::Malformed);
    }
    text.parse().map_err(|_| Refusal::Malformed)
}

/// Whether `at_ms` is inside the window around `now`.
pub(crate) fn within_window(at_ms: i64, now: Timestamp) -> Result<(), Refusal> {
    if now.millis().saturating_sub(at_ms).saturating_abs() > WINDOW_MS { Err(Refusal::Window) } else { Ok(()) }
}

/// Base64 of exactly `N` bytes, with padding.
pub(crate) fn base64<const N: usize>(text: &str) -> Result<[u8; N], Refusal> {
    let bytes = STANDARD.decode(text).map_err(|_| Refusal::Malformed)?;
    bytes.try_into().map_err(|_| Refusal::Malformed)
}

/// Lower-case hexadecimal of exactly 32 bytes.
pub(crate) fn lower_hex32(text: &str) -> Result<[u8; 32], Refusal> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Ok(b - b'0'),
        b'a'..=b'f' => Ok(b - b'a' + 10),
        _ => Err(Refusal::Malformed),
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return Err(Refusal::Malformed);
    }
    let mut out = [0; 32];
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Ok(out)
}

/// Lower-case hexadecimal of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn timestamps_are_plain_digits() {
        assert_eq!(digits("1767268798000"), Ok(1_767_268_798_000));
        for text in
            ["", "soon", "NaN", "-1", "+1", " 1", "1 ", "1e3", "1.0", "0x10", "1_000", "٣", "1234567890123456789"]
        {
            assert_eq!(digits(text), Err(Refusal::Malformed), "{text:?}");
        }
    }

    #[test]
    fn the_window_includes_its_ends() {
        let now = Timestamp::from_millis(1_000_000);
        for (at, expected) in [
            (700_000, Ok(())),
            (699_999, Err(Refusal::Window)),
            (1_300_000, Ok(())),
            (1_300_001, Err(Refusal::Window)),
            (i64::MIN, Err(Refusal::Window)),
            (i64::MAX, Err(Refusal::Window)),
        ] {
            assert_eq!(within_window(at, now), expected, "{at}");
        }
    }

    #[test]
    fn a_header_stands_once_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, "x-sig"), Ok(None));
        assert_eq!(required(&headers, "x-sig"), Err(Refusal::Missing));
        headers.append("x-sig", HeaderValue::from_static("a"));
        assert_eq!(required(&headers, "x-sig"), Ok("a"));
        headers.append("x-sig", HeaderValue::from_static("a"));
        assert_eq!(required(&headers, "x-sig"), Err(Refusal::Repeated));
        headers.insert("x-sig", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(required(&headers, "x-sig"), Err(Refusal::Malformed));
        headers.insert("x-sig", HeaderValue::from_str(&"a".repeat(2_049)).unwrap());
        assert_eq!(required(&headers, "x-sig"), Err(Refusal::Malformed));
    }

    #[test]
    fn hexadecimal_is_lower_case_and_complete() {
        let text = "00ff".repeat(16);
        let bytes = lower_hex32(&text).unwrap();
        assert_eq!((bytes[0], bytes[31]), (0, 255));
        assert_eq!(hex(&bytes), text);
        for bad in [text.to_uppercase(), text[..62].to_owned(), format!("{text}0"), text.replace('0', "g")] {
            assert_eq!(lower_hex32(&bad), Err(Refusal::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_key_never_prints_its_secret() {
        let key = SharedKey::new(b"hunter2hunter2").unwrap();
        assert_eq!(format!("{key:?}"), "SharedKey(…)");
        assert_eq!(SharedKey::new(b"").unwrap_err(), KeyError::Empty);
    }
}
