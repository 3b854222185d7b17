//! The scenarios of records' lives: who creates, edits, deletes, restores or merges what, when, in which CRM.
//!
//! Data only. Times are milliseconds; a user acts at a time drawn between the two that his act names.

/// One second.
pub const SEC: i64 = 1_000;
/// One minute.
pub const MIN: i64 = 60 * SEC;

/// The CRMs of every scenario.
pub const CRMS: usize = 3;

/// What a user does to the record with some e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Makes one.
    Create,
    /// Types another phone number.
    Edit,
    /// Deletes it.
    Delete,
    /// Brings it back.
    Restore,
    /// Merges it into the record with this address; that one survives as it is.
    Merge(&'static str),
}

/// One line of a script.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Earliest and latest time, in seconds.
    pub between: (i64, i64),
    /// In which CRM.
    pub crm: usize,
    /// What.
    pub act: Act,
    /// The address of the record.
    pub email: &'static str,
}

/// How likely each end of a call is, as weights.
#[derive(Clone, Copy, Debug)]
pub struct Fates {
    /// Carried out, and the answer arrives.
    pub answered: u32,
    /// Carried out, and the answer does not arrive.
    pub lost: u32,
    /// Not carried out, and nobody says so.
    pub never: u32,
    /// Carried out minutes later, without an answer.
    pub late: u32,
    /// Not carried out: the CRM asks to be called again later.
    pub refused: u32,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, as in commands.
    pub name: &'static str,
    /// People who stand in every CRM at the beginning.
    pub start: &'static [&'static str],
    /// What users do.
    pub script: &'static [Line],
    /// Ends of write calls.
    pub fates: Fates,
    /// Time from a change to its event: one of the spans is drawn, then a time uniform in it.
    pub delay: &'static [i64],
    /// The CRMs refuse a second record with the same address.
    pub unique: bool,
    /// The CRMs answer "not found" for a record that was merged away; only the event names the survivor.
    pub mute: bool,
    /// The CRMs check the precondition of a delete.
    pub strict: bool,
}

impl Scenario {
    /// Whether some user merges.
    pub fn merges(&self) -> bool {
        self.script.iter().any(|line| matches!(line.act, Act::Merge(_)))
    }
}

/// Every call is carried out and answered.
pub const SMOOTH: Fates = Fates { answered: 1, lost: 0, never: 0, late: 0, refused: 0 };
const CRASH: Fates = Fates { answered: 5, lost: 2, never: 1, late: 2, refused: 0 };

const PLAIN: Scenario = Scenario {
    name: "",
    start: &[],
    script: &[],
    fates: SMOOTH,
    delay: &[50, 3 * SEC, 50 * SEC],
    unique: false,
    mute: false,
    strict: false,
};

const fn line(earliest: i64, latest: i64, crm: usize, act: Act, email: &'static str) -> Line {
    Line { between: (earliest, latest), crm, act, email }
}

const TWINS: &[Line] =
    &[line(0, 20, 0, Act::Create, "ann"), line(0, 20, 1, Act::Create, "ann"), line(0, 90, 0, Act::Edit, "ann")];
const DELETE_EDIT: &[Line] = &[line(0, 120, 0, Act::Delete, "ann"), line(0, 120, 1, Act::Edit, "ann")];

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario { name: "twins", script: &[TWINS[0], TWINS[1], line(0, 90, 1, Act::Edit, "ann")], ..PLAIN },
    Scenario { name: "twins_unique", script: TWINS, unique: true, ..PLAIN },
    Scenario { name: "twins_crash", script: TWINS, fates: CRASH, ..PLAIN },
    Scenario {
        name: "delete",
        start: &["ann"],
        script: &[line(0, 60, 0, Act::Edit, "ann"), line(0, 60, 0, Act::Delete, "ann")],
        fates: CRASH,
        ..PLAIN
    },
    Scenario { name: "delete_edit", start: &["ann"], script: DELETE_EDIT, ..PLAIN },
    Scenario { name: "delete_edit_strict", start: &["ann"], script: DELETE_EDIT, strict: true, ..PLAIN },
    Scenario {
        name: "delete_restore",
        start: &["ann"],
        script: &[
            line(0, 30, 0, Act::Delete, "ann"),
            line(30, 300, 0, Act::Restore, "ann"),
            line(0, 300, 1, Act::Edit, "ann"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "create_delete",
        script: &[line(0, 5, 0, Act::Create, "ann"), line(5, 60, 0, Act::Delete, "ann")],
        fates: CRASH,
        ..PLAIN
    },
    Scenario {
        name: "merge",
        start: &["ann", "bob"],
        script: &[
            line(0, 20, 0, Act::Merge("bob"), "ann"),
            line(0, 20, 1, Act::Edit, "ann"),
            line(0, 30, 1, Act::Edit, "bob"),
        ],
        fates: CRASH,
        ..PLAIN
    },
    Scenario {
        name: "merge_mute",
        start: &["ann", "bob"],
        script: &[line(0, 20, 0, Act::Merge("bob"), "ann"), line(0, 20, 1, Act::Edit, "ann")],
        mute: true,
        ..PLAIN
    },
    Scenario {
        name: "merge_mute_slow",
        start: &["ann", "bob"],
        script: &[line(0, 20, 0, Act::Merge("bob"), "ann")],
        delay: &[50, MIN, 5 * MIN],
        mute: true,
        ..PLAIN
    },
];

/// The scenario of that name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
