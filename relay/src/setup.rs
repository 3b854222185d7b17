//! Making the CRMs ready, beside the engine: the field of our external id, and which optional fields an account has.
//!
//! While a CRM is known to lack the field, records of that type can be read and changed there but not made: only
//! creations and the look-ups that go by our id wait, and a person is told what to do. The surprising thing: a CRM that
//! does not answer the question holds back nothing for longer than one call may take, because what cannot be told must
//! not stop what works.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::ObjectType;
use headgate_schemas::shutdown::Shutdown;
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::RelayConfig;
use crate::driver::{Driver, Handle};
use crate::engine::{Command, Engine};
use crate::metrics::{self, Metrics};
use crate::target::{Prepared, Target, TargetError};

/// First wait after a failure; it doubles.
const RETRY: Duration = Duration::from_millis(500);
/// Longest wait after a failure.
const RETRY_MOST: Duration = Duration::from_secs(4);
/// Between two looks at what a person has to repair.
const BLOCKED: Duration = Duration::from_secs(30);

/// A connection and a type that this version writes there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) connection: String,
    pub(crate) object: ObjectType,
}

/// How far a place is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Status {
    /// The CRM has not been asked with success yet.
    Checking,
    /// The field is there.
    Ready,
    /// The CRM does not tell; records are made all the same.
    Unclear {
        /// What it answers instead.
        reason: String,
    },
    /// A person has to make the field; records of this type are not made until then.
    Blocked {
        /// The field.
        field: String,
        /// What to do, click by click.
        advice: String,
    },
}

/// What is known so far; it outlives the engine, which is opened again after a failure of the store. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setups {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    statuses: BTreeMap<Place, Status>,
    /// Places where nothing waits.
    open: HashSet<Place>,
    fields: Vec<(Place, HashSet<String>)>,
}

impl Setups {
    /// Tells a newly opened engine what it must wait for, and what is known of the fields.
    pub(crate) fn brief(&self, engine: &mut Engine, places: impl Iterator<Item = Place>) {
        let known = self.known.lock();
        for place in places.filter(|place| !known.open.contains(place)) {
            engine.await_set_up(&place.connection, &place.object);
        }
        for (place, fields) in &known.fields {
            engine.describe(&place.connection, &place.object, fields);
        }
    }

    /// Every place and how far it is.
    pub(crate) fn statuses(&self) -> BTreeMap<Place, Status> {
        self.known.lock().statuses.clone()
    }
}

/// The places that this version writes.
pub(crate) fn places<'a>(
    config: &'a RelayConfig,
    writable: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = Place> + 'a {
    config.links.iter().flat_map(move |link| {
        let written: Vec<_> = link.members.iter().filter(|name| writable(name)).collect();
        written.into_iter().map(|name| Place { connection: name.clone(), object: link.object.clone() })
    })
}

/// Starts a task for each place.
pub(crate) fn start(driver: &Driver, handle: &Handle) {
    for place in driver.places() {
        let Some(target) = driver.targets.get(&place.connection).cloned() else { continue };
        let handle = handle.clone();
        let work = Work {
            place,
            target,
            setups: driver.setups.clone(),
            metrics: driver.metrics.clone(),
            patience: driver.config.limits.send_deadline,
            look_again: BLOCKED,
            shutdown: driver.shutdown.clone(),
            tell: move |command| handle.command(command).is_ok(),
        };
        driver.shutdown.spawn("relay-setup", work.run());
    }
}

struct Work<T> {
    place: Place,
    target: Arc<dyn Target>,
    setups: Setups,
    metrics: Metrics,
    /// How long creations wait for a CRM that does not answer.
    patience: Duration,
    /// Between two looks at what a person has to repair.
    look_again: Duration,
    shutdown: Shutdown,
    /// Gives the engine a command; false while it is busy.
    tell: T,
}

impl<T: Fn(Command) -> bool> Work<T> {
    async fn run(self) {
        tokio::join!(self.prepare(), self.describe());
    }

