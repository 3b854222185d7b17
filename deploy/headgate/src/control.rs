//! Endpoints that all gateways on one cluster share: added while they run, kept in a compacted topic, sealed, and known
//! to be active on so many of so many gateways.
//!
//! It must not know how calls are answered or how the topic is read. The surprising thing is what an endpoint is here:
//! the text of an `[[endpoint]]` as it would stand in the file, with its secrets beside it. Each gateway reads it behind
//! its own file with the reader of the file, so that the same rules hold and the file wins.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headgate_gateway::{Added, Directory, Gateway, Reread};
use headgate_relay::vault::Vault;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::StreamError;
use headgate_schemas::stream::kafka::{Control, Entry};
use headgate_schemas::time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::config::{self, Env, Ground};

/// The topic.
pub(crate) const TOPIC: &str = "headgate.control";
/// Between two looks at what is new.
const FOLLOW: Duration = Duration::from_secs(1);
/// A call that would be refused asks at most so often.
const ASK: Duration = Duration::from_millis(500);
/// How often a gateway says that it is there.
const BEAT: Duration = Duration::from_secs(5);
/// One that was not heard of for so long is gone.
const GONE: Duration = Duration::from_secs(20);
/// Longest wait for all gateways to have an endpoint.
const ACTIVE: Duration = Duration::from_secs(5);
/// Endpoints that are shared at most.
const MOST: usize = 1_000;

/// An endpoint as it is shared.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// When it was added, which tells its versions apart.
    #[serde(default)]
    edition: u64,
    /// One `[[endpoint]]`.
    toml: String,
    /// What the variables hold that it names.
    secrets: BTreeMap<String, String>,
}

/// What a gateway says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Beat {
    at_ms: i64,
    /// The endpoints it has, by name, with their edition.
    has: BTreeMap<String, u64>,
}

/// Why an endpoint is not shared. Says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// It cannot be used as it is.
    #[error("{0}")]
    Invalid(String),
    /// There is none of this name that was added.
    #[error("no endpoint {0} was added; one of the file is taken out of the file")]
    Unknown(String),
    /// There are too many.
    #[error("{MOST} endpoints are shared already; remove one, or put some into the file")]
    Full,
    /// The topic cannot be read or written.
    #[error("the control topic: {0}")]
    Stream(#[from] StreamError),
    /// There is nothing to seal with.
    #[error("this gateway has no key file; give it the one that the others have, as [store] key_file")]
    NoKey,
    /// It cannot be sealed.
    #[error("{0}")]
    Vault(#[from] headgate_relay::vault::VaultError),
}

/// How far an endpoint has come.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) name: String,
    /// Gateways that have it.
    pub(crate) active_on: usize,
    /// Gateways there are.
    pub(crate) gateways: usize,
    /// It was taken away.
    pub(crate) removed: bool,
    /// Why this gateway cannot use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
}

/// A gateway's view of what is shared.
pub(crate) struct Shares {
    topic: Control,
    /// None where there is no key file, and so nothing can be opened.
    vault: Option<Vault>,
    ground: Ground,
    gateway: Gateway,
    /// This gateway among the others.
    me: String,
    known: Mutex<Known>,
    /// One reader at a time, and when it last asked.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Known {
    endpoints: BTreeMap<String, Shared>,
    /// What could not be opened or used, and why.
    faults: BTreeMap<String, String>,
    beats: HashMap<String, Beat>,
}

impl Standing {
    /// Whether every gateway has it, or has it no more.
    fn is_everywhere(&self) -> bool {
        self.active_on == if self.removed { 0 } else { self.gateways }
    }
}

impl Known {
    fn has(&self) -> BTreeMap<String, u64> {
        let usable = self.endpoints.iter().filter(|(name, _)| !self.faults.contains_key(*name));
        usable.map(|(name, shared)| (name.clone(), shared.edition)).collect()
    }

