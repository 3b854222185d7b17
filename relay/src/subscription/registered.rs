//! What a tenant registers over the API: checked like what stands in the file, and sealed as a whole, because the address
//! may carry a key and the secret is one. Pure, but for the names' own form.
//!
//! A secret is renewed by a new one that signs first; the one before signs beside it for a while, so that a receiver that
//! knows either believes every call.

use std::fmt;
use std::time::Duration;

use headgate_schemas::Timestamp;
use headgate_schemas::filter::{Filter, FilterText, InvalidFilter};
use headgate_schemas::stream::{Begin, BeginError, InvalidBegin};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::sign::{InvalidSecret, Key};
use super::{SubscriptionConfig, View};
use crate::driver::Busy;
use crate::outgoing::{Policy, Refused};
use crate::vault::{Vault, VaultError};

/// Longest name.
const NAME_MOST: usize = 64;
/// Secrets that sign the calls of one subscription at once; a further one is refused until the oldest ends.
const SECRETS_MOST: usize = 3;

/// What a tenant asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its name; unique.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Where changes are posted.
    pub url: String,
    /// Which changes; those of other tenants are never sent.
    #[serde(default)]
    pub filter: FilterText,
    /// Where to begin.
    #[serde(default = "now")]
    pub from: String,
    /// What calls are signed with; made where it is missing.
    #[serde(default, deserialize_with = "secret")]
    pub secret: Option<SecretString>,
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(text)?.map(SecretString::from))
}

fn now() -> String {
    "now".to_owned()
}

/// A subscription that was registered or got a new secret, with that secret, which is told this once.
#[derive(Clone, Serialize)]
pub struct Registered {
    /// What signs its calls: `whsec_…`.
    pub secret: String,
    /// How it is.
    pub subscription: View,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

/// What is asked for in the place of a secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Renewal {
    /// The new secret; made where it is missing. The one that signs already changes nothing.
    #[serde(deserialize_with = "secret")]
    pub secret: Option<SecretString>,
    /// Earlier secrets sign no more, as after a leak.
    pub at_once: bool,
}

/// Why nothing was registered, or taken away. Nothing has changed, but for [`RegisterError::Busy`]: there it is not known.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name cannot be one.
    #[error("a name has at most {NAME_MOST} letters, digits, \".\", \"_\" and \"-\"")]
    Name,
    /// Another one has the name.
    #[error("there is a subscription \"{0}\" already; take another name, or remove that one first")]
    Taken(String),
    /// No connection belongs to the tenant.
    #[error("no connection belongs to tenant \"{0}\"; name one of those in the configuration")]
    Tenant(String),
    /// It is not a URL.
    #[error("the url is not one; write it like https://hooks.example.com/crm")]
    Url,
    /// It is never called.
    #[error("{0}; give the https:// url of a public host")]
    Refused(#[from] Refused),
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// The filter means nothing.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// `from` means nothing.
    #[error(transparent)]
    From(#[from] InvalidBegin),
    /// The stream does not hold that place.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// There are as many as there may be.
    #[error("there are {0} subscriptions, and no more are taken; raise [subscriptions] most")]
    Full(usize),
    /// No subscription has that name.
    #[error("there is no subscription \"{0}\"; subscription list shows those there are")]
    Unknown(String),
    /// It stands in the file.
    #[error("subscription \"{0}\" stands in the configuration; change it there and start anew")]
    Fixed(String),
    /// As many secrets sign as may.
    #[error(
        "{SECRETS_MOST} secrets sign its calls already; wait until the oldest ends, or end all earlier ones at once"
    )]
    Secrets,
    /// The state did not tell whether it has the new secret.
    #[error(
        "it is not known whether the state has the new secret; ask again with the same one, or for another where you gave \
         none, or calls may end up signed with what nobody knows"
    )]
    Renewing,
    /// It cannot be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// This process does not have the state, or the state did not tell how it ended. What was registered is listed once
    /// the state is there again; its secret, if it was made here, is told to nobody.
    #[error(
        "the state cannot be written now; look in a moment whether the subscription is listed, and remove it before you \
         register it again"
    )]
    Busy,
}

impl From<Busy> for RegisterError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// A registration in the form in which it is sealed.
#[derive(Serialize, Deserialize)]
struct Definition {
    tenant: String,
    url: String,
    secret: String,
    filter: FilterText,
    from: String,
    /// Secrets that still sign, the newest first.
    #[serde(default)]
    earlier: Vec<Earlier>,
}

/// A secret in whose place there is another one.
#[derive(Serialize, Deserialize)]
struct Earlier {
    secret: String,
    /// By our clock in microseconds.
    until: i64,
}

/// A registration that was understood, and its secret.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) config: SubscriptionConfig,
    pub(super) secret: SecretString,
    filter: FilterText,
}

