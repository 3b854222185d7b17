//! Which endpoints there are: those of the configuration, and those that were added while the gateway runs.
//!
//! It must not know where the added ones come from. The surprising thing: an endpoint that did not change keeps its
//! counts when others do, so that adding one gives nobody a fresh allowance.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::RootCertStore;

use crate::StartError;
use crate::config::{EndpointConfig, ProviderName};
use crate::provider::{self, Endpoint};
use crate::tls::ClientAuthority;

/// By provider and key.
type Table = HashMap<(ProviderName, String), Arc<Endpoint>, ahash::RandomState>;

/// Whoever knows of endpoints that this gateway may not have heard of yet.
pub trait Directory: Send + Sync {
    /// Reads on, and gives the gateway what it did not have. Tells whether there was anything new; answers soon, and
    /// says no where it was asked a moment ago.
    fn reread(&self) -> Reread<'_>;
}

/// The future of [`Directory::reread`].
pub type Reread<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// An endpoint that is added while the gateway runs.
#[derive(Clone, Debug)]
pub struct Added {
    /// Tells its versions apart.
    pub edition: u64,
    /// What it is.
    pub config: EndpointConfig,
}

/// The endpoints of a gateway.
#[derive(Debug)]
pub(crate) struct Doors {
    configured: Table,
    all: RwLock<Arc<Table>>,
    added: RwLock<HashMap<String, (u64, Arc<Endpoint>)>>,
    /// Requests per second of each account.
    rate: u32,
    /// The number of the next endpoint.
    next: parking_lot::Mutex<usize>,
}

impl Doors {
    /// Those of the configuration.
    pub(crate) fn open(
        endpoints: Vec<EndpointConfig>,
        rate: u32,
        tls: bool,
        authorities: &mut RootCertStore,
    ) -> Result<Self, StartError> {
        let mut table = Table::default();
        let next = endpoints.len();
        for (number, config) in endpoints.into_iter().enumerate() {
            if config.client_ca_file.is_some() && !tls {
                return Err(StartError::NeedsTls { endpoint: config.name });
            }
            let mut endpoint = door(config, rate, number)?;
            if let Some(file) = &endpoint.config.client_ca_file {
                endpoint.clients = Some(ClientAuthority::load(file, authorities)?);
            }
            insert(&mut table, Arc::new(endpoint))?;
        }
        let all = RwLock::new(Arc::new(table.clone()));
        Ok(Self { configured: table, all, added: RwLock::default(), rate, next: next.into() })
    }

    /// The endpoint with this key.
    pub(crate) fn find(&self, provider: ProviderName, key: &str) -> Option<Arc<Endpoint>> {
        self.all.read().get(&(provider, key.to_owned())).cloned()
    }

    /// All of them, in no order.
    pub(crate) fn list(&self) -> Vec<Arc<Endpoint>> {
        self.all.read().values().cloned().collect()
    }

    /// Makes `added` the endpoints beside those of the configuration, in one step.
    ///
    /// # Errors
    /// When one of them cannot be used; nothing changes then.
    pub(crate) fn add(&self, added: Vec<Added>) -> Result<(), StartError> {
        let mut known = self.added.write();
        let (mut table, mut now) = (self.configured.clone(), HashMap::new());
        for Added { edition, config } in added {
            let kept = known.get(&config.name).filter(|(before, _)| *before == edition);
            let endpoint = match kept {
                Some((_, endpoint)) => Arc::clone(endpoint),
                // Which authorities are trusted is fixed when the listener starts.
                None if config.client_ca_file.is_some() => return Err(StartError::NeedsTls { endpoint: config.name }),
                None => Arc::new(door(config, self.rate, self.number())?),
            };
            now.insert(endpoint.config.name.clone(), (edition, Arc::clone(&endpoint)));
            insert(&mut table, endpoint)?;
        }
        *known = now;
        *self.all.write() = Arc::new(table);
        Ok(())
    }

    fn number(&self) -> usize {
        let mut next = self.next.lock();
        *next += 1;
        *next - 1
    }
}

fn insert(table: &mut Table, endpoint: Arc<Endpoint>) -> Result<(), StartError> {
    if endpoint.config.key.is_empty() {
        return Err(StartError::EmptyKey { endpoint: endpoint.config.name.clone() });
    }
    let place = (endpoint.config.provider, endpoint.config.key.clone());
    match table.get(&place) {
        Some(first) => {
            let (first, second) = (first.config.name.clone(), endpoint.config.name.clone());
            Err(StartError::SameKey { first, second })
        }
        None => {
            table.insert(place, endpoint);
            Ok(())
        }
    }
}

/// One endpoint with its keys.
fn door(config: EndpointConfig, rate: u32, number: usize) -> Result<Endpoint, StartError> {
    let keys = provider::find(config.provider).keys(&config.credential);
    let keys = keys.map_err(|source| StartError::Credential { endpoint: config.name.clone(), source })?;
    let mut endpoint = Endpoint::new(config, keys, rate);
    endpoint.number = number;
    Ok(endpoint)
}
