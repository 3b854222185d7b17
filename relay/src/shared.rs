//! One state, several workers: the lease of this one, ticks that others overtook, work of those that are no more.
//!
//! Where one worker has the state and others stand by, it keeps its lease, and makes no call that could outlive it. The
//! rest of this file is for a state that is shared in earnest. The partitions of the stream are divided; but every worker
//! may fold into every entity; the version check of the commit decides who was first, and the other does its tick again on
//! what stands there by then, while the first one waits for it. A call is different, because it cannot be taken back: its
//! pair belongs to the worker whose epoch its row names, until that worker settles it, or has lost its lease and the call
//! cannot be under way any more. The surprising thing: a pair without a call is nobody's property. Whoever changes the
//! entity takes it along, and the worker that had it finds out when it next looks at the entity, which it does before any
//! use.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use headgate_schemas::Timestamp;
use headgate_schemas::stream::Position;

use crate::books::{Books, Share};
use crate::config::Limits;
use crate::departure::Brake;
use crate::engine::{CallId, Engine, Flight, Tick, micros};
use crate::entity::fold::Peer;
use crate::entity::record::{Leaving, Life};
use crate::line::Line;
use crate::pace::Backlog;
use crate::store::{Division, EntityId, SharedBooks, Start, StoreError, WorkKey, WorkRow};
use crate::work::Pair;

/// Times a tick is tried before the engine is opened anew. From the second on others are held off, so that only whoever
/// was held up while it did the same is in the way.
const TRIES: usize = 8;
/// Pairs that are taken over in one go.
const ADOPTED: usize = 500;
/// A lease is renewed, and others are looked for, so many times in its length.
const LOOKS: i64 = 4;
/// Others are looked for at least so often, where several share a state: a partition that nobody reads waits so long.
const LOOK_MOST: i64 = 1_000_000;
/// Documents that are counted in one go.
const COUNTED: u32 = 1_000;
/// How often an entity is looked at that waits for a call of another worker before it is joined.
const JOIN_LOOK: i64 = 1_000_000;

/// How this worker holds its part of the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenure {
    /// Others work on the state, too.
    pub(crate) shared: bool,
    /// When the lease is over.
    until: i64,
    next_look: i64,
}

impl Tenure {
    /// A lease that was just given.
    pub(crate) const fn new(shared: bool, until: i64, now: i64) -> Self {
        Self { shared, until, next_look: now }
    }

    /// When the lease is over.
    pub(crate) const fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until)
    }

    /// It ends unless it is renewed: others may have the state after this worker.
    const fn is_leased(&self) -> bool {
        self.until != i64::MAX
    }
}

/// What a worker has of a state that several share; all of it where it is alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Partitions of the stream.
    partitions: u32,
    /// Those it reads; `None` where it reads all.
    reads: Option<BTreeSet<u32>>,
    /// Rises with each change of what it reads.
    edition: u64,
    /// How far the others had read when it last looked.
    read_to: Vec<Position>,
    /// The workers, oldest first.
    workers: Vec<u64>,
    /// The partitions are divided with the others; otherwise whoever drives the engine says which it reads.
    divided: bool,
}

impl Part {
    /// What there is at the start: nothing of a state that is shared, before it was divided.
    pub(crate) fn of(start: &Start, partitions: u32) -> Self {
        Self { partitions, reads: start.shared.then(BTreeSet::new), ..Self::default() }
    }

    /// Whether a partition is this worker's.
    pub(crate) fn has(&self, partition: u32) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.contains(&partition))
    }

    fn set(&mut self, reads: BTreeSet<u32>) {
        if self.reads.as_ref() != Some(&reads) {
            self.reads = Some(reads);
            self.edition += 1;
        }
    }
}

/// How long a lease is: a call that is made in its first half ends before it does.
pub(crate) fn lease_of(limits: &Limits) -> i64 {
    micros(limits.lease.max(limits.send_deadline * 3))
}

/// What a void tick is taken back to. Documents and rows are read anew instead.
struct Mark {
    lines: BTreeMap<u32, Line>,
    peers: BTreeMap<u32, Peer>,
    flights: HashMap<CallId, Flight>,
    joins: BTreeMap<EntityId, EntityId>,
    brakes: HashMap<String, Brake>,
    positions: BTreeMap<u32, u64>,
    backlog: Backlog,
    next_call: CallId,
    dice: fastrand::Rng,
}

impl Engine {
    /// Reads the stream from where it stands in these partitions, instead of whoever did; of the others nothing may be
    /// given to [`Engine::tick`] any more. Only where the state is shared: otherwise all are this worker's already.
    ///
    /// # Errors
    /// As [`Engine::tick`].
    pub fn take_partitions(&mut self, partitions: &[u32], now: Timestamp) -> Result<(), StoreError> {
        let positions = self.store.take_partitions(self.epoch, now.micros(), partitions)?;
        self.positions = positions.into_iter().map(|p| (p.partition, p.offset)).collect();
        self.part.set(partitions.iter().copied().collect());
        Ok(())
    }

