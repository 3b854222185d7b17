//! The judge: how a run ended, read from what stands in the CRMs and from what the relay says of its persons.
//!
//! It shares nothing with the rules. Whoever asks may leave a difference standing; whoever does not must leave the CRMs
//! equal, every record held by somebody, and nothing deleted over an edit.

use std::collections::BTreeSet;

use crate::shelf::{RecordId, Row};
use crate::world::{Relay, Standing, World};

/// How a run ended; later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Every CRM shows the same.
    Equal,
    /// A person must decide, or had to.
    Asked,
    /// A record lacks where the person stands in the other CRMs.
    Missing,
    /// Gone in one CRM, there in another, and nobody was asked.
    Half,
    /// Records of one person differ and nobody says so.
    Differ,
    /// A merge deleted something elsewhere.
    Deleted,
    /// An edit that nobody had seen was deleted.
    Blind,
    /// One person stands twice in a CRM and nobody was asked.
    Duplicate,
    /// A record that nobody holds.
    Unknown,
    /// A record without its key.
    Mutilated,
    /// Two records with one external id: a create had two effects.
    Twice,
    /// The relay never comes to rest.
    Loop,
}

impl End {
    /// Whether this end is good.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Equal | Self::Asked)
    }
}

/// What is known of a run when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub end: End,
    /// Records that the relay deleted although somebody had restored them.
    pub undone: usize,
    /// The trace, if one was kept.
    pub trace: String,
}

/// Plays a relay in a world until it rests, or has not after so many steps of the agenda. Says when that was, too.
pub fn play(mut world: World, relay: &mut dyn Relay, steps: usize) -> (Verdict, i64) {
    let end = if world.run(relay, steps) { judge(&world, relay) } else { End::Loop };
    (Verdict { end, undone: world.undone.len(), trace: world.trace().to_owned() }, world.now)
}

fn judge(world: &World, relay: &dyn Relay) -> End {
    let people = relay.people();
    let asked = relay.has_asked();
    let mut worst = if asked { End::Asked } else { End::Equal };
    for shelf in 0..world.shelves.len() {
        worst = worst.max(judge_shelf(world, relay, shelf, asked));
    }
    // Whoever decided has seen the edit.
    let decided = people.iter().any(|person| person.decided);
    if !world.blind.is_empty() || (!world.newer.is_empty() && !decided) {
        worst = worst.max(End::Blind);
    }
    if world.scenario.merges() && !world.deleted.is_empty() {
        worst = worst.max(End::Deleted);
    }
    let settled = people.iter().filter(|person| !person.asks);
    settled.map(|person| judge_person(world, person)).fold(worst, End::max)
}

fn judge_shelf(world: &World, relay: &dyn Relay, shelf: usize, asked: bool) -> End {
    let alive: Vec<(RecordId, &Row)> = world.shelves[shelf].alive().collect();
    let externals: Vec<u128> = alive.iter().filter_map(|(_, row)| row.external).collect();
    let distinct: BTreeSet<u128> = externals.iter().copied().collect();
    let mut worst = End::Equal;
    if distinct.len() < externals.len() {
        worst = worst.max(End::Twice);
    }
    if alive.iter().any(|(_, row)| row.email.is_none()) {
        worst = worst.max(End::Mutilated);
    }
    if alive.iter().any(|(id, _)| !relay.holds(*id)) {
        worst = worst.max(End::Unknown);
    }
    // Only a script that merges has two people.
    if !world.scenario.merges() && !asked && alive.len() > 1 {
        worst = worst.max(End::Duplicate);
    }
    worst
}

fn judge_person(world: &World, person: &Standing) -> End {
    let row = |id: &RecordId| world.shelves[id.crm].row(*id);
    let phones: BTreeSet<u32> = person.members.iter().map(row).filter(|row| row.alive).map(|row| row.phone).collect();
    let alive: BTreeSet<bool> = person.members.iter().map(row).map(|row| row.alive).collect();
    if phones.len() > 1 {
        End::Differ
    } else if person.decided {
        End::Asked
    } else if alive.len() > 1 {
        End::Half
    } else if alive.contains(&true) && person.members.len() < world.shelves.len() {
        End::Missing
    } else {
        End::Equal
    }
}
