//! The scenarios. A table and nothing else: each differs from a base only in the lines it names.
//!
//! The CRMs named after systems have the habits of those systems that matter to the rules, not their interfaces.

use super::scenario::{CrmSpec, Fates, Flow, Form, Guard, Policy, Scenario, Style, Tells, Want};
use super::value::{Field, HOUR, MIN, SEC};

/// A CRM without surprises.
const PLAIN: CrmSpec = CrmSpec {
    style: Style::Field,
    resolution: 1,
    skew: 0,
    lag: 0,
    tells: Tells::Version,
    form: Form::Verbatim,
    flow: None,
    marks: false,
    strict: false,
};
const SALESFORCE_LIKE: CrmSpec = CrmSpec { style: Style::State, resolution: SEC, tells: Tells::Nothing, ..PLAIN };
const HUBSPOT_LIKE: CrmSpec = CrmSpec { tells: Tells::Values, marks: true, ..PLAIN };
const DATAVERSE_LIKE: CrmSpec =
    CrmSpec { style: Style::Hint, resolution: SEC, tells: Tells::Values, strict: true, ..PLAIN };
const STATEFUL: CrmSpec = CrmSpec { style: Style::State, strict: true, ..PLAIN };
const BLIND: CrmSpec = CrmSpec { tells: Tells::Nothing, ..PLAIN };
const COARSE: CrmSpec = CrmSpec { resolution: SEC, ..PLAIN };

const X: &[Field] = &[Field::X];
const XY: &[Field] = &[Field::X, Field::Y];
const XYG: &[Field] = &[Field::X, Field::Y, Field::G];
const TWO: &[CrmSpec] = &[PLAIN, PLAIN];
const THREE: &[CrmSpec] = &[PLAIN, PLAIN, PLAIN];
const STATEFUL_PAIR: &[CrmSpec] = &[STATEFUL, STATEFUL];
const AUTOMATED: &[CrmSpec] =
    &[CrmSpec { flow: Some(Flow::Upper), ..PLAIN }, CrmSpec { flow: Some(Flow::Lower), ..PLAIN }];
const WILD: &[i64] = &[50, 3 * SEC, MIN, HOUR];
const CLUMPED: &[i64] = &[30, 300, SEC, 5 * SEC];
const LONG: &[i64] = &[30, SEC, MIN, 30 * MIN];

/// Two plain CRMs, one field, events in any order, nothing breaks.
const BASE: Scenario = Scenario {
    name: "base",
    crms: TWO,
    fields: X,
    policy: Policy::LastWrite,
    guard: Guard::None,
    edits: 4,
    gaps: &[30, SEC, 10 * SEC, 3 * MIN],
    delay: &[50, 50, 3 * SEC, MIN],
    repeat: 0.0,
    repeat_delay: &[SEC, MIN],
    lose: 0.0,
    fates: Fates { answered: 1, lost: 0, never: 0, late: 0, zombie: 0 },
    fail: 0.0,
    send_delay: &[20, 20, SEC, MIN],
    flow_delay: &[SEC, 20 * SEC],
    polls: 0,
    reconcile: false,
    mapped: false,
    distinct: false,
    want: Want::Equal,
};