    /// Takes this worker's part of the partitions, or gives some up, as who else works on the state has it. From now on
    /// this happens by itself, at every look at the others. Only where the state is shared.
    ///
    /// # Errors
    /// As [`Engine::tick`].
    pub fn join_division(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.part.divided = true;
        self.divide(now)
    }

    fn divide(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Division { workers, mine, positions, goings, sizes } =
            self.store.divide(self.epoch, now.micros(), self.part.partitions)?;
        let mine: BTreeSet<u32> = mine.into_iter().collect();
        let known = positions.iter().filter(|p| mine.contains(&p.partition));
        self.positions = known.map(|p| (p.partition, p.offset)).collect();
        self.recover_brakes(&goings, &sizes);
        let workers_now = workers.len().max(1);
        self.lines.values_mut().for_each(|line| line.share_slots(workers_now));
        if self.part.workers != workers || self.part.reads.as_ref() != Some(&mine) {
            tracing::info!(workers = workers.len(), partitions = mine.len(), "the stream is divided among the relays");
        }
        (self.part.workers, self.part.read_to) = (workers, positions);
        self.part.set(mine);
        Ok(())
    }

    /// What has to be done by one of the workers is this one's to do: the oldest does it, and is gone before another one
    /// believes to be that.
    pub fn leads(&self) -> bool {
        !self.tenure.shared || self.part.workers.first() == Some(&self.epoch)
    }

    /// The partitions to read, and a number that rises whenever they change; `None` where that is all of them.
    pub fn reads(&self) -> (u64, Option<&BTreeSet<u32>>) {
        (self.part.edition, self.part.reads.as_ref())
    }

    /// How far all of the stream is read; by others, as of the last look at them.
    pub fn read_to(&self) -> Vec<Position> {
        let others = self.part.read_to.iter().filter(|p| !self.positions.contains_key(&p.partition)).copied();
        self.positions().into_iter().chain(others).collect()
    }

    /// Counts what is open in the documents, where nobody did since the state became a shared one. To be done before
    /// anything is changed: then it does not matter that others count at the same moment.
    pub(crate) fn count_what_is_open(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.store.shared_books()?.is_some() {
            return Ok(());
        }
        let mut open: HashMap<Share, i64> = HashMap::new();
        let mut after = 0;
        loop {
            let documents = self.store.open_documents(after, COUNTED)?;
            let Some((last, _)) = documents.last() else { break };
            after = *last;
            for (id, doc) in &documents {
                for (share, n) in crate::cache::decode(*id, doc)?.open_shares() {
                    *open.entry(share).or_default() += n;
                }
            }
        }
        let open: Vec<(Share, i64)> = open.into_iter().collect();
        self.store.count_open(self.epoch, now.micros(), &open)
    }

    /// Makes the books, which several workers write, of what stands in the state, all of it of one moment.
    pub(crate) fn read_books(&mut self) -> Result<(), StoreError> {
        // Where it is not counted any more, this worker has the state no more.
        let Some(SharedBooks { sums, open }) = self.store.shared_books()? else { return Ok(()) };
        self.books = Books::new(sums);
        open.into_iter().for_each(|(share, n)| self.books.open(share, n));
        Ok(())
    }