    /// Asks until the answer is one to rest on, or the stop comes.
    async fn prepare(&self) {
        let begun = tokio::time::Instant::now();
        self.note(Status::Checking);
        let (mut wait, mut open) = (RETRY, false);
        loop {
            let prepared = self.target.prepare(&self.place.object).await;
            let pause = match prepared {
                Ok(prepared) => {
                    let status = self.judge(prepared);
                    let blocked = matches!(status, Status::Blocked { .. });
                    self.note(status);
                    if open == blocked {
                        self.open(!blocked).await;
                        open = !blocked;
                    }
                    if !blocked {
                        return;
                    }
                    self.look_again
                }
                Err(error) => {
                    self.failed(&error);
                    if !open && begun.elapsed() >= self.patience {
                        self.open(true).await;
                        open = true;
                    }
                    let pause = wait;
                    wait = (wait * 2).min(RETRY_MOST);
                    pause
                }
            };
            if !self.sleep(pause).await {
                return;
            }
        }
    }

    fn judge(&self, prepared: Prepared) -> Status {
        let (connection, object) = (self.place.connection.as_str(), self.place.object.as_str());
        match prepared {
            Prepared::Ready => Status::Ready,
            Prepared::Made => {
                tracing::info!(connection, object, "made the field of our external id");
                Status::Ready
            }
            Prepared::Unclear { reason } => {
                tracing::warn!(connection, object, reason, "cannot tell whether the field of our external id is there");
                Status::Unclear { reason }
            }
            Prepared::Blocked { field, advice } => {
                let status = Status::Blocked { field, advice };
                // Said once, not every half minute.
                if self.setups.known.lock().statuses.get(&self.place) != Some(&status)
                    && let Status::Blocked { field, advice } = &status
                {
                    tracing::error!(connection, object, field, advice, "no record of this type can be made there");
                }
                status
            }
        }
    }

    /// Lets creations go, or holds them back.
    async fn open(&self, open: bool) {
        {
            let mut known = self.setups.known.lock();
            if open {
                known.open.insert(self.place.clone())
            } else {
                known.open.remove(&self.place)
            };
        }
        let Place { connection, object } = &self.place;
        self.told(|| Command::SetUp { connection: connection.clone(), object: object.clone(), open }).await;
    }

    /// Asks for the metadata that decide whether optional fields are mapped; until they are known, those fields are not.
    async fn describe(&self) {
        let Place { connection, object } = &self.place;
        if !crate::mapping::has_optional(object) {
            return;
        }
        let mut wait = RETRY;
        loop {
            match self.target.describe(object).await {
                Ok(Some(fields)) => {
                    let fields: HashSet<String> =
                        fields.iter().filter(|f| f.updateable).map(|f| f.name.to_string()).collect();
                    self.setups.known.lock().fields.push((self.place.clone(), fields.clone()));
                    let described = || Command::Described {
                        connection: connection.clone(),
                        object: object.clone(),
                        fields: fields.clone(),
                    };
                    self.told(described).await;
                    return;
                }
                Ok(None) => return,
                Err(error) => self.failed(&error),
            }
            if !self.sleep(wait).await {
                return;
            }
            wait = (wait * 2).min(RETRY_MOST);
        }
    }

    fn failed(&self, error: &TargetError) {
        let (connection, object) = (self.place.connection.as_str(), self.place.object.as_str());
        tracing::warn!(connection, object, code = error.code, "the CRM cannot be asked for its fields; trying again");
    }

    /// Gives the engine a command, again while it is busy.
    async fn told(&self, command: impl Fn() -> Command) {
        while !(self.tell)(command()) {
            if !self.sleep(RETRY).await {
                return;
            }
        }
    }

