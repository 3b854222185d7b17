//! Who wins a conflict. Pure: ranks, stamps and values in, a verdict out.
//!
//! A conflict is an edit that was *not* made on top of the value in force. Informed edits never come here: they win
//! without comparing clocks between CRMs.

use std::cmp::Reverse;

use headgate_schemas::{Span, Value};
use serde::{Deserialize, Serialize};

/// Who set the value in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum By {
    /// A member, by its connection.
    Member(u32),
    /// A person who resolved a hold.
    Person,
}

/// How conflicts of one field are decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The later edit; a tie goes to the lower rank.
    LastWrite,
    /// The primary member; among the others the later edit.
    Ours,
    /// The newest edit of a non-primary member.
    Theirs,
    /// The first connection in the list; then the later edit.
    FieldPriority(Vec<u32>),
    /// The CRM in which the record was made; between others a person.
    Origin,
    /// The later edit, or the CRM in which the record was made where the edits are no further apart than this, in the unit
    /// of the stamps.
    LastWriteOrOrigin(i64),
    /// A person.
    Manual,
    /// Consent: once given up it is never taken back by a synchronisation.
    MostRestrictive,
}

impl Policy {
    /// The name in the decision log and in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::LastWrite | Self::LastWriteOrOrigin(_) => "last_write",
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::FieldPriority(_) => "field_priority",
            Self::Origin => "origin",
            Self::Manual => "manual",
            Self::MostRestrictive => "most_restrictive",
        }
    }
}

/// What the policy says of an uninformed edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The edit wins.
    Take,
    /// The value in force stays.
    Lose,
    /// A person decides.
    Hold,
}

/// One side of a conflict.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Who.
    pub by: By,
    /// Its rank in the link: 0 is the primary; a person ranks last, so that a tie goes to the newer edit.
    pub rank: u32,
    /// The record was made there.
    pub origin: bool,
    /// When, by our clock.
    pub stamp: Span,
    /// The canonical value.
    pub value: &'a Value,
}

/// Decides between an edit and the value in force. A value wins over emptiness unless it was emptied later.
pub fn decide(policy: &Policy, edit: Side<'_>, force: Side<'_>) -> Verdict {
    let emptier = edit.value.is_empty() && !force.value.is_empty() && !edit.stamp.after(force.stamp);
    let filler = force.value.is_empty() && !edit.value.is_empty() && !force.stamp.after(edit.stamp);
    match policy {
        Policy::Manual => Verdict::Hold,
        Policy::MostRestrictive => {
            let restricts = matches!(edit.value, Value::Bool(true));
            if restricts || matches!(force.value, Value::Null) { Verdict::Take } else { Verdict::Lose }
        }
        _ if emptier => Verdict::Lose,
        _ if filler => Verdict::Take,
        Policy::Origin if !edit.origin && !force.origin => Verdict::Hold,
        Policy::LastWriteOrOrigin(apart)
            if edit.origin != force.origin && edit.stamp.widened(*apart).ties(force.stamp) =>
        {
            if edit.origin {
                Verdict::Take
            } else {
                Verdict::Lose
            }
        }
        Policy::LastWrite
        | Policy::LastWriteOrOrigin(_)
        | Policy::Ours
        | Policy::Theirs
        | Policy::FieldPriority(_)
        | Policy::Origin => {
            let newer = edit.stamp.after(force.stamp) || (edit.stamp.ties(force.stamp) && edit.rank < force.rank);
            let (edit, force) = (place(policy, edit), place(policy, force));
            if (Reverse(edit), newer) >= (Reverse(force), true) { Verdict::Take } else { Verdict::Lose }
        }
    }
}