/// The same with lost answers, calls that never or late land, and reads that fail.
const CRASH: Scenario =
    Scenario { fates: Fates { answered: 5, lost: 2, never: 1, late: 1, zombie: 1 }, fail: 0.1, ..BASE };

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario { name: "order", want: Want::Right, ..BASE },
    Scenario { name: "order3", crms: THREE, want: Want::Right, ..BASE },
    Scenario { name: "crash", ..CRASH },
    Scenario {
        name: "crash_marks",
        crms: &[CrmSpec { marks: true, ..PLAIN }, CrmSpec { marks: true, ..PLAIN }],
        ..CRASH
    },
    Scenario {
        name: "repeats",
        repeat: 0.7,
        repeat_delay: &[SEC, MIN, 20 * HOUR, 30 * HOUR],
        delay: WILD,
        want: Want::Right,
        ..BASE
    },
    Scenario {
        name: "aged",
        repeat: 0.9,
        repeat_delay: &[30 * HOUR, 40 * HOUR],
        gaps: &[SEC, MIN, 14 * HOUR],
        edits: 6,
        ..BASE
    },
    Scenario { name: "no_times", crms: &[BLIND, BLIND], ..BASE },
    Scenario { name: "no_times_crash", crms: &[BLIND, PLAIN], ..CRASH },
    Scenario { name: "coarse", crms: &[COARSE, COARSE], gaps: CLUMPED, ..BASE },
    Scenario {
        name: "coarse_crash",
        crms: &[CrmSpec { tells: Tells::Nothing, ..COARSE }, COARSE],
        gaps: CLUMPED,
        ..CRASH
    },
    Scenario {
        name: "skew",
        crms: &[
            CrmSpec { skew: -20 * SEC, ..PLAIN },
            CrmSpec { skew: 9 * SEC, tells: Tells::Nothing, ..PLAIN },
            CrmSpec { skew: 40 * SEC, ..PLAIN },
        ],
        ..BASE
    },
    Scenario {
        name: "read_lag",
        crms: &[CrmSpec { style: Style::Hint, lag: 4 * SEC, ..PLAIN }, CrmSpec { lag: 4 * SEC, ..COARSE }],
        guard: Guard::Read,
        ..BASE
    },
    Scenario { name: "ours", policy: Policy::Ours, crms: THREE, want: Want::Ours, ..BASE },
    Scenario { name: "ours_crash", policy: Policy::Ours, crms: &[PLAIN, BLIND], ..CRASH },
    Scenario { name: "theirs", policy: Policy::Theirs, want: Want::Theirs, ..BASE },
    Scenario { name: "priority", policy: Policy::FieldPriority, crms: THREE, fields: XY, edits: 6, ..BASE },
    Scenario { name: "manual", policy: Policy::Manual, crms: THREE, edits: 6, gaps: LONG, ..BASE },
    Scenario { name: "manual_crash", policy: Policy::Manual, edits: 6, gaps: LONG, repeat: 0.3, ..CRASH },
    Scenario { name: "state", crms: &[STATEFUL, PLAIN], fields: XY, edits: 5, guard: Guard::Strict, ..BASE },
    Scenario {
        name: "real_mix",
        crms: &[HUBSPOT_LIKE, SALESFORCE_LIKE, DATAVERSE_LIKE],
        fields: XYG,
        edits: 6,
        guard: Guard::Read,
        repeat: 0.3,
        ..CRASH
    },
    Scenario {
        name: "group",
        crms: &[PLAIN, CrmSpec { style: Style::State, ..PLAIN }],
        fields: &[Field::G, Field::X],
        edits: 5,
        ..BASE
    },
    Scenario {
        name: "forms",
        crms: &[
            CrmSpec { form: Form::Upper, tells: Tells::Values, ..PLAIN },
            CrmSpec { form: Form::PickList, tells: Tells::Values, ..PLAIN },
            PLAIN,
        ],
        mapped: true,
        ..BASE
    },
    Scenario {
        name: "forms_blind",
        crms: &[CrmSpec { form: Form::Upper, ..BLIND }, CrmSpec { form: Form::PickList, ..BLIND }, PLAIN],
        mapped: true,
        ..BASE
    },
    Scenario {
        name: "refuses",
        crms: &[CrmSpec { form: Form::RefusesC, tells: Tells::Values, ..PLAIN }, PLAIN],
        ..CRASH
    },
    Scenario { name: "fight", crms: AUTOMATED, ..BASE },
    Scenario { name: "slow_fight", crms: AUTOMATED, flow_delay: &[20 * MIN, HOUR], ..BASE },
    Scenario { name: "guard_none", crms: STATEFUL_PAIR, guard: Guard::None, want: Want::KeptEdits, ..BASE },
    Scenario { name: "guard_read", crms: STATEFUL_PAIR, guard: Guard::Read, want: Want::KeptEdits, ..BASE },
    Scenario { name: "guard_strict", crms: STATEFUL_PAIR, guard: Guard::Strict, want: Want::KeptEdits, ..BASE },
    Scenario {
        name: "two_channels",
        crms: &[PLAIN, CrmSpec { style: Style::State, ..COARSE }],
        polls: 6,
        repeat: 0.3,
        ..CRASH
    },
    Scenario {
        name: "states_late",
        crms: &[SALESFORCE_LIKE, CrmSpec { marks: false, ..HUBSPOT_LIKE }],
        fields: XY,
        guard: Guard::Read,
        edits: 24,
        gaps: &[30, 300, SEC, 5 * SEC],
        delay: &[50, 2 * SEC, 5 * SEC],
        repeat: 0.1,
        send_delay: &[20, 20, SEC],
        distinct: true,
        want: Want::Order,
        ..BASE
    },
    Scenario {
        name: "ties_late",
        crms: &[SALESFORCE_LIKE, CrmSpec { marks: false, ..HUBSPOT_LIKE }],
        fields: XY,
        edits: 24,
        gaps: &[30, 300],
        delay: &[50, 2 * SEC, 5 * SEC],
        repeat: 0.1,
        send_delay: &[20, 20, SEC],
        distinct: true,
        want: Want::Order,
        ..BASE
    },
    Scenario { name: "reconciler", crms: &[PLAIN, COARSE], lose: 0.3, polls: 3, reconcile: true, ..CRASH },
    Scenario {
        name: "everything",
        crms: &[
            CrmSpec { skew: 7 * SEC, ..HUBSPOT_LIKE },
            CrmSpec { skew: -3 * SEC, lag: 2 * SEC, ..SALESFORCE_LIKE },
            CrmSpec { form: Form::Upper, ..DATAVERSE_LIKE },
        ],
        fields: XYG,
        edits: 8,
        guard: Guard::Read,
        repeat: 0.4,
        repeat_delay: &[SEC, HOUR, 30 * HOUR],
        delay: WILD,
        polls: 4,
        lose: 0.05,
        reconcile: true,
        ..CRASH
    },
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
