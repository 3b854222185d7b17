//! A CRM as seen from outside: its cells, its clock, its normal form, and what it reports after a change.
//!
//! It knows no relay, no agenda and no dice: the world around it says when and draws what is uncertain. The surprising
//! thing: what is stored need not be what was written, and the version is the record's, not the field's.

use super::scenario::{CrmSpec, Style};
use super::value::{Author, Field, HOUR, Half, Hand, Kind, Reported, Snapshot, Span, Stored, Value};

/// One CRM with the one record under test.
#[derive(Clone, Debug)]
pub struct Crm {
    /// Its properties.
    pub spec: CrmSpec,
    cells: Vec<Stored>,
    version: Span,
    etag: u64,
    past: Vec<Moment>,
}

/// The record from a moment on, for reads that come from a replica.
#[derive(Clone, Debug)]
struct Moment {
    from: i64,
    cells: Vec<Stored>,
    version: Span,
    etag: u64,
}

/// A message that leaves the CRM after a change.
#[derive(Clone, Debug)]
pub struct Message {
    /// What its values mean.
    pub kind: Kind,
    /// Its values, unless they are looked up when it is delivered.
    pub body: Body,
    /// Author mark.
    pub author: Option<Author>,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub enum Body {
    /// Fixed when the change was made.
    Fixed {
        /// The values.
        cells: Vec<Reported>,
        /// The version they have.
        time: Span,
    },
    /// Whatever stands there when the message is delivered.
    AtDelivery,
}

/// What a change did.
#[derive(Clone, Debug)]
pub struct Effect {
    /// What now stands in the named fields.
    pub stored: Vec<Stored>,
    /// The version it has.
    pub version: Span,
    /// The cells that changed: before and after.
    pub changed: Vec<(Stored, Stored)>,
    /// What the CRM reports.
    pub messages: Vec<Message>,
}

impl Crm {
    /// A CRM whose record was made an hour ago.
    pub fn new(spec: CrmSpec, fields: &[Field]) -> Self {
        let cells: Vec<_> = fields
            .iter()
            .map(|&field| {
                let first = Value::initial(field);
                Stored { field, value: spec.form.stores(first, first), hand: Hand::Us }
            })
            .collect();
        let version = Span::tick(spec.skew - HOUR, spec.resolution);
        let past = vec![Moment { from: -HOUR, cells: cells.clone(), version, etag: 0 }];
        Self { spec, cells, version, etag: 0, past }
    }

    /// What its own clock shows at a moment of the world.
    pub const fn clock(&self, now: i64) -> Span {
        Span::tick(now + self.spec.skew, self.spec.resolution)
    }

    /// The value that stands in a field. Fields that are not mapped hold their initial value.
    pub fn value(&self, field: Field) -> Value {
        self.cells.iter().find(|cell| cell.field == field).map_or_else(|| Value::initial(field), |cell| cell.value)
    }

    /// The precondition a write must meet now.
    pub const fn etag(&self) -> u64 {
        self.etag
    }

    /// Whether a user typed in this very tick what would be stored for this value.
    pub fn is_twin(&self, now: i64, field: Field, value: Value) -> bool {
        let Some(cell) = self.cells.iter().find(|cell| cell.field == field) else { return false };
        let by_user = matches!(cell.hand, Hand::User(_)) && self.version == self.clock(now);
        by_user && self.spec.form.stores(value, cell.value) == cell.value
    }

    /// Writes values, by whoever's hand, and says what came of it.
    pub fn put(&mut self, now: i64, values: &[(Field, Value)], hand: Hand) -> Effect {
        let mut changed = Vec::new();
        for &(field, value) in values {
            let Some(cell) = self.cells.iter_mut().find(|cell| cell.field == field) else { continue };
            let stored = Stored { field, value: self.spec.form.stores(value, cell.value), hand };
            if stored.value != cell.value {
                changed.push((*cell, stored));
                *cell = stored;
            }
        }
        self.version = self.clock(now);
        self.etag += 1;
        self.past.push(Moment { from: now, cells: self.cells.clone(), version: self.version, etag: self.etag });
        let named = |cell: &&Stored| values.iter().any(|&(field, _)| field == cell.field);
        let stored = self.cells.iter().filter(named).copied().collect();
        let messages = self.messages(&changed, hand);
        Effect { stored, version: self.version, changed, messages }
    }

    /// The spelling its automation wants to write, if it differs from what stands there.
    pub fn automation(&self, field: Field) -> Option<Value> {
        let now = self.value(field);
        self.spec.flow.map(|flow| flow.spells(now)).filter(|&wanted| wanted != now)
    }

    /// The whole record as it stands, for a message that carries the state at delivery.
    pub fn state(&self) -> (Vec<Reported>, Span) {
        (self.cells.iter().map(|&cell| Reported { cell, half: None }).collect(), self.version)
    }

    /// What a read answers that sees the record as it stood at `seen_at`.
    pub fn snapshot(&self, seen_at: i64, asked: i64) -> Snapshot {
        let moment = self.past.iter().rev().find(|moment| moment.from <= seen_at);
        let (cells, version, etag) = match moment {
            Some(moment) => (&moment.cells, moment.version, moment.etag),
            None => (&self.cells, self.version, self.etag),
        };
        Snapshot { cells: cells.clone(), version, etag, asked }
    }

    /// Field events are sent per column and only for what changed; the other styles report every save.
    fn messages(&self, changed: &[(Stored, Stored)], hand: Hand) -> Vec<Message> {
        let author = self.spec.marks.then_some(match hand {
            Hand::Us => Author::Us,
            Hand::Automation | Hand::User(_) => Author::User,
        });
        let fixed = |kind, cells, author| Message { kind, body: Body::Fixed { cells, time: self.version }, author };
        match self.spec.style {
            Style::Field => changed
                .iter()
                .flat_map(|&(_, cell)| columns(cell))
                .map(|reported| fixed(Kind::Edit, vec![reported], author))
                .collect(),
            Style::Hint => vec![fixed(Kind::Hint, Vec::new(), None)],
            Style::State => vec![Message { kind: Kind::State, body: Body::AtDelivery, author: None }],
        }
    }
}

/// A group is reported as two events, one per column.
fn columns(cell: Stored) -> Vec<Reported> {
    match cell.value {
        Value::Text(_) => vec![Reported { cell, half: None }],
        Value::Pair(..) => [Half::First, Half::Second]
            .into_iter()
            .map(|half| Reported { cell: Stored { value: cell.value.half(half), ..cell }, half: Some(half) })
            .collect(),
    }
}