    fn standing(&self, name: &str, now_ms: i64) -> Standing {
        let edition = self.endpoints.get(name).map(|shared| shared.edition);
        let there = self.beats.values().filter(|beat| now_ms - beat.at_ms < millis(GONE));
        let has = |beat: &&Beat| beat.has.get(name).is_some_and(|has| edition.is_none_or(|edition| edition == *has));
        let active_on = there.clone().filter(has).count();
        let fault = self.faults.get(name).cloned();
        let removed = edition.is_none() && fault.is_none();
        Standing { name: name.to_owned(), active_on, gateways: there.count(), removed, fault }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Shares {
    /// Reads everything that is shared, gives it to the gateway, and goes on following.
    ///
    /// # Errors
    /// When the topic cannot be read to its end.
    pub(crate) async fn start(
        topic: Control,
        vault: Option<Vault>,
        ground: Ground,
        gateway: &Gateway,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, ControlError> {
        let me = format!("{}@{}", time::now().micros(), gateway.local_addr());
        let (known, turn) = (Mutex::default(), tokio::sync::Mutex::new(None));
        let shares = Arc::new(Self { topic, vault, ground, gateway: gateway.clone(), me, known, turn });
        shares.read_on()?;
        shares.beat().await?;
        gateway.consult(Arc::new(Ask(Arc::downgrade(&shares))));
        shutdown.spawn("control", Arc::clone(&shares).follow(shutdown.clone()));
        Ok(shares)
    }

    async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut beaten = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.stopped() => break,
                () = sleep(FOLLOW) => {}
            }
            let read = self.turn().await;
            if read.is_ok() && beaten.elapsed() >= BEAT {
                match self.beat().await {
                    Ok(()) => beaten = Instant::now(),
                    Err(error) => tracing::warn!(%error, "this gateway cannot say which endpoints it has"),
                }
            }
        }
        if let Err(error) = self.topic.put(&format!("gateway/{}", self.me), None).await {
            tracing::debug!(%error, "this gateway cannot say that it goes");
        }
    }

    /// Reads on, one at a time, and tells the others what changed here.
    async fn turn(&self) -> Result<bool, ControlError> {
        let mut asked = self.turn.lock().await;
        let read = self.read_on();
        *asked = Some(Instant::now());
        match &read {
            Ok(true) => self.beat().await?,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "shared endpoints cannot be read now"),
        }
        read
    }

    /// Takes in what is new. Tells whether endpoints changed. Blocks for as long as the topic takes.
    fn read_on(&self) -> Result<bool, ControlError> {
        let (anew, entries) = self.topic.read_on()?;
        let mut known = self.known.lock();
        if anew {
            *known = Known::default();
        }
        let before = known.has();
        for entry in entries {
            self.take(&mut known, entry);
        }
        let changed = anew || known.has() != before;
        if changed {
            self.use_all(&mut known);
        }
        Ok(changed)
    }

    fn take(&self, known: &mut Known, (key, value): Entry) {
        if let Some(gateway) = key.strip_prefix("gateway/") {
            match value.and_then(|value| serde_json::from_slice(&value).ok()) {
                Some(beat) => known.beats.insert(gateway.to_owned(), beat),
                None => known.beats.remove(gateway),
            };
        } else if let Some(name) = key.strip_prefix("endpoint/") {
            known.faults.remove(name);
            known.endpoints.remove(name);
            let Some(sealed) = value else { return };
            let opened = match &self.vault {
                Some(vault) => vault.open(key.as_bytes(), &sealed).map_err(|error| error.to_string()),
                None => Err(ControlError::NoKey.to_string()),
            };
            let shared = opened.and_then(|plain| {
                serde_json::from_slice(&plain)
                    .map_err(|_| "it was written by another version of this program".to_owned())
            });
            match shared {
                Ok(shared) => {
                    known.endpoints.insert(name.to_owned(), shared);
                }
                Err(fault) => {
                    tracing::error!(endpoint = name, fault, "a shared endpoint cannot be opened");
                    known.faults.insert(name.to_owned(), fault);
                }
            }
        }
    }

    /// Gives the gateway every endpoint that can be used, in the order of their names.
    fn use_all(&self, known: &mut Known) {
        let mut added = Vec::with_capacity(known.endpoints.len());
        let mut good = Vec::new();
        for (name, shared) in &known.endpoints {
            good.push(shared);
            match read(&self.ground, &good) {
                Ok(config) => added.push(Added { edition: shared.edition, config }),
                Err(fault) => {
                    good.pop();
                    tracing::error!(endpoint = name, fault, "a shared endpoint cannot be used beside this file");
                    known.faults.insert(name.clone(), fault);
                }
            }
        }
        if let Err(error) = self.gateway.add_endpoints(added) {
            tracing::error!(%error, "shared endpoints cannot be used; those of before stay");
        }
    }

    async fn beat(&self) -> Result<(), StreamError> {
        let beat = Beat { at_ms: time::now().millis(), has: self.known.lock().has() };
        let text = serde_json::to_vec(&beat).unwrap_or_default();
        self.topic.put(&format!("gateway/{}", self.me), Some(&text)).await
    }

    /// Shares an endpoint, new or in the place of an earlier one of its name, and waits until all gateways have it.
    ///
    /// # Errors
    /// When it cannot be used, or not be written.
    pub(crate) async fn add(&self, mut shared: Shared) -> Result<Standing, ControlError> {
        self.turn().await?;
        shared.edition = u64::try_from(time::now().micros()).unwrap_or(0);
        let name = {
            let known = self.known.lock();
            // Its name is known when it was read, so it is read by itself first.
            let name = read(&self.ground, &[&shared]).map_err(ControlError::Invalid)?.name;
            let others = known.endpoints.iter().filter(|(other, _)| **other != name).map(|(_, shared)| shared);
            let all: Vec<&Shared> = others.chain([&shared]).collect();
            if all.len() > MOST {
                return Err(ControlError::Full);
            }
            read(&self.ground, &all).map_err(ControlError::Invalid)?;
            name
        };
        let key = format!("endpoint/{name}");
        let plain = serde_json::to_vec(&shared).unwrap_or_default();
        let sealed = self.vault.as_ref().ok_or(ControlError::NoKey)?.seal(key.as_bytes(), &plain)?;
        self.topic.put(&key, Some(&sealed)).await?;
        self.everywhere(&name).await
    }

    /// Takes a shared endpoint away, and waits until no gateway has it.
    ///
    /// # Errors
    /// When there is none, or it cannot be written.
    pub(crate) async fn remove(&self, name: &str) -> Result<Standing, ControlError> {
        self.turn().await?;
        let there = {
            let known = self.known.lock();
            known.endpoints.contains_key(name) || known.faults.contains_key(name)
        };
        if !there {
            return Err(ControlError::Unknown(name.to_owned()));
        }
        self.topic.put(&format!("endpoint/{name}"), None).await?;
        self.everywhere(name).await
    }

    /// Waits until all gateways know as much as this one about an endpoint, or long enough.
    async fn everywhere(&self, name: &str) -> Result<Standing, ControlError> {
        let since = Instant::now();
        loop {
            self.turn().await?;
            let standing = self.known.lock().standing(name, time::now().millis());
            if standing.is_everywhere() || since.elapsed() > ACTIVE {
                return Ok(standing);
            }
            sleep(ASK / 5).await;
        }
    }

    /// Every shared endpoint, and how far it has come.
    pub(crate) fn list(&self) -> Vec<Standing> {
        let known = self.known.lock();
        let now = time::now().millis();
        let names =
            known.endpoints.keys().chain(known.faults.keys().filter(|name| !known.endpoints.contains_key(*name)));
        names.map(|name| known.standing(name, now)).collect()
    }
}

