//! The switches of the reference relay: each rule that was added because a schedule broke what came before can be
//! turned off, so a test can show that it is needed.
//!
//! Only names live here; what a rule does stands where it is asked for.

/// One rule that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An event of a field with an open intent waits whatever its value; off: only if it carries the value being sent.
    WaitAny,
    /// An edit made on top of the value in force wins without comparing clocks; off: it must also be later.
    Informed,
    /// The newest value known not to be ours is remembered apart; off: every event that is not ours is an edit.
    Heard,
    /// A write whose answer has no version happened between sent and answered; off: when it was answered.
    Window,
    /// A read after a tie waits for replicas to catch up; off: it is made at once and believed.
    Patience,
    /// A member is dirty by revision; off: whenever it shows another value.
    RevDirty,
    /// A change older than the ledger is not folded; off: it is.
    Horizon,
    /// A field of a full record is an edit only if it differs from what was shown; off: if it is later.
    StateDiff,
    /// Half a group only asks for a read; off: it is merged into what is shown.
    GroupRead,
    /// Clocks of the CRMs are measured; off: they are believed.
    Offset,
    /// Ten returns in a day are a fight too; off: only quick ones.
    SlowFight,
    /// The mark "a user did it" refutes that a change is ours; off: it is ignored.
    MarkRefutes,
    /// What is read while the member stands at the entity's revision is informed; off: reads are judged as events.
    ReadIsNow,
    /// A member that shows the value in force by chance has known it only from now; off: since ever.
    Aligned,
    /// An agreement later than the value in force is a revision of its own; off: only its stamp moves.
    AgreeRev,
    /// A member's later value follows its own earlier one; off: only if its stamp is later.
    OwnLine,
    /// A field that a tie leaves in doubt is not written until a read can be believed; off: reads that come too early
    /// count as made in vain, and after the last of them it is written over.
    Doubt,
}

/// Every rule that can be switched off.
pub const ALL: [Rule; 17] = [
    Rule::WaitAny,
    Rule::Informed,
    Rule::Heard,
    Rule::Window,
    Rule::Patience,
    Rule::RevDirty,
    Rule::Horizon,
    Rule::StateDiff,
    Rule::GroupRead,
    Rule::Offset,
    Rule::SlowFight,
    Rule::MarkRefutes,
    Rule::ReadIsNow,
    Rule::Aligned,
    Rule::AgreeRev,
    Rule::OwnLine,
    Rule::Doubt,
];

/// Which rules hold in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: u32,
}

impl Rules {
    /// Every rule holds.
    pub const fn all() -> Self {
        Self { off: 0 }
    }

    /// No rule holds that can be switched off.
    pub fn none() -> Self {
        ALL.into_iter().fold(Self::all(), Self::without)
    }

    /// These rules, but not this one.
    pub const fn without(self, rule: Rule) -> Self {
        Self { off: self.off | 1 << rule as u32 }
    }

    /// Whether a rule holds.
    pub const fn has(self, rule: Rule) -> bool {
        self.off & 1 << rule as u32 == 0
    }
}
