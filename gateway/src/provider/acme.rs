//! Acme: shows a token in `X-Acme-Token` and posts events in the native form.

use std::time::Duration;

use headgate_schemas::Timestamp;
use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use super::{Answer, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed, native};
use crate::signature::{self, Keys, Refusal};

const TOKEN: &str = "x-acme-token";

/// Acme as a provider.
pub(crate) struct Acme;

impl Provider for Acme {
    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::timeless("acme-token")] }
    }

    // Acme tries again for a day.
    fn remembered_for(&self) -> Duration {
        Duration::from_hours(25)
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let scheme = if call.headers.contains_key(TOKEN) { "acme-token" } else { "none" };
        Signed { scheme, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        let shown = signature::required(call.headers, TOKEN)?;
        let known = keys.iter().any(|key| key.is_shown(shown.as_bytes()));
        if known { Ok("acme-token") } else { Err(Refusal::Mismatch) }
    }

    // Acme numbers nothing: a repeat is known by its body.
    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        native::read(call, endpoint, received_at, &Sha256::digest(call.body))
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::NO_CONTENT)
    }
}
