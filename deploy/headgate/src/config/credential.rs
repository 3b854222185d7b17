//! What the calls of an endpoint are checked with, by its provider. Pure but for the secrets themselves, which `secret`
//! reads. The surprise: a key that belongs to another provider is left unread, and so reported as unknown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::config::{Credential, CredentialKind, Place, ProviderName};
use secrecy::{ExposeSecret, SecretString};

use super::gateway::PROVIDER_KEYS;
use super::reader::{Choice, Section};
use super::secret::{self, PASSWORD, SECOND, SECRET};

/// Where the call shows its value.
#[derive(Clone, Copy)]
enum Kind {
    Header,
    WebhookKey,
    Query,
}

/// Reads what a call is checked with.
pub(super) fn credential(section: &mut Section<'_>, provider: Option<ProviderName>) -> Option<Credential> {
    let Some(provider) = provider else {
        // Which keys belong here depends on the provider, so none of them can be called unknown.
        section.ignore(&PROVIDER_KEYS);
        return None;
    };
    match provider.credential() {
        CredentialKind::Secrets => secrets(section).map(Credential::Secrets),
        CredentialKind::SecretsOrPublicKey => secrets_or_public_key(section),
        CredentialKind::Basic => basic(section),
        CredentialKind::Shown => shown(section),
        CredentialKind::Certificate => {
            section.path("client_ca_file");
            Some(Credential::None)
        }
    }
}

/// The value of one header or one parameter, as Dataverse shows it. A webhook key is the parameter `code`.
fn shown(section: &mut Section<'_>) -> Option<Credential> {
    const HEADER_FIX: &str = "write the header of the registered service endpoint, like \"x-headgate-key\"";
    let choices = [
        ("header", Choice::Built(Kind::Header)),
        ("webhook-key", Choice::Built(Kind::WebhookKey)),
        ("query", Choice::Built(Kind::Query)),
    ];
    let kind = match section.has("credential") {
        true => section.choice("credential", &choices),
        false => Some(Kind::Header),
    };
    let named = match kind {
        Some(Kind::Header) => section.required("header_name", HEADER_FIX).map(|name| (Place::Header, name)),
        Some(Kind::WebhookKey) => Some((Place::Query, "code".to_owned())),
        Some(Kind::Query) => {
            section.required("query_name", "write the parameter of the URL").map(|name| (Place::Query, name))
        }
        None => {
            section.ignore(&["header_name", "query_name"]);
            None
        }
    };
    let values = secrets(section)?.into_iter().map(|secret| vec![secret]).collect();
    let (place, name) = named?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        let key = if place == Place::Header { "header_name" } else { "query_name" };
        section.fault(key, "it is not made of letters, digits, \"-\", \"_\" and \".\"", HEADER_FIX);
        return None;
    }
    Some(Credential::Shown { place, names: vec![name], values })
}

/// A user name and a password, given when the webhook is made.
fn basic(section: &mut Section<'_>) -> Option<Credential> {
    let username = section.required("username", "write the http_auth_user of the webhook");
    let password = secret::required(section, PASSWORD);
    let (username, password) = (username?, password?);
    if username.contains(':') {
        section.fault("username", "it holds a colon, which ends the name", "use a name without one");
        return None;
    }
    if !password.expose_secret().is_ascii() {
        let key = PASSWORD.written(section);
        let problem = "the password holds characters that senders encode in different ways";
        section.warn(key, problem, "use letters, digits and signs of ASCII");
    }
    Some(Credential::Basic { username, passwords: vec![password] })
}

fn secrets(section: &mut Section<'_>) -> Option<Vec<SecretString>> {
    let first = secret::required(section, SECRET);
    let second = secret::optional(section, SECOND);
    Some(std::iter::once(first?).chain(second).collect())
}

/// Standard Webhooks: a shared secret or a public key, never both.
fn secrets_or_public_key(section: &mut Section<'_>) -> Option<Credential> {
    let with_secret = SECRET.present(section);
    match (section.has("public_key"), with_secret) {
        (true, true) => {
            section.fault("public_key", "a secret is set as well", "keep the one the sender signs with");
            None
        }
        (true, false) => public_key(section).map(Credential::PublicKey),
        (false, _) => {
            let secrets = secrets(section)?;
            let decodes = |s: &SecretString| {
                let text = s.expose_secret();
                STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).is_ok()
            };
            if secrets.iter().all(decodes) {
                return Some(Credential::Secrets(secrets));
            }
            let key = SECRET.written(section);
            section.fault(key, "the secret is not base64", "use it as the sender shows it, beginning with \"whsec_\"");
            None
        }
    }
}

fn public_key(section: &mut Section<'_>) -> Option<String> {
    let key = section.text("public_key")?;
    let raw = key.strip_prefix("whpk_").and_then(|text| STANDARD.decode(text).ok());
    if raw.is_some_and(|bytes| bytes.len() == 32) {
        return Some(key);
    }
    section.fault("public_key", "it is not an Ed25519 key", "use it as the sender shows it, beginning with \"whpk_\"");
    None
}
