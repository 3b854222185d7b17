//! What of a login outlives the process: the refresh token that is good now and the access token it gave, sealed as one.
//! Pure.
//!
//! The surprising thing is the origin: a digest of what the configuration says. When somebody puts another refresh token
//! there, what was kept belongs to another login and counts no more.

use std::time::Duration;

use headgate_schemas::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Grant, OauthConfig};
use crate::vault::{Vault, VaultError};

/// A login as it stands.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Counts the exchanges of this login from 1.
    pub(super) version: u64,
    /// What of the configuration it goes back to.
    pub(super) origin: [u8; 32],
    /// For the next exchange.
    pub(super) refresh: SecretString,
    /// What the last exchange gave.
    pub(super) access: SecretString,
    /// When it gave it.
    pub(super) granted: Timestamp,
    /// How long that is good, where it was told.
    pub(super) life: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    version: u64,
    origin: [u8; 32],
    refresh: String,
    access: String,
    granted: i64,
    life_s: Option<u64>,
}

impl Kept {
    /// The row of a connection.
    pub(super) fn seal(&self, connection: &str, vault: &Vault) -> Result<Vec<u8>, VaultError> {
        let row = Row {
            version: self.version,
            origin: self.origin,
            refresh: self.refresh.expose_secret().to_owned(),
            access: self.access.expose_secret().to_owned(),
            granted: self.granted.micros(),
            life_s: self.life.map(|life| life.as_secs()),
        };
        // Numbers and text always have a form.
        let plain = postcard::to_stdvec(&row).map_err(|_| VaultError::Crypto)?;
        vault.seal(&context(connection), &plain)
    }

    /// Reads the row of a connection.
    pub(super) fn open(connection: &str, sealed: &[u8], vault: &Vault) -> Result<Self, VaultError> {
        let plain = vault.open(&context(connection), sealed)?;
        let row: Row = postcard::from_bytes(&plain).map_err(|_| VaultError::Altered)?;
        Ok(Self {
            version: row.version,
            origin: row.origin,
            refresh: row.refresh.into(),
            access: row.access.into(),
            granted: Timestamp::from_micros(row.granted),
            life: row.life_s.map(Duration::from_secs),
        })
    }

    /// Whether this is what follows on `row` by one exchange.
    pub(super) fn follows(&self, row: Option<&Self>) -> bool {
        self.version == row.map_or(0, |row| row.version) + 1
    }
}

/// What a sealed login is bound to.
fn context(connection: &str) -> Vec<u8> {
    format!("oauth/{connection}").into_bytes()
}

/// What a login goes back to; `None` for grants that need no login.
pub(super) fn origin(config: &OauthConfig) -> Option<[u8; 32]> {
    let Grant::RefreshToken { refresh_token, .. } = &config.grant else { return None };
    let mut digest = Sha256::new();
    for part in [config.token_url.as_str(), config.client_id.as_str(), refresh_token.expose_secret()] {
        // With its length, so that no two configurations read alike.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Some(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u64, refresh: &str) -> Kept {
        Kept {
            version,
            origin: [7; 32],
            refresh: refresh.into(),
            access: "s3cr3t-access".into(),
            granted: Timestamp::from_secs(1_000),
            life: Some(Duration::from_secs(1_800)),
        }
    }

    #[test]
    fn a_login_opens_for_its_connection_only_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&folder.path().join("key")).unwrap();
        let sealed = kept(3, "s3cr3t-refresh").seal("hubspot-main", &vault).unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"s3cr3t"));
        let found = Kept::open("hubspot-main", &sealed, &vault).unwrap();
        assert_eq!((found.version, found.origin), (3, [7; 32]));
        assert_eq!(found.refresh.expose_secret(), "s3cr3t-refresh");
        assert_eq!(found.access.expose_secret(), "s3cr3t-access");
        assert_eq!((found.granted, found.life), (Timestamp::from_secs(1_000), Some(Duration::from_secs(1_800))));
        assert!(matches!(Kept::open("hubspot-other", &sealed, &vault), Err(VaultError::Altered)));
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }

    #[test]
    fn an_exchange_counts_only_on_what_it_was_made_from() {
        let (one, two) = (kept(1, "a"), kept(2, "b"));
        assert!(one.follows(None) && two.follows(Some(&one)));
        assert!(!two.follows(None) && !two.follows(Some(&kept(2, "c"))) && !one.follows(Some(&one)));
    }

    #[test]
    fn another_refresh_token_in_the_configuration_is_another_login() {
        let config = |client: &str, token: &str| OauthConfig {
            token_url: "https://id.example.com/token".into(),
            client_id: client.into(),
            scope: None,
            grant: Grant::RefreshToken { client_secret: None, refresh_token: token.into() },
        };
        assert_eq!(origin(&config("a", "bc")), origin(&config("a", "bc")));
        assert_ne!(origin(&config("a", "bc")), origin(&config("ab", "c")));
        assert_ne!(origin(&config("a", "bc")), origin(&config("a", "bd")));
        let own = Grant::ClientCredentials { client_secret: "s".into() };
        assert_eq!(origin(&OauthConfig { grant: own, ..config("a", "b") }), None);
    }
}