    /// Gives up the lease, so that others take the work over at once. The engine must be dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub fn leave(&mut self) -> Result<(), StoreError> {
        self.store.leave(self.epoch)
    }

    /// Whether others may work on the state, too.
    pub const fn is_shared(&self) -> bool {
        self.tenure.shared
    }

    /// Nothing may be done any more when the lease is over. Otherwise it is prolonged in time, and the work of those whose
    /// lease is over is taken over.
    pub(crate) fn keep_lease(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let now_us = now.micros();
        if !self.tenure.is_leased() || (now_us < self.tenure.next_look && now_us < self.tenure.until) {
            return Ok(());
        }
        if now_us >= self.tenure.until {
            return Err(StoreError::LeaseLost { epoch: self.epoch });
        }
        let lease = lease_of(&self.limits);
        self.store.renew(self.epoch, now_us, now_us + lease)?;
        if self.part.divided {
            self.divide(now)?;
        }
        let full = self.tenure.shared && self.take_over(now)? == ADOPTED;
        let pause = if self.part.divided { (lease / LOOKS).min(LOOK_MOST) } else { lease / LOOKS };
        let next_look = if full { now_us } else { now_us + pause };
        self.tenure = Tenure { until: now_us + lease, next_look, ..self.tenure };
        Ok(())
    }

    /// Nobody has ended the lease: what was just read was not written by another worker since.
    pub(crate) fn still_leased(&mut self) -> Result<(), StoreError> {
        if !self.tenure.is_leased() {
            return Ok(());
        }
        self.store.renew(self.epoch, self.tenure.until - 1, self.tenure.until)
    }

    /// Takes up the work of workers that are no more. What they had under way is of unknown outcome.
    fn take_over(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        let rows = self.store.adopt(self.epoch, now.micros(), ADOPTED)?;
        for row in &rows {
            // Its rows have another owner than when it was read.
            self.cache.forget(row.key.entity);
        }
        if !rows.is_empty() {
            self.contend(|engine| engine.recover(&rows, now))?;
        }
        Ok(rows.len())
    }

    /// When this worker is to look at what others left.
    pub(crate) fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let joins = (!self.joins.is_empty()).then(|| now.micros() + JOIN_LOOK);
        let look = joins.into_iter().chain([self.tenure.next_look.max(now.micros() + 1)]).min();
        look.filter(|_| self.tenure.is_leased()).map(Timestamp::from_micros)
    }

    /// When a call opened now may no longer be made. The lease is three times as long as a call and renewed after a
    /// quarter of it, so there is time; a worker that was paused in between lets the call be, and one that waited so long
    /// for its commit that the call would outlive what its row says ([`Engine::under_way`]).
    pub(crate) fn not_after(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.tenure.until.min(self.under_way(now)) - micros(self.limits.send_deadline);
        self.tenure.is_leased().then(|| Timestamp::from_micros(last))
    }

    /// Does something that ends in a commit. Where others were faster it is done again, and they are held off meanwhile:
    /// so nothing is voided twice, however long it takes and however fast the others are.
    pub(crate) fn contend<R>(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mark = self.mark();
        let mut tries = 0;
        loop {
            self.work.begin();
            let held = if tries > 0 { self.store.hold_others() } else { Ok(()) };
            let done = held.and_then(|()| act(self));
            tries += 1;
            match done {
                Err(error) if error.is_overtaken() && tries < TRIES => {
                    tracing::debug!(%error, "another relay was faster; the tick is done again");
                    self.metrics.overtaken.inc();
                    self.roll_back(&mark);
                    self.store.let_others()?;
                }
                done => {
                    self.work.keep();
                    return done;
                }
            }
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            lines: self.lines.clone(),
            peers: self.peers.clone(),
            flights: self.flights.clone(),
            joins: self.joins.clone(),
            brakes: self.brakes.clone(),
            positions: self.positions.clone(),
            backlog: self.backlog,
            next_call: self.next_call,
            dice: self.dice.clone(),
        }
    }

    fn roll_back(&mut self, mark: &Mark) {
        self.work.undo();
        self.cache.void_round();
        self.tick = Tick::default();
        self.lines.clone_from(&mark.lines);
        self.peers.clone_from(&mark.peers);
        self.flights.clone_from(&mark.flights);
        self.joins.clone_from(&mark.joins);
        self.brakes.clone_from(&mark.brakes);
        self.positions.clone_from(&mark.positions);
        self.backlog = mark.backlog;
        self.next_call = mark.next_call;
        self.dice = mark.dice.clone();
    }

    /// What was read and stays as it is belongs to the unit: it must still be so.
    pub(crate) fn check_what_was_read(&mut self) {
        if !self.tenure.shared {
            return;
        }
        let written: HashSet<EntityId> = self.tick.unit.entities.iter().map(|e| e.id).collect();
        let read = self.cache.looked().filter(|(id, _)| !written.contains(id));
        self.tick.unit.unchanged.extend(read);
    }

    /// Whose the pairs of an entity are that was just read.
    pub(crate) fn reconcile(&mut self, id: EntityId, rows: &[WorkRow]) {
        if !self.tenure.shared {
            return;
        }
        for target in self.lines.keys().copied() {
            let key = WorkKey { target, entity: id };
            let mine = rows.iter().find(|row| row.key == key && row.owner == self.epoch);
            let held = self.work.get(key).copied();
            match (mine, held) {
                (None, Some(pair)) if pair.busy.is_none() => {
                    self.work.remove(key);
                }
                (Some(row), None) => self.work.put(key, Pair::of_row(row)),
                _ => {}
            }
        }
        let Some(loaded) = self.cache.get_mut(id) else { return };
        loaded.elsewhere = rows.iter().filter(|row| row.owner != self.epoch).copied().collect();
        if let Some(joining) = loaded.entity.joining {
            self.joins.insert(id, joining.into);
        }
        let brake = self.brakes.entry(self.links[loaded.link].name.clone()).or_default();
        brake.hold(id, matches!(loaded.entity.life, Life::Leaving(Leaving { braked: true, .. })));
    }

    /// A pair's row of another worker, of an entity that was looked at in this tick.
    pub(crate) fn elsewhere(&mut self, key: WorkKey) -> Option<WorkRow> {
        self.cache.get_mut(key.entity)?.elsewhere.iter().find(|row| row.key == key).copied()
    }

    /// Whether a call has a pair, of this worker or of another.
    pub(crate) fn is_busy(&mut self, key: WorkKey) -> bool {
        self.work.get(key).is_some_and(|pair| pair.busy.is_some())
            || self.elsewhere(key).is_some_and(|row| row.until > 0)
    }

    /// A pair has nothing more to do.
    pub(crate) fn end_pair(&mut self, key: WorkKey) {
        if self.work.remove(key) || self.elsewhere(key).is_some() {
            self.tick.work.insert(key);
        }
    }
}
