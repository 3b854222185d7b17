//! What a token endpoint answers, and what is to be done about it. Pure.
//!
//! Endpoints refuse in the words of RFC 6749, section 5.2; HubSpot's older ones in words of their own. The surprising
//! thing: an answer that cannot be read is asked for again, because it is more often a proxy's than the provider's.

use std::time::Duration;

use hyper::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::Grant;
use crate::http::Reply;
use crate::target::is_plain;

/// Longest token that is believed.
const LONGEST_TOKEN: usize = 16 << 10;

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Here is a token.
    Granted(Granted),
    /// None is given until somebody does something.
    Refused {
        /// The provider's word; safe to log.
        code: String,
        /// Whose fault it is.
        blame: Blame,
    },
    /// None now.
    Later {
        /// Why; safe to log.
        code: String,
        /// How long to wait, where it is told.
        wait: Option<Duration>,
    },
}

/// What is given.
#[derive(Debug)]
pub(crate) struct Granted {
    /// For calls.
    pub(crate) access: SecretString,
    /// For the next exchange, where it is told.
    pub(crate) refresh: Option<SecretString>,
    /// How long the access token is good, where it is told.
    pub(crate) life: Option<Duration>,
}

/// What the provider does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// What was shown for the token: a refresh token, an assertion.
    Grant,
    /// Who we are, or that we may ask at all.
    Client,
    /// What was asked for.
    Scope,
    /// Something else.
    Unknown,
}

impl Blame {
    /// What a person does about it.
    pub(super) const fn advice(self, grant: &Grant) -> &'static str {
        match (self, grant) {
            (Self::Grant, Grant::RefreshToken { .. }) => {
                "the refresh token is no longer accepted: it was revoked, is too old, or was exchanged for another one in \
                 a call whose answer was lost; log in at the provider again, put the new refresh token where \
                 refresh_token_env or refresh_token_file says, and restart"
            }
            (Self::Grant, Grant::JwtBearer { .. }) => {
                "the assertion is not accepted; check that the certificate of private_key_file is the one of the app, that \
                 the user named in subject may use the app, audience, and this machine's clock"
            }
            (Self::Grant | Self::Client, Grant::ClientCredentials { .. })
            | (Self::Client, Grant::RefreshToken { .. }) => {
                "the client is not accepted; check client_id, its secret, and that the app may use this grant"
            }
            (Self::Client, Grant::JwtBearer { .. }) => {
                "the client is not accepted; check client_id and that the app may use this grant"
            }
            (Self::Scope, _) => "the scope is not granted; ask in scope for what the app has, or grant it to the app",
            (Self::Unknown, _) => "check token_url, client_id and the settings of the app at the provider",
        }
    }
}

/// What both kinds of answers hold, as far as they are well made.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    access_token: Option<SecretText>,
    refresh_token: Option<SecretText>,
    expires_in: Option<Seconds>,
    /// Some write a number into one of these.
    error: Value,
    status: Value,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct SecretText(String);

/// Some endpoints write the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => Some(seconds),
            Self::Text(text) => text.parse().ok(),
        }
        .map(Duration::from_secs)
    }
}

