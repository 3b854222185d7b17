//! Signatures of Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`, one for each live
//! secret. Pure.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::Timestamp;

/// Fewest and most bytes of a secret, as the specification of Standard Webhooks gives them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that cannot be signed with. Says nothing of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret must be whsec_ followed by the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

/// What signs the calls of one subscription, until it ends.
#[derive(Clone)]
pub struct Key {
    key: hmac::Key,
    /// The first moment at which it signs no more.
    until: Option<Timestamp>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A secret that nobody knows yet, as text. `None` when the system has no random numbers.
    pub fn secret() -> Option<String> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(format!("whsec_{}", STANDARD.encode(bytes)))
    }

    /// From `whsec_…`.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn new(secret: &str) -> Result<Self, InvalidSecret> {
        let text = secret.strip_prefix("whsec_").ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(text).map_err(|_| InvalidSecret)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), until: None })
    }

    /// The same, signing no more from then on.
    pub(super) fn ending(self, until: Timestamp) -> Self {
        Self { until: Some(until), ..self }
    }

    /// Until when it signs, where it ends.
    pub(super) const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether it signs at `now`.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The value of `webhook-signature` for a call at `now`.
pub(super) fn signature(keys: &[Key], id: &str, now: Timestamp, body: &[u8]) -> String {
    let timestamp = seconds(now);
    let one = |Key { key, .. }: &Key| {
        let mut context = hmac::Context::with_key(key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().filter(|key| key.is_live(now)).map(one).collect::<Vec<_>>().join(" ")
}

/// The value of `webhook-timestamp`.
pub(super) fn seconds(now: Timestamp) -> i64 {
    now.millis().div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // The test vector that the libraries of Standard Webhooks share.
        let key = Key::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (body, now) = (br#"{"test": 2432232314}"#, Timestamp::from_secs(1_614_265_330));
        let signed = signature(std::slice::from_ref(&key), "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let second = Key::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let both = signature(&[second.clone(), key.clone()], "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body);
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {signed}")), "{both}");
        // One that ends signs until then.
        let until =
            |at| signature(&[key.clone(), second.clone().ending(at)], "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body);
        assert_eq!(until(now), signed);
        assert_eq!(until(now + Duration::from_micros(1)).split(' ').count(), 2);
    }

    #[test]
    fn secrets_of_another_form_are_refused_and_none_is_shown() {
        for secret in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_c2hvcnQ=", "whsec_***"] {
            assert_eq!(Key::new(secret).unwrap_err(), InvalidSecret, "{secret}");
        }
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        assert_eq!(Key::new(&long).unwrap_err(), InvalidSecret);
        assert_eq!(format!("{:?}", Key::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()), "Key");
    }
}
