//! What an operator may know about the endpoints: whose calls they take, and how their secrets are doing. It must not
//! hold a secret or a key of a path. The surprising thing: a secret is named by its place alone.

use headgate_schemas::Timestamp;
use serde::Serialize;

use crate::config::Owners;
use crate::provider::Endpoint;
use crate::signature::Keys;

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its name in the configuration.
    pub name: String,
    /// The provider in its path.
    pub provider: &'static str,
    /// Its connection, unless each event's account says it.
    pub connection: Option<String>,
    /// Connections it serves.
    pub connections: usize,
    /// Its shared secrets, the current one first.
    pub secrets: Vec<SecretStatus>,
}

/// One live secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretStatus {
    /// `first` or `second`.
    pub place: &'static str,
    /// The last call it verified since the start.
    pub last_used_at: Option<Timestamp>,
    /// From then on it is no longer accepted.
    pub expires_at: Option<Timestamp>,
    /// It has ended.
    pub expired: bool,
}

/// The status of `endpoint` at `now`.
pub(crate) fn of(endpoint: &Endpoint, now: Timestamp) -> EndpointStatus {
    let config = &endpoint.config;
    let keys = match &endpoint.keys {
        Keys::Shared(keys) => keys.as_slice(),
        _ => &[],
    };
    let secret = |(place, key): (usize, &crate::signature::SharedKey)| {
        let expires_at = if place == 0 { None } else { config.second_secret_expires };
        SecretStatus {
            place: if place == 0 { "first" } else { "second" },
            last_used_at: key.last_used(),
            expires_at,
            expired: expires_at.is_some_and(|at| at <= now),
        }
    };
    EndpointStatus {
        name: config.name.clone(),
        provider: config.provider.as_str(),
        connection: match &config.owners {
            Owners::One(owner) => Some(owner.connection.clone()),
            Owners::ByAccount(_) => None,
        },
        connections: config.owners.iter().count(),
        secrets: keys.iter().enumerate().map(secret).collect(),
    }
}
