//! The compiled mapping of one link.

use std::collections::HashMap;
use std::sync::Arc;

use headgate_schemas::{ObjectType, Value};

use super::kind::{Form, Kind};
use crate::config::Guard;
use crate::conflict::{By, Policy};
use crate::entity::Timing;
use crate::entity::record::RecordRules;
use crate::target::{NativeName, NativeValues};

/// One object of one tenant, kept equal among its members.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is.
    pub object: ObjectType,
    /// How an edit that nobody reported yet is guarded against.
    pub guard: Guard,
    /// How records come and go.
    pub records: RecordRules,
    /// The connections, by rank.
    pub members: Vec<LinkMember>,
    fields: Vec<FieldPlan>,
    by_name: HashMap<Box<str>, usize, ahash::RandomState>,
    unmapped: FieldPlan,
}

/// A connection of a link.
#[derive(Clone, Debug)]
pub struct LinkMember {
    /// The connection.
    pub connection: u32,
    /// This version writes to it.
    pub writable: bool,
    /// What a read of it asks for: the mapped fields.
    pub read_fields: Arc<[NativeName]>,
    /// What only one person or company has, by neutral name, where records are looked for before one is made.
    pub find: Option<&'static str>,
}

/// One neutral field, or a group that is decided as one.
#[derive(Clone, Debug)]
pub struct FieldPlan {
    name: Box<str>,
    kind: Kind,
    policy: Policy,
    maps: Vec<FieldMap>,
    finals: &'static [&'static str],
    /// The types of a group's parts; empty where all have the type of the field.
    kinds: &'static [Kind],
}

/// How one connection holds a neutral field.
#[derive(Clone, Debug)]
pub struct FieldMap {
    /// The connection.
    pub connection: u32,
    /// Its fields there: one, or the parts of a group.
    pub parts: Vec<NativeName>,
    /// Spelling of its API.
    pub form: Form,
    /// It is written there.
    pub write: bool,
    /// It may not be empty there.
    pub required: Option<Required>,
    /// Canonical and native values, where they have different names.
    pub table: Option<Table>,
    /// Not every account has it: mapped only once the metadata list it. Of a group that is said of all parts but the
    /// first: until then the value in force is taken for what the account cannot hold.
    pub optional: bool,
}

impl FieldMap {
    /// The account is known to hold it, or the first part of it.
    const fn is_held(&self) -> bool {
        !self.optional || self.parts.len() > 1
    }

    /// The parts that the account is known to hold.
    fn listed(&self) -> &[NativeName] {
        if self.optional { &self.parts[..1] } else { &self.parts }
    }
}

/// What stands in a required field when there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required {
    /// A fixed text.
    Text(&'static str),
    /// A day so many days after the entity was first heard of.
    DaysAfter(i64),
}

/// Pairs of canonical and native values; the first that fits counts, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Canonical and native.
    pub pairs: Vec<(Value, Value)>,
    /// Canonical values outside the table cannot be written; otherwise they are written as they are.
    pub closed: bool,
}

impl Link {
    /// Compiles a link. `members` by rank, the primary first.
    pub fn new(
        name: &str,
        tenant: &str,
        object: ObjectType,
        guard: Guard,
        members: Vec<(u32, bool)>,
        fields: Vec<FieldPlan>,
    ) -> Self {
        let members = members
            .into_iter()
            .map(|(connection, writable)| LinkMember {
                connection,
                writable,
                read_fields: read_fields(&fields, connection),
                find: None,
            })
            .collect();
        Self {
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            object,
            guard,
            records: RecordRules::default(),
            members,
            by_name: fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect(),
            fields,
            unmapped: FieldPlan::new("", Kind::Text, Policy::LastWrite, Vec::new()),
        }
    }

    /// What only one person or company has, by neutral name, is looked for before a record is made in a connection.
    pub fn seek(&mut self, connection: u32, find: &'static str) {
        if let Some(member) = self.members.iter_mut().find(|m| m.connection == connection) {
            member.find = Some(find);
        }
    }

    /// The plan of a field. One that is no longer mapped has a plan that maps it nowhere.
    pub fn field(&self, name: &str) -> &FieldPlan {
        self.by_name.get(name).map_or(&self.unmapped, |i| &self.fields[*i])
    }

    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = &FieldPlan> {
        self.fields.iter()
    }

    /// A connection of this link.
    pub fn member(&self, connection: u32) -> Option<&LinkMember> {
        self.members.iter().find(|m| m.connection == connection)
    }

    /// The connections that a change of `source` is to reach.
    pub fn targets(&self, source: u32) -> impl Iterator<Item = u32> {
        self.members.iter().filter(move |m| m.connection != source && m.writable).map(|m| m.connection)
    }

