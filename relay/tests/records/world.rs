//! The world of one run: virtual clock, agenda, seeded dice, the CRMs and their users.
//!
//! It knows no rule: any [`Relay`] can be played in it. Everything uncertain (delays, repeats, the fate of a call) is
//! drawn from its dice, so a run is a function of scenario, seed and relay. What a relay deletes is noted here, with
//! whether it deleted over an edit that no answer had shown it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use crate::scenario::{Act, CRMS, Line, SEC, SMOOTH, Scenario};
use crate::shelf::{Hand, Kind, RecordId, Row, Shelf};

/// How long a relay waits for the answer to a write before its outcome counts as unknown.
pub const DEADLINE: i64 = 10 * SEC;
/// The longest run of a call inside a CRM.
pub const LATEST: i64 = 600 * SEC;
/// How long a record that is not found may still come back before it counts as gone.
pub const GRACE: i64 = 60 * SEC;

/// Time from a change to its event, in calm weather.
const CALM_DELAY: i64 = 50;

/// What is played in a world.
pub trait Relay {
    /// A delivered event, possibly a repeat.
    fn hint(&mut self, world: &mut World, hint: &Hint);
    /// A moment asked for with [`World::wake`] has come. Tokens are the relay's own.
    fn wake(&mut self, world: &mut World, token: u64);
    /// How every person stands that is not merged into another.
    fn people(&self) -> Vec<Standing>;
    /// Whether some person has this record, as a member or as one too many.
    fn holds(&self, id: RecordId) -> bool;
    /// Whether a person was ever asked anything.
    fn has_asked(&self) -> bool;
}

/// How a relay leaves a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The records.
    pub members: Vec<RecordId>,
    /// Whether somebody must decide something about it.
    pub asks: bool,
    /// Whether somebody has decided something: then it may be gone in one place only.
    pub decided: bool,
}

/// A delivered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Names the event; a copy may come under another number.
    pub number: u64,
    /// The record.
    pub id: RecordId,
    /// What happened to it.
    pub kind: Kind,
    /// When, by the CRM's clock.
    pub at: i64,
}

/// What a write sets; the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The mapped field.
    pub phone: Option<u32>,
    /// The key.
    pub email: Option<String>,
}

/// How a write call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Carried out, and the answer arrives.
    Answered,
    /// Carried out, and the answer does not arrive.
    Lost,
    /// Not carried out, and nobody says so.
    Never,
    /// Carried out minutes later, without an answer.
    Late,
    /// Not carried out: the CRM asks to be called again later.
    Refused,
}

#[derive(Clone, Debug)]
enum Job {
    User(Line),
    Deliver(Hint),
    Wake(u64),
}

/// One run's world.
pub struct World {
    /// The virtual clock.
    pub now: i64,
    /// What is played.
    pub scenario: &'static Scenario,
    /// The CRMs.
    pub shelves: Vec<Shelf>,
    /// Records that the relay deleted.
    pub deleted: Vec<RecordId>,
    /// Those of them that held an edit which the relay had not been shown.
    pub blind: Vec<RecordId>,
    /// Those of them that held an edit which came after the delete that was carried over.
    pub newer: Vec<RecordId>,
    /// Those of them that somebody had restored, and that nobody deleted anywhere after that.
    pub undone: Vec<RecordId>,
    restored: BTreeSet<RecordId>,
    /// The newest version of each record that an answer has told.
    told: BTreeMap<RecordId, i64>,
    agenda: BTreeMap<(i64, u64), Job>,
    minted: u64,
    dice: fastrand::Rng,
    /// Events and calls go smoothly and nothing comes twice: before the script begins.
    calm: bool,
    trace: Option<String>,
}

impl World {
    /// A world before anything happens in it.
    pub fn new(scenario: &'static Scenario, seed: u64, traced: bool) -> Self {
        Self {
            now: 0,
            scenario,
            shelves: (0..CRMS).map(|crm| Shelf::new(crm, scenario.unique)).collect(),
            deleted: Vec::new(),
            blind: Vec::new(),
            newer: Vec::new(),
            undone: Vec::new(),
            restored: BTreeSet::new(),
            told: BTreeMap::new(),
            agenda: BTreeMap::new(),
            minted: 0,
            dice: fastrand::Rng::with_seed(seed),
            calm: false,
            trace: traced.then(String::new),
        }
    }

    /// Puts every act of the script on the agenda.
    pub fn plan(&mut self) {
        for line in self.scenario.script {
            let (earliest, latest) = line.between;
            let at = SEC * earliest + self.span(&[SEC * (latest - earliest)]);
            self.after(at, Job::User(*line));
        }
    }

