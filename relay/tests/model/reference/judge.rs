//! The judge: how a run ended, read from the CRMs, the users' edits and what the relay claims.
//!
//! It shares nothing with the rules: it compares what stands in the CRMs with what the relay says should stand there.

use super::mind::Reference;
use super::relay::Driver;
use super::rules::Rules;
use super::scenario::{Scenario, Want};
use super::value::{Field, Value};
use super::world::{Relay, Standing, World};

/// More steps than any run takes that ends.
pub const STEPS: usize = 4_000;

/// How a run ended; later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Every CRM shows the last edit.
    Right,
    /// Every CRM shows the same other value.
    Equal,
    /// A CRM keeps its own value, and the relay shows it.
    Kept,
    /// A person must decide.
    Held,
    /// Equal on a value older than the last edit of the side that should win.
    WrongSide,
    /// CRMs differ and nobody says so.
    Differ,
    /// A change has no outcome.
    Open,
    /// The relay never comes to rest.
    Loop,
}

impl End {
    /// Whether this end is good enough for a scenario.
    pub const fn is_good(self, want: Want) -> bool {
        match want {
            Want::Right => matches!(self, Self::Right),
            Want::Equal | Want::Order => matches!(self, Self::Right | Self::Equal | Self::Kept | Self::Held),
            Want::Ours | Want::Theirs | Want::KeptEdits => matches!(self, Self::Right | Self::Equal),
        }
    }
}

/// What is known of a run when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub end: End,
    /// How many writes landed.
    pub writes: u32,
    /// How many users' edits were overwritten without a trace.
    pub unseen: usize,
    /// How many writes moved a member's value back.
    pub reordered: u32,
    /// How many edits nobody can tell from a write of ours.
    pub twins: u32,
    /// When nothing was left to do.
    pub rested: i64,
    /// The trace, if one was kept.
    pub trace: String,
}

impl Verdict {
    /// Whether the run ended well enough. Where an edit was indistinguishable from a write of ours it may have lost to
    /// an older one, from the wrong side even, so only equality can be asked for.
    pub const fn is_good(&self, want: Want) -> bool {
        let equal = self.end.is_good(Want::Equal) || matches!(self.end, End::WrongSide);
        let ordered = self.reordered == 0 || !matches!(want, Want::Order);
        ordered && (self.end.is_good(want) || (self.twins > 0 && equal))
    }
}

/// Plays a relay in a world until it rests, or has not after so many steps of the agenda.
pub fn play(mut world: World, relay: &mut dyn Relay, steps: usize) -> Verdict {
    let end = if world.run(relay, steps) { judge(&world, relay) } else { End::Loop };
    let (unseen, rested, trace) = (world.unseen(), world.now, world.trace().to_owned());
    Verdict { end, writes: world.writes, unseen, reordered: world.order.reordered, twins: world.twins, rested, trace }
}

/// Plays the reference relay.
pub fn play_reference(scenario: &'static Scenario, seed: u64, rules: Rules, traced: bool) -> Verdict {
    let mut world = World::new(scenario, seed, traced);
    let mut relay = Driver::new(Reference::new(&mut world, rules));
    play(world, &mut relay, STEPS)
}

fn judge(world: &World, relay: &dyn Relay) -> End {
    if relay.is_open() {
        return End::Open;
    }
    let fields = world.scenario.fields.iter();
    fields.map(|&field| judge_field(world, relay, field)).max().unwrap_or(End::Right)
}

fn judge_field(world: &World, relay: &dyn Relay, field: Field) -> End {
    let standing = relay.standing(field);
    let members = (0..world.crms.len()).map(|member| judge_member(world, relay, member, field, standing));
    let worst = members.max().unwrap_or(End::Right);
    if standing.held { worst } else { worst.max(judge_edits(world, field, standing.value)) }
}

fn judge_member(world: &World, relay: &dyn Relay, member: usize, field: Field, standing: Standing) -> End {
    let crm = &world.crms[member];
    let actual = crm.value(field);
    let wanted = world.scenario.project(member, standing.value);
    if actual.is_mixed() {
        End::Differ
    } else if standing.held {
        End::Held
    } else if actual == wanted || actual == crm.spec.form.stores(wanted, actual) {
        End::Right
    } else if relay.kept(member, field) == Some(actual) {
        End::Kept
    } else {
        End::Differ
    }
}

/// Whether the value in force is the last edit, and not older than the last one of the side that wins conflicts.
fn judge_edits(world: &World, field: Field, value: Value) -> End {
    let edits: Vec<_> =
        world.edits.iter().filter(|edit| edit.1 == field).map(|&(crm, _, value)| (crm, value)).collect();
    let Some(&(_, last)) = edits.last() else { return End::Right };
    let preferred = |&(crm, _): &(usize, Value)| match world.scenario.want {
        Want::Ours => crm == 0,
        Want::Theirs => crm != 0,
        Want::Right | Want::Equal | Want::KeptEdits | Want::Order => false,
    };
    if let Some(latest) = edits.iter().rposition(preferred)
        && !edits[latest..].iter().any(|&(_, edit)| edit == value)
    {
        return End::WrongSide;
    }
    if value.lower() == last.inbound().lower() { End::Right } else { End::Equal }
}