    /// The rank of whoever set a value: the primary is 0, a person comes last.
    pub fn rank(&self, by: By) -> u32 {
        match by {
            By::Member(c) => {
                let place = self.members.iter().position(|m| m.connection == c);
                place.and_then(|p| u32::try_from(p).ok()).unwrap_or(u32::MAX - 1)
            }
            By::Person => u32::MAX,
        }
    }

    /// Whether metadata of `connection` decide what is mapped.
    pub fn wants_description(&self, connection: u32) -> bool {
        self.fields.iter().flat_map(|f| &f.maps).any(|m| m.connection == connection && m.optional)
    }

    /// Maps those optional fields of `connection` that its metadata list.
    pub fn describe(&mut self, connection: u32, listed: &dyn Fn(&str) -> bool) {
        for map in self.fields.iter_mut().flat_map(|f| &mut f.maps).filter(|m| m.connection == connection) {
            map.optional &= !map.parts.iter().all(|p| listed(p));
        }
        let fields = read_fields(&self.fields, connection);
        if let Some(member) = self.members.iter_mut().find(|m| m.connection == connection) {
            member.read_fields = fields;
        }
    }
}

fn read_fields(fields: &[FieldPlan], connection: u32) -> Arc<[NativeName]> {
    fields.iter().filter_map(|f| f.map(connection)).flat_map(|m| m.listed().iter().cloned()).collect()
}

impl FieldPlan {
    /// A field with the ways its connections hold it.
    pub fn new(name: &str, kind: Kind, policy: Policy, maps: Vec<FieldMap>) -> Self {
        Self { name: name.into(), kind, policy, maps, finals: &[], kinds: &[] }
    }

