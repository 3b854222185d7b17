//! The model's words in the product's types: values, times, the link of a scenario and the entity after its import.
//!
//! Shared by the lockstep and by the engine's schedules, which count time in different units. It decides nothing. The
//! surprising thing: a pick list is a table of the connection in the product, so the canonical value of `P` is `a`
//! only there; no other CRM of the model ever shows a `P`.

use headgate_relay::config;
use headgate_relay::conflict::{By, Policy};
use headgate_relay::entity::{Cell, Entity, Field, Member, MemberState};
use headgate_relay::mapping::{FieldMap, FieldPlan, Kind, Link, Table};
use headgate_schemas::{ObjectType, Span, Value};
use uuid::Uuid;

use crate::dress::Dress;
use crate::reference::crm::Crm;
use crate::reference::scenario::{self, Guard, Scenario};
use crate::reference::value as model;
use crate::reference::world::OUTSIDE;

/// The tenant of every run.
pub const TENANT: &str = "acme";
/// The type of the one record; it has no match key, so nothing joins it.
pub const OBJECT: &str = "specimen";

/// How the model's milliseconds are counted.
#[derive(Clone, Copy, Debug)]
pub struct Ruler {
    /// Units per millisecond.
    pub per_ms: i64,
    /// What the model calls zero, in units.
    pub zero: i64,
}

impl Ruler {
    /// A moment.
    pub const fn at(self, ms: i64) -> i64 {
        self.zero + ms * self.per_ms
    }

    /// A length.
    pub const fn long(self, ms: i64) -> i64 {
        ms * self.per_ms
    }

    /// An interval.
    pub const fn span(self, span: model::Span) -> Span {
        Span::new(self.at(span.lo), self.at(span.hi))
    }
}

/// The connection of a CRM of the model.
pub fn connection(member: usize) -> u32 {
    u32::try_from(member).unwrap_or(u32::MAX - 1) + 1
}

/// Whoever set a value.
pub fn by(member: usize) -> By {
    if member == OUTSIDE { By::Person } else { By::Member(connection(member)) }
}

/// The record's id in a CRM.
pub fn native_id(member: usize) -> String {
    format!("r{member}")
}

/// A field's neutral name.
pub const fn name(field: model::Field) -> &'static str {
    match field {
        model::Field::X => "x",
        model::Field::Y => "y",
        model::Field::G => "g",
    }
}

/// A field's names in a CRM.
pub const fn parts(field: model::Field) -> &'static [&'static str] {
    match field {
        model::Field::X => &["x"],
        model::Field::Y => &["y"],
        model::Field::G => &["g_first", "g_second"],
    }
}

/// A value.
pub fn value(value: model::Value) -> Value {
    Dress::Plain.value(0, value)
}

/// A value of the product in the model's words.
pub fn letters(value: &Value) -> model::Value {
    Dress::Plain.letters(value)
}

impl Dress {
    /// A value as a CRM spells it on the wire. Of a group the first part is dressed.
    pub fn value(self, member: usize, value: model::Value) -> Value {
        match value {
            model::Value::Text(a) => self.spell(member, a),
            model::Value::Pair(a, b) => Value::List(vec![self.first_of(member, a), Self::Plain.spell(member, b)]),
        }
    }

    /// A value of the product, however it is spelled, in the model's words, which has single letters and pairs of them
    /// only.
    pub fn letters(self, value: &Value) -> model::Value {
        match value {
            Value::List(pair) => match pair.as_slice() {
                [first, second] => model::Value::Pair(self.of_group().letter(first), Self::Plain.letter(second)),
                _ => panic!("{value:?} is no pair of the model"),
            },
            plain => model::Value::Text(self.letter(plain)),
        }
    }

    /// What the first part of a group wears: lists name whole fields only.
    pub const fn of_group(self) -> Self {
        if matches!(self, Self::Listed) { Self::Plain } else { self }
    }

    fn first_of(self, member: usize, letter: char) -> Value {
        self.of_group().spell(member, letter)
    }

    /// A value as it stands in a cell: from the wire, in the types of the mapping.
    fn native(self, member: usize, value: model::Value) -> Value {
        let decode = |dress: Self, wire: &Value| dress.kind().decode(self.form(member), wire);
        match self.value(member, value) {
            Value::List(parts) => match parts.as_slice() {
                [first, second] => Value::List(vec![decode(self.of_group(), first), decode(Self::Plain, second)]),
                _ => Value::List(parts),
            },
            plain => decode(self, &plain),
        }
    }
}

/// The mapped fields, in the model's order.
pub fn fields(scenario: &Scenario) -> Vec<model::Field> {
    let mut fields = scenario.fields.to_vec();
    fields.sort_unstable();
    fields
}

/// How the mapping of a link is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut {
    /// What values look like.
    pub dress: Dress,
    /// Types are ignored: two values are the same when they are spelled alike.
    pub blunt: bool,
    /// The columns of a group are fields of their own.
    pub apart: bool,
}