    /// Lets users make the people of the beginning in the first CRM, and the relay carry them everywhere, in calm
    /// weather. False if it does not come to rest.
    pub fn settle_in(&mut self, relay: &mut dyn Relay, limit: usize) -> bool {
        self.calm = true;
        for email in self.scenario.start {
            self.user(Line { between: (0, 0), crm: 0, act: Act::Create, email });
        }
        let rests = self.run(relay, limit);
        self.calm = false;
        rests
    }

    /// Whether calls of this scenario may fail.
    pub const fn is_rough(&self) -> bool {
        let fates = self.scenario.fates;
        !self.calm && fates.lost + fates.never + fates.late > 0
    }

    /// Whether nothing disturbs yet.
    pub const fn is_calm(&self) -> bool {
        self.calm
    }

    /// Puts a person into every CRM, as if an earlier run had made it.
    pub fn import(&mut self, email: &str, external: u128) -> Vec<RecordId> {
        let external = Some(external);
        let email = Some(email.to_owned());
        let row = Row { email, phone: 0, external, alive: true, into: None, at: 0, hand: Hand::Us };
        let ids: Vec<_> = self.shelves.iter_mut().map(|shelf| shelf.add(row.clone())).collect();
        self.told.extend(ids.iter().map(|&id| (id, 0)));
        ids
    }

