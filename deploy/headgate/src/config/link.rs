//! `[[link]]` and `[link.policy]`, each by itself; whether its members exist is decided in `cross`. The surprise: most
//! keys have one value in this version, and the others the documentation names are refused by name.

use std::time::Duration;

use headgate_relay::config::{DeletePolicy, Guard, LinkConfig, Policy, PolicyConfig, RecordsConfig};
use headgate_relay::mapping::{is_consent, known_fields};
use headgate_schemas::ObjectType;

use super::fault::At;
use super::file::Value;
use super::reader::{Choice, Section, set};
use super::suggest::advice;

/// Objects a link can keep equal in this version.
const OBJECTS: [(&str, Choice<ObjectName>); 5] = [
    ("contact", Choice::Built(ObjectName::Contact)),
    ("company", Choice::Built(ObjectName::Company)),
    ("deal", Choice::Built(ObjectName::Deal)),
    ("activity", Choice::NotYet),
    ("ticket", Choice::NotYet),
];

const POLICIES: [(&str, Choice<PolicyName>); 5] = [
    ("last_write", Choice::Built(PolicyName::LastWrite)),
    ("ours", Choice::Built(PolicyName::Ours)),
    ("theirs", Choice::Built(PolicyName::Theirs)),
    ("field_priority", Choice::Built(PolicyName::FieldPriority)),
    ("manual", Choice::Built(PolicyName::Manual)),
];

/// A policy by its name; one of them needs an order besides.
#[derive(Clone, Copy, Debug)]
enum PolicyName {
    LastWrite,
    Ours,
    Theirs,
    FieldPriority,
    Manual,
}

const DELETES: [(&str, Choice<DeletePolicy>); 3] = [
    ("nothing", Choice::Built(DeletePolicy::Nothing)),
    ("clear", Choice::Built(DeletePolicy::Clear)),
    ("delete", Choice::Built(DeletePolicy::Delete)),
];

/// A linkable object.
#[derive(Clone, Copy, Debug)]
enum ObjectName {
    Contact,
    Company,
    Deal,
}

/// `[[link]]`, read. `None` where a fault was reported.
#[derive(Debug)]
pub(crate) struct LinkDraft {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Where its name stands.
    pub(crate) name_at: At,
    /// Whose it is.
    pub(crate) tenant: Option<String>,
    /// Where the object stands.
    pub(crate) object_at: At,
    /// What it keeps equal.
    pub(crate) object: Option<ObjectType>,
    /// Its connections.
    pub(crate) members: Option<Vec<String>>,
    /// Where the members stand.
    pub(crate) members_at: At,
    /// Which of them wins ties.
    pub(crate) primary: Option<String>,
    /// Where the primary stands.
    pub(crate) primary_at: At,
    /// Where the guard stands.
    pub(crate) guard_at: At,
    /// How an unseen edit is guarded against.
    pub(crate) guard: Guard,
    /// Who wins a conflict.
    pub(crate) policy: PolicyConfig,
    /// How records come and go.
    pub(crate) records: RecordsConfig,
}

/// Reads one `[[link]]`.
pub(crate) fn link(mut section: Section<'_>) -> LinkDraft {
    let s = &mut section;
    let name = s.name("name", "give the link a name");
    let tenant = s.name("tenant", "say whose link it is");
    let object = object(s);
    let members = members(s);
    let policy = policy(s.section("policy"), object.as_ref(), members.as_deref().unwrap_or_default());
    let primary = s.required("primary", "name the member that wins ties");
    let guard = s.choice(
        "guard",
        &[Guard::None, Guard::Read, Guard::Strict].map(|guard| (guard.as_str(), Choice::Built(guard))),
    );
    only(s, "mapping", &["default"], &[]);
    only(s, "initial", &["fill_empty"], &["primary", "newest", "hold"]);
    let records = records(s);
    only(s, "mode", &["live"], &["shadow"]);
    s.not_yet(&["percent"]);
    let draft = LinkDraft {
        name_at: s.at("name"),
        object_at: s.at("object"),
        members_at: s.at("members"),
        primary_at: s.at("primary"),
        guard_at: s.at("guard"),
        name,
        tenant,
        object,
        members,
        primary,
        guard: guard.unwrap_or(Guard::Read),
        policy,
        records,
    };
    section.finish();
    draft
}

fn object(section: &mut Section<'_>) -> Option<ObjectType> {
    section.required("object", "name what is kept equal, like \"contact\"")?;
    section.choice("object", &OBJECTS).map(|object| match object {
        ObjectName::Contact => ObjectType::CONTACT,
        ObjectName::Company => ObjectType::COMPANY,
        ObjectName::Deal => ObjectType::DEAL,
    })
}

fn members(section: &mut Section<'_>) -> Option<Vec<String>> {
    if !section.has("members") {
        section.fault("members", "it is missing", "name two or more connections");
        return None;
    }
    let members = section.texts("members")?;
    let mut sorted = members.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < members.len() {
        section.fault("members", "a connection is named twice", "name each one once");
        return None;
    }
    if members.len() < 2 {
        section.fault("members", "fewer than two connections are named", "name two or more");
        return None;
    }
    Some(members)
}

