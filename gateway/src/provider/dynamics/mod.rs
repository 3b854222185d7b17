//! Dataverse webhooks (Microsoft Dynamics 365): one execution context per call, proved by a shared value in a header or
//! in the query.
//!
//! Facts come from Microsoft's "Use webhooks to create external handlers for server events" and "Register a webhook"
//! (Dataverse documentation). It must not know any other provider. The surprising thing: a failed call is repeated once,
//! and only after 502, 503 or 504; so whatever could be stored later is answered 503, and never 500 or 429.

use std::borrow::Cow;
use std::time::Duration;

use headgate_schemas::{System, Timestamp};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;

use super::{Answer, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed};
use crate::config::{Credential, CredentialKind, Place};
use crate::signature::{self, KeyError, Keys, Refusal, SharedKey};

mod context;
pub(crate) mod value;

/// One repeat within seconds; the rest is for clocks and queues.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Dataverse as a provider.
pub(crate) struct Dynamics;

impl Provider for Dynamics {
    fn system(&self) -> System {
        System::Dynamics
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Shown
    }

    fn schemes(&self) -> &'static [Scheme] {
        const {
            &[
                Scheme::timeless("dataverse-http-header"),
                Scheme::timeless("dataverse-webhook-key"),
                Scheme::timeless("dataverse-query-string"),
            ]
        }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn keys(&self, credential: &Credential) -> Result<Keys, KeyError> {
        let Credential::Shown { names, values, .. } = credential else { return Err(KeyError::NeedsShown) };
        let complete = |set: &Vec<_>| set.len() == names.len();
        if names.is_empty() || values.is_empty() || !values.iter().all(complete) {
            return Err(KeyError::NeedsShown);
        }
        if values.len() > 2 {
            return Err(KeyError::TooMany);
        }
        let key = |set: &Vec<secrecy::SecretString>| {
            if set.iter().any(|value| value.expose_secret().is_empty()) {
                return Err(KeyError::Empty);
            }
            SharedKey::new(&joined(set.iter().map(|value| value.expose_secret().as_bytes())))
        };
        Ok(Keys::Shared(values.iter().map(key).collect::<Result<_, _>>()?))
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        // What is shown is the secret itself, so nothing of it is told.
        let scheme = if call.url.contains('?') { "dataverse-query-string" } else { "dataverse-http-header" };
        Signed { scheme, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let (Keys::Shared(keys), Credential::Shown { place, names, .. }) =
            (&endpoint.keys, &endpoint.config.credential)
        else {
            return Err(Refusal::Mismatch);
        };
        let mut shown = Vec::with_capacity(names.len());
        for name in names {
            shown.push(match place {
                Place::Header => Cow::Borrowed(signature::required(call.headers, name)?.as_bytes()),
                Place::Query => parameter(call.url, name)?,
            });
        }
        let shown = joined(shown.iter().map(|value| &**value));
        if keys.iter().any(|key| key.is_shown(&shown)) {
            Ok(match place {
                Place::Header => "dataverse-http-header",
                Place::Query => "dataverse-query-string",
            })
        } else {
            Err(Refusal::Mismatch)
        }
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        context::read(call, &endpoint.config, received_at)
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::OK)
    }

    fn decoy(&self, secret: &str) -> Credential {
        let values = vec![vec![secret.into()]];
        Credential::Shown { place: Place::Header, names: vec!["x-headgate-key".to_owned()], values }
    }

    // One more attempt, and only after 502, 503 or 504 (Dataverse, "Use webhooks to create external handlers").
    fn hardly_retries(&self) -> bool {
        true
    }

    fn slow_down(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Several values as one, so that none can lend its end to the next.
fn joined<'v>(values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        out.extend((value.len() as u64).to_be_bytes());
        out.extend(value);
    }
    out
}

/// The one parameter of that name, percent-decoded once. A plus sign stands for itself.
pub(super) fn parameter<'u>(url: &'u str, name: &str) -> Result<Cow<'u, [u8]>, Refusal> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(found, _)| *found == name);
    let (_, value) = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Repeated);
    }
    Ok(percent_decode_str(value).into())
}
