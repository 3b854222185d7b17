//! `auth` of a connection whose access tokens are fetched: where, and what is shown for them. Reads the keys of the
//! chosen grant; what belongs to another grant is left unread, and so reported as unknown.
//!
//! The surprise: a secret goes to `token_url`, so it has to be an https address, or one of this machine for trials.

use headgate_relay::oauth::{Grant, OauthConfig, SigningKey};
use headgate_schemas::System;
use hyper::Uri;
use secrecy::SecretString;

use super::address;
use super::reader::{Choice, Section};
use super::secret::{self, CLIENT, PRIVATE_KEY, REFRESH};

/// Whom an assertion is for where nothing else is said: the login host of Salesforce's production organizations.
const AUDIENCE: &str = "https://login.salesforce.com";
/// All that may stand beside `kind` and `grant`.
const KEYS: [&str; 15] = [
    "token_url",
    "client_id",
    "scope",
    "subject",
    "audience",
    "client_secret",
    "client_secret_env",
    "client_secret_file",
    "refresh_token",
    "refresh_token_env",
    "refresh_token_file",
    "private_key",
    "private_key_env",
    "private_key_file",
    "grant",
];

/// What is shown for a token.
#[derive(Clone, Copy)]
enum Kind {
    RefreshToken,
    ClientCredentials,
    JwtBearer,
}

/// Reads the keys beside `kind`. `None` after a fault.
pub(super) fn oauth(auth: &mut Section<'_>, system: Option<System>) -> Option<OauthConfig> {
    let choices = [
        ("authorization_code", Choice::Built(Kind::RefreshToken)),
        ("client_credentials", Choice::Built(Kind::ClientCredentials)),
        ("jwt_bearer", Choice::Built(Kind::JwtBearer)),
    ];
    let named =
        auth.required("grant", "write grant = \"authorization_code\", \"client_credentials\" or \"jwt_bearer\"");
    let Some(kind) = named.and_then(|_| auth.choice("grant", &choices)) else {
        // Which keys belong here depends on the grant.
        auth.ignore(&KEYS);
        return None;
    };
    if matches!(kind, Kind::JwtBearer) && system.is_some_and(|system| system != System::Salesforce) {
        auth.fault(
            "grant",
            "only Salesforce takes assertions that we sign",
            "use \"authorization_code\" or \"client_credentials\"",
        );
        auth.ignore(&KEYS);
        return None;
    }
    let token_url = token_url(auth);
    let client_id = auth.required("client_id", "write the id of the app as the provider shows it");
    let scope = auth.text("scope");
    let grant = match kind {
        Kind::RefreshToken => refresh_token(auth),
        Kind::ClientCredentials => {
            secret::required(auth, CLIENT).map(|client_secret| Grant::ClientCredentials { client_secret })
        }
        Kind::JwtBearer => jwt_bearer(auth),
    };
    Some(OauthConfig { token_url: token_url?, client_id: client_id?, scope, grant: grant? })
}

fn token_url(auth: &mut Section<'_>) -> Option<String> {
    const FIX: &str =
        "write the token endpoint of the CRM, like \"https://acme.my.salesforce.com/services/oauth2/token\"";
    let text = auth.required("token_url", FIX)?;
    let fits = text.parse::<Uri>().ok().is_some_and(|uri| {
        let host = uri.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'));
        host && matches!(uri.scheme_str(), Some("http" | "https")) && !text.contains('#')
    });
    if !fits {
        // Not repeated: it may hold a password.
        auth.fault("token_url", "it is not an http or https address", FIX);
        return None;
    }
    if address::in_clear(&text) {
        auth.fault("token_url", "secrets would travel to it in clear", "use https://");
        return None;
    }
    Some(text)
}

/// What a person's login gave.
fn refresh_token(auth: &mut Section<'_>) -> Option<Grant> {
    let named = CLIENT.present(auth);
    let client_secret = secret::optional(auth, CLIENT);
    let refresh_token = secret::required(auth, REFRESH)?;
    if named && client_secret.is_none() {
        return None;
    }
    Some(Grant::RefreshToken { client_secret, refresh_token })
}

fn jwt_bearer(auth: &mut Section<'_>) -> Option<Grant> {
    let key = secret::required(auth, PRIVATE_KEY).and_then(|pem| signing_key(auth, &pem));
    let subject = auth.required("subject", "write the user name on whose behalf calls are made");
    let audience = auth.text("audience").unwrap_or_else(|| AUDIENCE.to_owned());
    Some(Grant::JwtBearer { key: key?, subject: subject?, audience })
}

fn signing_key(auth: &mut Section<'_>, pem: &SecretString) -> Option<SigningKey> {
    SigningKey::from_pem(pem)
        .map_err(|error| {
            let key = PRIVATE_KEY.written(auth);
            auth.fault(key, error.to_string(), "use the private key that belongs to the certificate of the app");
        })
        .ok()
}