    /// Plays until nothing is left to do; false if `limit` steps did not suffice, which is a loop.
    pub fn run(&mut self, relay: &mut dyn Relay, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(((at, _), job)) = self.agenda.pop_first() else { return true };
            self.now = at;
            match job {
                Job::User(line) => self.user(line),
                Job::Deliver(hint) => relay.hint(self, &hint),
                Job::Wake(token) => relay.wake(self, token),
            }
        }
        self.agenda.is_empty()
    }

    fn user(&mut self, line: Line) {
        let phone = u32::try_from(self.mint()).unwrap_or(u32::MAX);
        let reported = self.shelves[line.crm].user(line.act, line.email, phone, self.now);
        self.say(format_args!("crm{} user {:?} {}: {reported:?} phone {phone}", line.crm, line.act, line.email));
        for (id, kind) in reported {
            match kind {
                Kind::Restored => _ = self.restored.insert(id),
                Kind::Deleted => self.restored.clear(),
                Kind::Created | Kind::Updated | Kind::Merged(_) => {}
            }
            self.emit(id, kind);
        }
    }

    /// Reports something, once or twice; a copy keeps its number or comes under a new one.
    pub fn emit(&mut self, id: RecordId, kind: Kind) {
        let mut number = self.mint();
        let at = self.now;
        let copies = if self.calm { 0 } else { u32::from(self.chance(0.3)) };
        for copy in 0..=copies {
            if copy > 0 && self.chance(0.5) {
                number = self.mint();
            }
            let delay = if self.calm { CALM_DELAY } else { self.span(self.scenario.delay) };
            self.after(delay, Job::Deliver(Hint { number, id, kind, at }));
        }
    }

    // What a relay may do.

    /// Wakes the relay after a while.
    pub fn wake(&mut self, delay: i64, token: u64) {
        self.after(delay.max(0), Job::Wake(token));
    }

    /// What a read by native id shows now. A mute CRM does not say where a record went.
    pub fn look(&mut self, id: RecordId) -> Row {
        let mut row = self.shelves[id.crm].row(id).clone();
        if self.scenario.mute {
            row.into = None;
        }
        row
    }

    /// An answer has told the relay this version of a record.
    pub fn tell(&mut self, id: RecordId, at: i64) {
        let told = self.told.entry(id).or_insert(at);
        *told = at.max(*told);
    }

    /// The fate of a write call, and after which time it is carried out, or refused; never, for some.
    pub fn fate(&mut self) -> (Fate, Option<i64>) {
        let fates = if self.is_rough() { self.scenario.fates } else { SMOOTH };
        let ends = [
            (Fate::Answered, fates.answered),
            (Fate::Lost, fates.lost),
            (Fate::Never, fates.never),
            (Fate::Late, fates.late),
            (Fate::Refused, fates.refused),
        ];
        let mut drawn = self.dice.u32(0..ends.iter().map(|(_, weight)| weight).sum());
        let mut fate = Fate::Answered;
        for (end, weight) in ends {
            if drawn < weight {
                fate = end;
                break;
            }
            drawn -= weight;
        }
        let soon = self.span(&[50, SEC]);
        let lands = match fate {
            Fate::Answered | Fate::Lost | Fate::Refused => Some(soon),
            Fate::Never => None,
            Fate::Late => Some(soon + self.span(&[300 * SEC])),
        };
        (fate, lands)
    }

    /// Makes a record by our external id, or updates the one that has it.
    ///
    /// # Errors
    /// The record with the same address, where only one may have it.
    pub fn upsert(
        &mut self,
        crm: usize,
        external: u128,
        email: Option<&str>,
        phone: u32,
    ) -> Result<RecordId, RecordId> {
        let shelf = &mut self.shelves[crm];
        if let Some(id) = shelf.of_external(external) {
            return Ok(self.write(id, &Update { phone: Some(phone), email: None }));
        }
        if let Some(other) = email.and_then(|email| shelf.clash(email)) {
            return Err(other);
        }
        let (email, external) = (email.map(str::to_owned), Some(external));
        let row = Row { email, phone, external, alive: true, into: None, at: self.now, hand: Hand::Us };
        let id = shelf.add(row);
        self.say(format_args!("crm{crm} made {id} phone {phone}"));
        self.emit(id, Kind::Created);
        Ok(id)
    }

    /// Updates a record by its native id, or the one it was merged into; `None` when nothing is there.
    pub fn update(&mut self, id: RecordId, change: &Update) -> Option<RecordId> {
        let stands = self.shelves[id.crm].follow(id);
        let there = self.shelves[id.crm].row(stands).alive;
        there.then(|| self.write(stands, change))
    }

    fn write(&mut self, id: RecordId, change: &Update) -> RecordId {
        self.shelves[id.crm].touch(id, self.now, Hand::Us, |row| {
            row.phone = change.phone.unwrap_or(row.phone);
            row.email = change.email.clone().or_else(|| row.email.take());
        });
        self.say(format_args!("crm{} wrote {change:?} to {id}", id.crm));
        self.emit(id, Kind::Updated);
        id
    }

    /// Whether a precondition of a call fails; not every CRM has them.
    pub fn refuses(&self, id: RecordId, unless_changed: Option<i64>) -> bool {
        self.scenario.strict && unless_changed.is_some_and(|version| version != self.shelves[id.crm].row(id).at)
    }

    /// Deletes a record on the relay's behalf, unless a precondition fails, and notes what went with it. False where the
    /// precondition failed.
    pub fn delete(&mut self, id: RecordId, unless_changed: Option<i64>) -> bool {
        let row = self.shelves[id.crm].row(id);
        if !row.alive {
            return true;
        }
        if self.refuses(id, unless_changed) {
            return false;
        }
        let unseen = self.told.get(&id).is_none_or(|&told| row.at > told);
        let newer = self.user_deleted(row.email.as_deref()).is_some_and(|gone_at| row.at > gone_at);
        if row.hand == Hand::User && unseen {
            self.blind.push(id);
        } else if row.hand == Hand::User && newer {
            self.newer.push(id);
        }
        if self.restored.contains(&id) {
            self.undone.push(id);
        }
        self.deleted.push(id);
        self.shelves[id.crm].touch(id, self.now, Hand::Us, |row| row.alive = false);
        self.say(format_args!("crm{} deleted {id} for us", id.crm));
        self.emit(id, Kind::Deleted);
        true
    }

    /// When a user last deleted a record with this address.
    fn user_deleted(&self, email: Option<&str>) -> Option<i64> {
        let rows = self.shelves.iter().flat_map(Shelf::rows);
        rows.filter(|(_, row)| !row.alive && row.hand == Hand::User && row.email.as_deref() == email)
            .map(|(_, row)| row.at)
            .max()
    }

    /// A heavy-tailed delay: one of the spans, then a time uniform in it.
    pub fn span(&mut self, spans: &[i64]) -> i64 {
        match spans.len() {
            0 => 0,
            n => {
                let longest = spans[self.dice.usize(0..n)];
                self.dice.i64(0..longest.max(1))
            }
        }
    }

    /// A number below `n`, which must not be zero.
    pub fn below(&mut self, n: usize) -> usize {
        self.dice.usize(0..n)
    }

    /// Whether something of this likelihood happens.
    pub fn chance(&mut self, share: f64) -> bool {
        self.dice.f64() < share
    }

    /// Adds a line to the trace, if one is kept.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let (seconds, millis) = (now / SEC, now % SEC);
            // Writing into a string cannot fail.
            writeln!(trace, "{seconds:>9}.{millis:03} {line}").unwrap_or_default();
        }
    }

    /// The trace so far; empty if none is kept.
    pub fn trace(&self) -> &str {
        self.trace.as_deref().unwrap_or_default()
    }

    fn after(&mut self, delay: i64, job: Job) {
        self.minted += 1;
        self.agenda.insert((self.now + delay, self.minted), job);
    }

    fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }
}