/// What a gateway asks; it does not keep alive what knows the gateway.
struct Ask(Weak<Shares>);

impl Directory for Ask {
    fn reread(&self) -> Reread<'_> {
        Box::pin(async move {
            let Some(shares) = self.0.upgrade() else { return false };
            let asked = *shares.turn.lock().await;
            // Whoever sends what nobody knows must not make us read all the time.
            if asked.is_some_and(|at| at.elapsed() < ASK) {
                return false;
            }
            shares.turn().await.unwrap_or(false)
        })
    }
}

/// Reads endpoints behind the file; answers the last of them.
fn read(ground: &Ground, shared: &[&Shared]) -> Result<headgate_gateway::config::EndpointConfig, String> {
    let mut env = ground.env.clone();
    let mut text = ground.text.clone();
    for shared in shared {
        is_one(&shared.toml)?;
        text.push('\n');
        text.push_str(&shared.toml);
        env.extend(shared.secrets.clone());
    }
    let config = config::parse(&text, &ground.base, &env).map_err(|(faults, _)| {
        let faults: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}; {}", fault.at, fault.problem, fault.fix)).collect();
        faults.join("\n")
    })?;
    config.gateway.endpoints.into_iter().next_back().ok_or_else(|| "there is no endpoint".to_owned())
}

/// Whether a text holds one `[[endpoint]]` and nothing else.
fn is_one(text: &str) -> Result<Vec<(String, toml::Value)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let one = || "write one [[endpoint]], and nothing else".to_owned();
    let only = table.len() == 1;
    let mut entries = match table.into_iter().next() {
        Some((name, toml::Value::Array(entries))) if only && name == "endpoint" && entries.len() == 1 => entries,
        _ => return Err(one()),
    };
    match entries.pop() {
        Some(toml::Value::Table(entry)) => Ok(entry.into_iter().collect()),
        _ => Err(one()),
    }
}

/// An endpoint in a file of its own, with the secrets that it names.
///
/// # Errors
/// When the file cannot be read or a variable is not set; the server says what else is wrong.
pub(crate) fn from_file(path: &Path, env: &Env) -> Result<Shared, String> {
    let toml = std::fs::read_to_string(path).map_err(|error| format!("{}: {}", path.display(), error.kind()))?;
    let named = is_one(&toml)?.into_iter().filter(|(key, _)| key.ends_with("_env"));
    let mut secrets = BTreeMap::new();
    for (key, name) in named {
        let Some(name) = name.as_str() else { return Err(format!("{key} is not the name of a variable")) };
        let value = env.get(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
        secrets.insert(name.to_owned(), value.clone());
    }
    Ok(Shared { edition: 0, toml, secrets })
}
