//! The switches of the reference: each rule for records' lives can be turned off, so a test can show that it is needed.
//!
//! Only names live here; what a rule does stands where it is asked for. The names are those of the real code's switches.

/// One rule that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A person is claimed by what only one can have; off: every record that appears is a person of its own.
    Claim,
    /// A record that is not found is looked for again after the grace; off: a delete event is believed at once.
    Grace,
    /// What is known to exist is written by its native id; off: everything is written by our external id.
    NativeId,
    /// A record that would go is read first, and an edit nobody had folded asks; off: it goes.
    Unseen,
    /// Our own create that lands under a deleted person is deleted again; off: it brings the person back.
    LateCreate,
    /// An answer that names another record than the one written is only looked at; off: that record is attached.
    OtherAnswer,
    /// A record that goes without ever having shown the newest value asks; off: its delete is carried out.
    InformedDelete,
}

/// Which rules hold in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: u8,
}

impl Rules {
    /// Every rule holds.
    pub const fn all() -> Self {
        Self { off: 0 }
    }

    /// These rules, but not this one.
    pub const fn without(self, rule: Rule) -> Self {
        Self { off: self.off | 1 << rule as u8 }
    }

    /// Whether a rule holds.
    pub const fn has(self, rule: Rule) -> bool {
        self.off & 1 << rule as u8 == 0
    }
}