/// How far back a side stands before any clock is asked.
fn place(policy: &Policy, side: Side<'_>) -> usize {
    match policy {
        Policy::Ours => usize::from(side.rank != 0),
        Policy::Theirs => usize::from(side.rank == 0),
        Policy::Origin => usize::from(!side.origin),
        Policy::FieldPriority(order) => match side.by {
            By::Member(c) => order.iter().position(|x| *x == c).unwrap_or(usize::MAX),
            By::Person => usize::MAX,
        },
        Policy::LastWrite | Policy::LastWriteOrOrigin(_) | Policy::Manual | Policy::MostRestrictive => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(value: &Value, rank: u32, at: i64) -> Side<'_> {
        Side { by: By::Member(rank), rank, origin: rank == 1, stamp: Span::new(at, at + 10), value }
    }

    #[test]
    fn table() {
        let (a, b) = (Value::from("a"), Value::from("b"));
        let cases: &[(&str, Policy, u32, i64, u32, i64, Verdict)] = &[
            ("later wins", Policy::LastWrite, 1, 20, 0, 0, Verdict::Take),
            ("earlier loses", Policy::LastWrite, 0, 0, 1, 20, Verdict::Lose),
            ("tie goes to the lower rank", Policy::LastWrite, 0, 5, 1, 0, Verdict::Take),
            ("tie keeps the lower rank", Policy::LastWrite, 1, 5, 0, 0, Verdict::Lose),
            ("ours: primary wins though older", Policy::Ours, 0, 0, 1, 20, Verdict::Take),
            ("ours: others lose though newer", Policy::Ours, 1, 20, 0, 0, Verdict::Lose),
            ("ours: among others the newer", Policy::Ours, 2, 20, 1, 0, Verdict::Take),
            ("theirs: primary loses though newer", Policy::Theirs, 0, 20, 1, 0, Verdict::Lose),
            ("theirs: another wins though older", Policy::Theirs, 1, 0, 0, 20, Verdict::Take),
            ("priority: first in the list", Policy::FieldPriority(vec![2, 1]), 2, 0, 1, 20, Verdict::Take),
            ("priority: not in the list", Policy::FieldPriority(vec![2, 1]), 3, 20, 1, 0, Verdict::Lose),
            ("manual", Policy::Manual, 1, 20, 0, 0, Verdict::Hold),
            ("origin: it wins though older", Policy::Origin, 1, 0, 0, 20, Verdict::Take),
            ("origin: another loses though newer", Policy::Origin, 2, 20, 1, 0, Verdict::Lose),
            ("origin: a person decides between others", Policy::Origin, 2, 20, 0, 0, Verdict::Hold),
            ("near: the origin's wins though older", Policy::LastWriteOrOrigin(20), 1, 0, 0, 25, Verdict::Take),
            ("near: another's loses though newer", Policy::LastWriteOrOrigin(20), 0, 25, 1, 0, Verdict::Lose),
            ("near, and neither is the origin", Policy::LastWriteOrOrigin(20), 2, 25, 0, 0, Verdict::Take),
            ("further apart: the later", Policy::LastWriteOrOrigin(20), 0, 30, 1, 0, Verdict::Take),
        ];
        for (name, policy, er, et, fr, ft, want) in cases {
            assert_eq!(decide(policy, side(&a, *er, *et), side(&b, *fr, *ft)), *want, "{name}");
        }
    }

    #[test]
    fn a_value_wins_over_emptiness_unless_it_was_emptied_later() {
        let (a, none) = (Value::from("a"), Value::Null);
        for policy in [Policy::LastWrite, Policy::Ours, Policy::Theirs, Policy::Origin] {
            let (own, other) = if policy == Policy::Theirs { (2, 0) } else { (0, 2) };
            let name = policy.as_str();
            assert_eq!(decide(&policy, side(&none, own, 0), side(&a, other, 5)), Verdict::Lose, "{name}: a tie");
            assert_eq!(decide(&policy, side(&none, own, 0), side(&a, other, 20)), Verdict::Lose, "{name}: earlier");
            assert_eq!(decide(&policy, side(&a, other, 5), side(&none, own, 0)), Verdict::Take, "{name}: filled");
        }
        assert_eq!(decide(&Policy::LastWrite, side(&none, 1, 20), side(&a, 0, 0)), Verdict::Take, "emptied later");
        assert_eq!(decide(&Policy::Manual, side(&none, 1, 0), side(&a, 0, 20)), Verdict::Hold);
    }

    #[test]
    fn consent_is_never_undone() {
        let (yes, no) = (Value::Bool(true), Value::Bool(false));
        assert_eq!(decide(&Policy::MostRestrictive, side(&yes, 1, 0), side(&no, 0, 20)), Verdict::Take);
        assert_eq!(decide(&Policy::MostRestrictive, side(&no, 0, 20), side(&yes, 1, 0)), Verdict::Lose);
    }
}