impl Registration {
    /// Checks everything that can be checked without the stream.
    pub(super) fn understood(self, policy: &Policy, tenants: &[String]) -> Result<Understood, RegisterError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=NAME_MOST).contains(&self.name.len()) || !self.name.bytes().all(fits) {
            return Err(RegisterError::Name);
        }
        if !tenants.contains(&self.tenant) {
            return Err(RegisterError::Tenant(self.tenant));
        }
        let made = || Key::secret().map(SecretString::from).ok_or(VaultError::Crypto);
        let secret = self.secret.map_or_else(made, Ok)?;
        let definition = Definition {
            tenant: self.tenant,
            url: self.url,
            secret: secret.expose_secret().to_owned(),
            filter: self.filter,
            from: self.from,
            earlier: Vec::new(),
        };
        let config = definition.config(&self.name)?;
        policy.check(&config.url)?;
        Ok(Understood { config, secret, filter: definition.filter })
    }
}

impl Understood {
    /// Seals it.
    pub(super) fn seal(&self, vault: &Vault) -> Result<Vec<u8>, RegisterError> {
        let config = &self.config;
        let definition = Definition {
            tenant: config.tenant.clone(),
            url: config.url.to_string(),
            secret: self.secret.expose_secret().to_owned(),
            filter: self.filter.clone(),
            from: config.begin.to_string(),
            earlier: Vec::new(),
        };
        definition.seal(&config.name, vault)
    }
}

impl Definition {
    fn open(name: &str, sealed: &[u8], vault: &Vault) -> Result<Self, RegisterError> {
        let text = vault.open(&context(name), sealed)?;
        Ok(serde_json::from_slice(&text).map_err(|_| VaultError::Altered)?)
    }

    fn seal(&self, name: &str, vault: &Vault) -> Result<Vec<u8>, RegisterError> {
        // A map of text always has a form.
        let text = serde_json::to_vec(self).map_err(|_| VaultError::Crypto)?;
        Ok(vault.seal(&context(name), &text)?)
    }

    /// What signs: the secret, and after it the earlier ones, each until its end.
    fn keys(&self) -> Result<Vec<Key>, InvalidSecret> {
        let earlier = self.earlier.iter().map(|earlier| {
            let until = Timestamp::from_micros(earlier.until);
            Ok(Key::new(&earlier.secret)?.ending(until))
        });
        std::iter::once(Key::new(&self.secret)).chain(earlier).collect()
    }

    fn config(&self, name: &str) -> Result<SubscriptionConfig, RegisterError> {
        Ok(SubscriptionConfig {
            name: name.to_owned(),
            tenant: self.tenant.clone(),
            url: self.url.parse().map_err(|_| RegisterError::Url)?,
            keys: self.keys()?,
            filter: Filter { replayed: false, ..self.filter.filter()? },
            begin: self.from.parse::<Begin>()?,
        })
    }
}

/// Opens what [`Understood::seal`] made.
pub(super) fn open(name: &str, sealed: &[u8], vault: &Vault) -> Result<SubscriptionConfig, RegisterError> {
    Definition::open(name, sealed, vault)?.config(name)
}

/// A registration with a new secret.
pub(super) struct Renewed {
    pub(super) secret: SecretString,
    pub(super) keys: Vec<Key>,
    /// `None` where the secret that was asked for signs already, and nothing else changes.
    pub(super) sealed: Option<Vec<u8>>,
}

/// Puts a new secret in the place of the one that a registration has, which signs on for `overlap` after `now`.
pub(super) fn renew(
    name: &str,
    sealed: &[u8],
    renewal: Renewal,
    overlap: Duration,
    now: Timestamp,
    vault: &Vault,
) -> Result<Renewed, RegisterError> {
    let mut definition = Definition::open(name, sealed, vault)?;
    let made = || Key::secret().map(SecretString::from).ok_or(VaultError::Crypto);
    let secret = renewal.secret.map_or_else(made, Ok)?;
    Key::new(secret.expose_secret())?;
    let is_new = definition.secret != secret.expose_secret();
    let before = definition.earlier.len();
    definition.earlier.retain(|earlier| !renewal.at_once && earlier.until > now.micros());
    if is_new {
        let until = (now + overlap).micros();
        let last = std::mem::replace(&mut definition.secret, secret.expose_secret().to_owned());
        if !renewal.at_once {
            definition.earlier.insert(0, Earlier { secret: last, until });
        }
    }
    if definition.earlier.len() >= SECRETS_MOST {
        return Err(RegisterError::Secrets);
    }
    let changed = is_new || definition.earlier.len() != before;
    let sealed = if changed { Some(definition.seal(name, vault)?) } else { None };
    Ok(Renewed { secret, keys: definition.keys()?, sealed })
}

/// What a sealed registration is bound to.
fn context(name: &str) -> Vec<u8> {
    format!("subscription/{name}").into_bytes()
}