    /// The same field, whose values named here are final: only a person moves a record from them to another value.
    #[must_use]
    pub const fn with_finals(mut self, finals: &'static [&'static str]) -> Self {
        self.finals = finals;
        self
    }

    /// The same field as a group whose parts have these types.
    #[must_use]
    pub const fn with_kinds(mut self, kinds: &'static [Kind]) -> Self {
        self.kinds = kinds;
        self
    }

    fn kind_of(&self, part: usize) -> Kind {
        self.kinds.get(part).copied().unwrap_or(self.kind)
    }

    /// Neutral name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its conflicts are decided.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    fn map(&self, connection: u32) -> Option<&FieldMap> {
        self.maps.iter().find(|m| m.connection == connection && m.is_held())
    }

    /// It may not be empty there.
    pub fn is_required(&self, connection: u32) -> bool {
        self.map(connection).is_some_and(|m| m.required.is_some())
    }

    /// The name of the field there, where it is one field.
    pub fn native_name(&self, connection: u32) -> Option<&NativeName> {
        self.map(connection).and_then(|m| m.parts.first())
    }

    /// Two canonical values are the same under the normal form.
    pub fn same_canonical(&self, a: &Value, b: &Value) -> bool {
        self.kind.same(a, b)
    }

    /// The connection holds this field.
    pub fn maps(&self, connection: u32) -> bool {
        self.map(connection).is_some()
    }

    /// The connection holds this field and we write it there.
    pub fn writes(&self, connection: u32) -> bool {
        self.map(connection).is_some_and(|m| m.write)
    }

    /// Whether a canonical value would take a record from a final value.
    pub fn reopens(&self, force: &Value, edit: &Value) -> bool {
        let is_final = |value: &Value| value.as_text().is_some_and(|text| self.finals.contains(&text));
        is_final(force) && !is_final(edit)
    }

    /// A canonical value of the connection that has no name outside of it: it was taken over as it stands there.
    pub fn is_unknown(&self, connection: u32, canonical: &Value) -> bool {
        let table = self.map(connection).and_then(|m| m.table.as_ref());
        table.is_some_and(|t| t.closed && !canonical.is_empty() && !t.pairs.iter().any(|(c, _)| c == canonical))
    }

    /// A value as a person typed it, in the field's type; of a group the parts, or text with spaces between them.
    /// `None` when it is none.
    pub fn typed(&self, value: Value) -> Option<Value> {
        let parts = self.maps.iter().map(|m| m.parts.len()).max().unwrap_or(1);
        let value = match value {
            Value::Text(text) if parts > 1 => Value::List(text.split_whitespace().map(Value::from).collect()),
            value => value,
        };
        match value {
            Value::List(values) if parts > 1 && values.len() == parts => {
                let typed = values.into_iter().enumerate().map(|(part, v)| self.kind_of(part).typed(v));
                typed.collect::<Option<_>>().map(Value::List)
            }
            scalar if parts == 1 => self.kind.typed(scalar),
            _ => None,
        }
    }

    /// Some connection can be given this canonical value.
    pub fn is_writable_anywhere(&self, canonical: &Value) -> bool {
        let named = |table: &Table| !table.closed || table.pairs.iter().any(|(c, _)| c == canonical);
        self.maps.iter().any(|m| m.write && m.is_held() && m.table.as_ref().is_none_or(named))
    }

    /// Two native values of a connection are the same under the normal form. Of a group only those parts count that
    /// the connection holds.
    pub fn same(&self, connection: u32, a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::List(a), Value::List(b)) if a.len() == b.len() => {
                let held = self.map(connection).map_or(a.len(), |m| m.listed().len());
                std::iter::zip(a, b).take(held).enumerate().all(|(part, (a, b))| self.kind_of(part).same(a, b))
            }
            _ => self.kind.same(a, b),
        }
    }

    /// A native value of a group with the parts that the connection cannot hold as they are in force.
    pub fn complete(&self, connection: u32, native: Value, force: &Value) -> Value {
        let held = self.map(connection).map_or(usize::MAX, |m| m.listed().len());
        match (native, force) {
            (Value::List(mut told), Value::List(force)) if told.len() == force.len() && held < told.len() => {
                told[held..].clone_from_slice(&force[held..]);
                Value::List(told)
            }
            (native, _) => native,
        }
    }

    /// The canonical value of a native one.
    pub fn inbound(&self, connection: u32, native: &Value) -> Value {
        let table = self.map(connection).and_then(|m| m.table.as_ref());
        let pair = table.and_then(|t| t.pairs.iter().find(|(_, n)| n == native));
        pair.map_or_else(|| native.clone(), |(canonical, _)| canonical.clone())
    }

    /// The native value that stands for a canonical one, or `None` where it is not written: the connection does not
    /// hold the field, only reads it, or has no name for the value. A required field without a value gets its default.
    pub fn project(&self, connection: u32, canonical: &Value, created: i64, timing: Timing) -> Option<Value> {
        let map = self.map(connection).filter(|m| m.write)?;
        let native = match &map.table {
            Some(table) if !canonical.is_empty() => match table.pairs.iter().find(|(c, _)| c == canonical) {
                Some((_, native)) => Some(native.clone()),
                None => (!table.closed).then(|| canonical.clone()),
            },
            Some(_) | None => Some(canonical.clone()),
        };
        match (&map.required, native) {
            (Some(required), native) if native.as_ref().is_none_or(Value::is_empty) => required.value(created, timing),
            (_, native) => native,
        }
    }

    /// The native value from what an event or a read tells: `None` when the field, or part of its group, is not told.
    pub fn decode(&self, connection: u32, wire: &dyn Fn(&str) -> Option<Value>) -> Decoded {
        let Some(map) = self.map(connection) else { return Decoded::Untold };
        let decode = |(part, name): (usize, &NativeName)| wire(name).map(|v| self.kind_of(part).decode(map.form, &v));
        let told: Vec<Option<Value>> = map.listed().iter().enumerate().map(decode).collect();
        match told.iter().flatten().count() {
            0 => return Decoded::Untold,
            count if count < told.len() => return Decoded::Partly,
            _ => {}
        }
        let mut told: Vec<Value> = told.into_iter().flatten().collect();
        if map.parts.len() == 1 {
            return Decoded::Told(told.pop().unwrap_or_default());
        }
        told.resize(map.parts.len(), Value::Null);
        Decoded::Told(Value::List(told))
    }

    /// Adds the wire values of a native one.
    pub fn encode(&self, connection: u32, native: &Value, out: &mut NativeValues) {
        let Some(map) = self.map(connection) else { return };
        match (native, map.listed()) {
            (native, [part]) if map.parts.len() == 1 => {
                out.insert(part.clone(), Kind::encode(map.form, native));
            }
            (Value::List(values), parts) => {
                for (part, value) in parts.iter().zip(values) {
                    out.insert(part.clone(), Kind::encode(map.form, value));
                }
            }
            (_, parts) => {
                for part in parts {
                    out.insert(part.clone(), Kind::encode(map.form, &Value::Null));
                }
            }
        }
    }

    /// Whether the connection's field `native` belongs to this one.
    pub fn names(&self, connection: u32, native: &str) -> bool {
        self.map(connection).is_some_and(|m| m.listed().iter().any(|p| &**p == native))
    }
}

/// What an event tells of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// Nothing.
    Untold,
    /// Part of a group.
    Partly,
    /// Its native value.
    Told(Value),
}

impl Required {
    fn value(&self, created: i64, timing: Timing) -> Option<Value> {
        match self {
            Self::Text(text) => Some(Value::from(*text)),
            Self::DaysAfter(days) => {
                let seconds = created.div_euclid(timing.second) + days * 86_400;
                let day = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
                Some(Value::text(day.to_string()))
            }
        }
    }
}