/// The `Authorization` header of an access token, where it can stand in one.
pub(crate) fn header(access: &SecretString) -> Option<HeaderValue> {
    let text = access.expose_secret();
    if text.is_empty() || text.len() > LONGEST_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Reads an answer.
pub(crate) fn read(reply: &Reply) -> Answer {
    let body: Option<Body> = serde_json::from_slice(&reply.body).ok();
    if reply.status.is_success() {
        return granted(body).map_or_else(|| later("unreadable_answer", None), Answer::Granted);
    }
    let Body { error, status, .. } = body.unwrap_or_default();
    // HubSpot's `status` is the code where it is not the word "error".
    let told = [error.as_str(), status.as_str()].into_iter().flatten().find(|code| is_plain(code) && *code != "error");
    let code = told.map_or_else(|| format!("status_{}", reply.status.as_u16()), str::to_owned);
    let busy = matches!(reply.status.as_u16(), 408 | 425 | 429 | 500..=599)
        || matches!(code.as_str(), "temporarily_unavailable" | "server_error" | "slow_down" | "RATE_LIMIT");
    if busy {
        return later(&code, reply.retry_after());
    }
    let blame = blame(&code);
    Answer::Refused { code, blame }
}

fn granted(body: Option<Body>) -> Option<Granted> {
    let Body { access_token, refresh_token, expires_in, .. } = body?;
    let access = SecretString::from(access_token?.0);
    header(&access)?;
    let refresh = refresh_token.map(|text| text.0).filter(|text| (1..=LONGEST_TOKEN).contains(&text.len()));
    Some(Granted { access, refresh: refresh.map(SecretString::from), life: expires_in.and_then(Seconds::duration) })
}

fn later(code: &str, wait: Option<Duration>) -> Answer {
    Answer::Later { code: code.to_owned(), wait }
}

fn blame(code: &str) -> Blame {
    match code {
        "invalid_grant" | "BAD_REFRESH_TOKEN" | "BAD_AUTH_CODE" | "inactive_user" | "inactive_org" => Blame::Grant,
        "invalid_client"
        | "invalid_client_id"
        | "invalid_client_credentials"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "BAD_CLIENT_ID"
        | "BAD_CLIENT_SECRET" => Blame::Client,
        "invalid_scope" => Blame::Scope,
        _ => Blame::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;
    use hyper::header::{HeaderMap, RETRY_AFTER};

    use super::*;

    fn told(status: u16, body: &str) -> Answer {
        told_with(status, body, HeaderMap::new())
    }

    fn told_with(status: u16, body: &str, headers: HeaderMap) -> Answer {
        read(&Reply::new(StatusCode::from_u16(status).unwrap(), headers, Bytes::copy_from_slice(body.as_bytes())))
    }

    #[test]
    fn tokens_are_read_as_each_provider_gives_them() {
        let table = [
            (r#"{"access_token":"a","refresh_token":"r","expires_in":1800}"#, Some("r"), Some(1_800)),
            (r#"{"access_token":"a","expires_in":"3599","token_type":"Bearer"}"#, None, Some(3_599)),
            (r#"{"access_token":"a","issued_at":"1767225600000","instance_url":"https://x.example"}"#, None, None),
            (r#"{"access_token":"a","refresh_token":"","expires_in":"soon"}"#, None, None),
        ];
        for (body, refresh, life) in table {
            let Answer::Granted(found) = told(200, body) else { panic!("{body}") };
            assert_eq!(found.access.expose_secret(), "a", "{body}");
            assert_eq!(found.refresh.as_ref().map(|r| r.expose_secret()), refresh, "{body}");
            assert_eq!(found.life, life.map(Duration::from_secs), "{body}");
        }
    }

    #[test]
    fn refusals_name_whose_fault_it_is() {
        let table = [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"expired access/refresh token"}"#,
                "invalid_grant",
                Blame::Grant,
            ),
            (
                400,
                r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid"}"#,
                "BAD_REFRESH_TOKEN",
                Blame::Grant,
            ),
            (400, r#"{"status":"error","error":"invalid_grant"}"#, "invalid_grant", Blame::Grant),
            (401, r#"{"error":"invalid_client"}"#, "invalid_client", Blame::Client),
            (400, r#"{"error":"invalid_client_id"}"#, "invalid_client_id", Blame::Client),
            (400, r#"{"error":"invalid_scope"}"#, "invalid_scope", Blame::Scope),
            (404, "<html>", "status_404", Blame::Unknown),
            (400, r#"{"error":"a\nb"}"#, "status_400", Blame::Unknown),
            (400, r#"{"status":"error"}"#, "status_400", Blame::Unknown),
            (400, r#"{"status":400,"error":"invalid_scope"}"#, "invalid_scope", Blame::Scope),
        ];
        for (status, body, expected, whose) in table {
            let Answer::Refused { code, blame } = told(status, body) else { panic!("{body}") };
            assert_eq!((code.as_str(), blame), (expected, whose), "{body}");
        }
    }

    #[test]
    fn a_person_is_told_what_to_do() {
        let login = Grant::RefreshToken { client_secret: None, refresh_token: "r".into() };
        let own = Grant::ClientCredentials { client_secret: "s".into() };
        assert!(Blame::Grant.advice(&login).contains("log in at the provider again, put the new refresh token"));
        assert!(Blame::Client.advice(&login).contains("check client_id, its secret"));
        assert!(Blame::Grant.advice(&own).contains("check client_id, its secret"));
        assert!(Blame::Scope.advice(&own).contains("grant it to the app"));
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let table = [
            (500, "", "status_500"),
            (503, r#"{"error":"temporarily_unavailable"}"#, "temporarily_unavailable"),
            (400, r#"{"error":"server_error"}"#, "server_error"),
            (200, "<html>", "unreadable_answer"),
            (200, r#"{"access_token":""}"#, "unreadable_answer"),
            (200, r#"{"access_token":"a b"}"#, "unreadable_answer"),
            (200, r#"{"token_type":"bearer"}"#, "unreadable_answer"),
        ];
        for (status, body, expected) in table {
            let Answer::Later { code, wait: None } = told(status, body) else { panic!("{body}") };
            assert_eq!(code, expected, "{body}");
        }
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let Answer::Later { wait, .. } = told_with(429, "", headers) else { panic!("429") };
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_is_given_is_not_shown() {
        let found = told(200, r#"{"access_token":"s3cr3t-a","refresh_token":"s3cr3t-r","expires_in":1}"#);
        assert!(!format!("{found:?}").contains("s3cr3t"));
        let header = header(&SecretString::from("s3cr3t-a")).unwrap();
        assert!(!format!("{header:?}").contains("s3cr3t"));
    }
}