    async fn sleep(&self, wait: Duration) -> bool {
        tokio::select! {
            () = self.shutdown.stopped() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    fn note(&self, status: Status) {
        let Place { connection, object } = &self.place;
        let place = metrics::Place { connection: connection.clone(), object: object.to_string() };
        let state = match &status {
            Status::Ready | Status::Unclear { .. } => 0,
            Status::Checking => 1,
            Status::Blocked { .. } => 2,
        };
        self.metrics.setup.get_or_create(&place).set(state);
        self.setups.known.lock().statuses.insert(self.place.clone(), status);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::target::{
        Answered, Calling, Disposition, FieldInfo, FindCall, Pack, ReadCall, ReadItem, WriteCall, Written,
    };

    /// A CRM that answers the question of its set-up as told, then says that it has no answer left and hangs.
    struct Asked {
        answers: Mutex<VecDeque<Result<Prepared, TargetError>>>,
        exhausted: Arc<tokio::sync::Notify>,
    }

    impl Target for Asked {
        fn pack(&self) -> Pack {
            Pack { read: 1, write: 1 }
        }
        fn writable(&self) -> bool {
            true
        }
        fn conditional(&self) -> bool {
            false
        }
        fn read<'a>(&'a self, _: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
            unreachable!("set-up reads nothing")
        }
        fn write<'a>(&'a self, _: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
            unreachable!("set-up writes nothing")
        }
        fn find<'a>(&'a self, _: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
            unreachable!("set-up finds nothing")
        }
        fn prepare<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Prepared> {
            let next = self.answers.lock().pop_front();
            Box::pin(async {
                match next {
                    Some(answer) => answer,
                    None => {
                        self.exhausted.notify_one();
                        std::future::pending().await
                    }
                }
            })
        }
        fn describe<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
            Box::pin(async { Ok(None) })
        }
    }

    fn lost() -> Result<Prepared, TargetError> {
        Err(TargetError::new("timeout", "", Disposition::Retry))
    }

    fn blocked() -> Result<Prepared, TargetError> {
        Ok(Prepared::Blocked { field: "relay_id".to_owned(), advice: "make it".to_owned() })
    }

    /// What the engine is told until the answers are used up, and the status then.
    async fn outcome(answers: Vec<Result<Prepared, TargetError>>, patience: Duration) -> (Vec<bool>, Status) {
        let place = Place { connection: "hubspot-main".to_owned(), object: ObjectType::CONTACT };
        let (setups, commands) = (Setups::default(), Arc::new(Mutex::new(Vec::new())));
        let exhausted = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&commands);
        let work = Work {
            place: place.clone(),
            target: Arc::new(Asked { answers: Mutex::new(answers.into()), exhausted: Arc::clone(&exhausted) }),
            setups: setups.clone(),
            metrics: Metrics::unregistered(),
            patience,
            look_again: Duration::ZERO,
            shutdown: Shutdown::new(Duration::from_secs(1)),
            tell: move |command| {
                if let Command::SetUp { open, .. } = command {
                    told.lock().push(open);
                }
                true
            },
        };
        tokio::select! {
            () = work.run() => {}
            () = exhausted.notified() => {}
        }
        let status = setups.statuses().remove(&place).unwrap();
        let commands = commands.lock().clone();
        (commands, status)
    }

    #[tokio::test]
    async fn creations_wait_only_where_the_field_is_known_to_be_missing() {
        let long = Duration::from_secs(3_600);
        let (ready, unclear) = (Prepared::Ready, Prepared::Unclear { reason: "404".to_owned() });
        assert_eq!(outcome(vec![Ok(ready.clone())], long).await, (vec![true], Status::Ready));
        assert_eq!(outcome(vec![Ok(Prepared::Made)], long).await, (vec![true], Status::Ready));
        let told = Status::Unclear { reason: "404".to_owned() };
        assert_eq!(outcome(vec![Ok(unclear)], long).await, (vec![true], told));
        assert_eq!(outcome(vec![lost(), Ok(ready)], long).await, (vec![true], Status::Ready));
        let advice = Status::Blocked { field: "relay_id".to_owned(), advice: "make it".to_owned() };
        assert_eq!(outcome(vec![blocked()], long).await, (vec![], advice.clone()));
        assert_eq!(outcome(vec![lost()], Duration::ZERO).await, (vec![true], Status::Checking), "patience is over");
        assert_eq!(outcome(vec![lost(), blocked()], Duration::ZERO).await, (vec![true, false], advice));
    }
}