/// The link of a scenario.
pub fn link(scenario: &Scenario) -> Link {
    link_cut(scenario, Cut::default())
}

/// The link of a scenario with another mapping.
pub fn link_cut(scenario: &Scenario, cut: Cut) -> Link {
    let members = (0..scenario.crms.len()).map(|member| (connection(member), true)).collect();
    let cut_up = |field: model::Field| -> Vec<FieldPlan> {
        if cut.apart {
            // A column has the name that the CRMs give it.
            let column = |&column: &&'static str| plan(scenario, field, cut, column, &[column]);
            parts(field).iter().map(column).collect()
        } else {
            vec![plan(scenario, field, cut, name(field), parts(field))]
        }
    };
    let plans = fields(scenario).into_iter().flat_map(cut_up).collect();
    Link::new("records", TENANT, ObjectType::new(OBJECT), guard(scenario), members, plans)
}

const fn guard(scenario: &Scenario) -> config::Guard {
    match scenario.guard {
        Guard::None => config::Guard::None,
        Guard::Read => config::Guard::Read,
        Guard::Strict => config::Guard::Strict,
    }
}

fn plan(scenario: &Scenario, field: model::Field, cut: Cut, name: &str, parts: &[&'static str]) -> FieldPlan {
    let listed = |member| cut.dress.table(member).filter(|_| field != model::Field::G);
    let maps = (0..scenario.crms.len()).map(|member| FieldMap {
        connection: connection(member),
        parts: parts.iter().map(|&part| part.into()).collect(),
        form: cut.dress.form(member),
        write: true,
        required: None,
        table: table(scenario, member, field).or_else(|| listed(member)),
        optional: false,
    });
    let (kind, kinds) = if cut.blunt { (Kind::Choice, [].as_slice()) } else { (cut.dress.kind(), cut.dress.kinds()) };
    FieldPlan::new(name, kind, policy(scenario, field), maps.collect()).with_kinds(kinds)
}

fn table(scenario: &Scenario, member: usize, field: model::Field) -> Option<Table> {
    let listed = scenario.mapped && scenario.crms[member].form == scenario::Form::PickList;
    let pairs = || ['a', 'b', 'c'].map(model::Value::Text).map(|v| (value(v), value(v.to_pick_list()))).to_vec();
    (listed && field != model::Field::G).then(|| Table { pairs: pairs(), closed: false })
}

fn policy(scenario: &Scenario, field: model::Field) -> Policy {
    match scenario.policy {
        scenario::Policy::LastWrite => Policy::LastWrite,
        scenario::Policy::Ours => Policy::Ours,
        scenario::Policy::Theirs => Policy::Theirs,
        scenario::Policy::Manual => Policy::Manual,
        scenario::Policy::FieldPriority => {
            let mut order: Vec<usize> = (0..scenario.crms.len()).collect();
            order.sort_by_key(|&member| std::cmp::Reverse(scenario.preference(member, field)));
            Policy::FieldPriority(order.into_iter().map(connection).collect())
        }
    }
}

/// The entity after every member was imported.
pub fn entity(scenario: &Scenario, crms: &[Crm], ruler: Ruler) -> Entity {
    entity_cut(scenario, crms, ruler, Cut::default())
}

/// The same with another mapping.
pub fn entity_cut(scenario: &Scenario, crms: &[Crm], ruler: Ruler, cut: Cut) -> Entity {
    let object = ObjectType::new(OBJECT);
    let id = Uuid::from_u128(1);
    let mut entity = Entity::heard(id, TENANT, object, connection(0), &native_id(0), ruler.at(0));
    entity.members = (0..crms.len())
        .map(|member| Member::new(connection(member), Some(&native_id(member)), MemberState::Live))
        .collect();
    let stamp = Span::new(ruler.at(-model::HOUR), ruler.at(-model::HOUR + 1));
    let link = link_cut(scenario, cut);
    for field in fields(scenario) {
        // Each place of the link: the whole field, or a column of it.
        let halves: &[Option<model::Half>] = match field {
            model::Field::G if cut.apart => &[Some(model::Half::First), Some(model::Half::Second)],
            _ => &[None],
        };
        for (place, half) in halves.iter().enumerate() {
            let name = if cut.apart { parts(field)[place] } else { name(field) };
            let native = |member: usize, value: model::Value| {
                cut.dress.native(member, half.map_or(value, |half| value.half(half)))
            };
            let first = link.field(name).inbound(connection(0), &native(0, model::Value::initial(field)));
            let mut imported = Field::first(name, first, stamp, By::Person, crms.len());
            for (member, (cell, crm)) in imported.cells.iter_mut().zip(crms).enumerate() {
                let (_, version) = crm.state();
                *cell = Some(Cell::first(native(member, crm.value(field)), ruler.span(version), 0));
            }
            entity.fields.push(imported);
        }
    }
    entity
}