/// A key with a single value in this version.
fn only(section: &mut Section<'_>, key: &'static str, built: &[&str], later: &[&str]) {
    let built = built.iter().map(|name| (*name, Choice::Built(())));
    let choices: Vec<_> = built.chain(later.iter().map(|name| (*name, Choice::NotYet))).collect();
    section.choice(key, &choices);
}

/// How records come and go: what a delete does elsewhere, after how long, and how many may go at once.
fn records(section: &mut Section<'_>) -> RecordsConfig {
    let mut records = RecordsConfig::default();
    set(&mut records.delete, section.choice("delete", &DELETES));
    set(&mut records.grace, section.duration("delete_grace", Duration::ZERO));
    let mut brake = section.section("delete_brake");
    set(&mut records.brake_count, brake.size("count", 1));
    if let Some(percent) = brake.number::<u8>("percent", 1) {
        if percent > 100 {
            brake.fault("percent", format!("{percent} is more than all"), "use a number from 1 to 100");
        }
        records.brake_percent = percent;
    }
    brake.finish();
    records
}

fn policy(mut section: Section<'_>, object: Option<&ObjectType>, members: &[String]) -> PolicyConfig {
    let default = section.choice("default", &POLICIES);
    let default = default.and_then(|name| whole(&mut section, "default", name, members));
    let fields_section = section.section("fields");
    let known: Vec<&str> = object.into_iter().flat_map(known_fields).collect();
    let mut fields = Vec::new();
    for (field, node) in fields_section.own_keys() {
        if !known.is_empty() && !known.contains(&field.as_str()) {
            fields_section.warn(field, "no map of this object has such a field", advice(field, &known));
        }
        if is_consent(field) {
            let problem = "consent follows the most restrictive side, whatever is written here";
            fields_section.warn(field, problem, "remove the entry");
        }
        fields.extend(field_policy(&fields_section, field, &node.value, members).map(|policy| (field.clone(), policy)));
    }
    section.finish();
    PolicyConfig { default, fields }
}

/// One entry of `fields`: the name of a policy, or a table with a name and an order.
fn field_policy(fields: &Section<'_>, field: &str, value: &Value, members: &[String]) -> Option<Policy> {
    match value {
        Value::Text(name) | Value::Loose(name) => match fields.choose(field, name, &POLICIES)? {
            PolicyName::FieldPriority => {
                let fix = "write { policy = \"field_priority\", order = [\"first\", \"second\"] }";
                fields.fault(field, "field_priority needs an order", fix);
                None
            }
            name => plain(name),
        },
        Value::Table(table) => {
            let mut inner = fields.inner(field, table);
            inner.required("policy", "name a policy");
            let name = inner.choice("policy", &POLICIES);
            let policy = name.and_then(|name| whole(&mut inner, "policy", name, members));
            inner.finish();
            policy
        }
        other => {
            fields.fault(field, format!("it is {}, not a policy", other.kind()), "write the name of a policy");
            None
        }
    }
}

/// A policy with the order that stands beside it under `order`.
fn whole(section: &mut Section<'_>, key: &'static str, name: PolicyName, members: &[String]) -> Option<Policy> {
    let has_order = section.has("order");
    if let Some(policy) = plain(name) {
        if has_order {
            section.fault("order", "only field_priority has an order", "remove the key");
        }
        return Some(policy);
    }
    if !has_order {
        section.fault(key, "field_priority needs an order", "add order = [\"first\", \"second\"]");
        return None;
    }
    let order = section.texts("order")?;
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    for (place, name) in order.iter().enumerate() {
        if !names.is_empty() && !names.contains(&name.as_str()) {
            section.fault("order", format!("\"{name}\" is not one of the members"), advice(name, &names));
        } else if order[..place].contains(name) {
            section.fault("order", format!("\"{name}\" is named twice"), "name each member once");
        }
    }
    if order.is_empty() {
        section.fault("order", "it is empty", "name the members, the one that wins first");
    }
    Some(Policy::FieldPriority(order))
}

/// A policy that its name says all of.
const fn plain(name: PolicyName) -> Option<Policy> {
    match name {
        PolicyName::LastWrite => Some(Policy::LastWrite),
        PolicyName::Ours => Some(Policy::Ours),
        PolicyName::Theirs => Some(Policy::Theirs),
        PolicyName::Manual => Some(Policy::Manual),
        PolicyName::FieldPriority => None,
    }
}

impl LinkDraft {
    /// The whole, if nothing was wrong with it.
    pub(crate) fn config(self) -> Option<LinkConfig> {
        Some(LinkConfig {
            name: self.name?,
            tenant: self.tenant?,
            object: self.object?,
            members: self.members?,
            primary: self.primary?,
            guard: self.guard,
            policy: self.policy,
            records: self.records,
        })
    }
}
