//! What describes the account: properties, pipelines, owners, schemas.
//!
//! It reads and extends the type descriptions; records are none of its business.

use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::body;
use super::portal::Portal;
use super::problem::Problem;
use super::schema::{Property, PropertyKind};
use super::types::{DEAL_STAGES, TICKET_STAGES};
use crate::sim::http::{Answer, Call};

/// A user who can own records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Owner id, as `hubspot_owner_id` holds it.
    pub id: u64,
    /// User id, as webhooks name the user.
    pub user_id: u64,
    /// Address.
    pub email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewProperty {
    name: String,
    label: String,
    #[serde(rename = "type")]
    kind: String,
    field_type: String,
    group_name: String,
    #[serde(default)]
    has_unique_value: bool,
    #[serde(default)]
    options: Vec<NewOption>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewOption {
    #[serde(rename = "label")]
    _label: String,
    value: String,
    #[serde(rename = "displayOrder")]
    _order: Option<i64>,
    #[serde(rename = "hidden")]
    _hidden: bool,
}

const FIELD_TYPES: [&str; 12] = [
    "booleancheckbox",
    "calculation_equation",
    "checkbox",
    "date",
    "file",
    "html",
    "number",
    "phonenumber",
    "radio",
    "select",
    "text",
    "textarea",
];

/// Answers `properties/{type}` and `properties/{type}/{name}`.
pub(super) fn properties(portal: &mut Portal, call: &Call, table: usize, rest: &[&str]) -> Result<Answer, Problem> {
    match (call.method.as_str(), rest) {
        ("GET", []) => {
            let archived = call.param("archived") == Some("true");
            let all = portal.tables[table].spec.properties.values().filter(|_| !archived);
            Ok(Answer::json(200, &json!({"results": all.map(Property::describe).collect::<Vec<_>>()})))
        }
        ("GET", [name]) => {
            let property = portal.tables[table].spec.properties.get(*name);
            let missing = || Problem::new(404, "OBJECT_NOT_FOUND", format!("No property named {name}"));
            Ok(Answer::json(200, &property.ok_or_else(missing)?.describe()))
        }
        ("POST", []) => {
            let property = new_property(body(call)?)?;
            let shown = property.describe();
            portal.add_property(table, property)?;
            Ok(Answer::json(201, &shown))
        }
        _ => Err(Problem::new(405, "VALIDATION_ERROR", "Method not allowed")),
    }
}

fn new_property(input: NewProperty) -> Result<Property, Problem> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let named = input.name.bytes().all(plain) && input.name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    let kind = PropertyKind::parse(&input.kind);
    let (true, Some(kind)) = (named && FIELD_TYPES.contains(&input.field_type.as_str()), kind) else {
        return Err(Problem::invalid("The property has an invalid name, type or fieldType"));
    };
    if input.has_unique_value && !matches!(kind, PropertyKind::Text | PropertyKind::Number | PropertyKind::Phone) {
        return Err(Problem::invalid("Only text and number properties can have unique values"));
    }
    if kind == PropertyKind::Choice && input.options.is_empty() {
        return Err(Problem::invalid("An enumeration needs options"));
    }
    Ok(Property {
        label: input.label,
        field_type: input.field_type,
        group: input.group_name,
        unique: input.has_unique_value,
        options: input.options.into_iter().map(|o| o.value).collect(),
        ..Property::new(&input.name, kind)
    })
}

/// Answers `pipelines/{type}`.
pub(super) fn pipelines(portal: &Portal, table: usize) -> Answer {
    let stage = |(id, label, metadata): (&str, &str, Value), order: usize| json!({"id": id, "label": label, "displayOrder": order, "metadata": metadata, "archived": false});
    let results = match portal.tables[table].spec.name.as_str() {
        "deals" => {
            let meta = |p: &str, c: bool| json!({"probability": p, "isClosed": c.to_string()});
            let stages = DEAL_STAGES.iter().enumerate().map(|(i, s)| stage((s.0, s.1, meta(s.2, s.3)), i));
            vec![json!({"id": "default", "label": "Sales Pipeline", "displayOrder": 0, "archived": false,
                "stages": stages.collect::<Vec<_>>()})]
        }
        "tickets" => {
            let meta = |s: &str| json!({"ticketState": s, "isClosed": (s == "CLOSED").to_string()});
            let stages = TICKET_STAGES.iter().enumerate().map(|(i, s)| stage((s.0, s.1, meta(s.2)), i));
            vec![json!({"id": "0", "label": "Support Pipeline", "displayOrder": 0, "archived": false,
                "stages": stages.collect::<Vec<_>>()})]
        }
        _ => Vec::new(),
    };
    Answer::json(200, &json!({"results": results}))
}

/// Answers `owners`.
pub(super) fn owners(owners: &[Owner], call: &Call) -> Answer {
    let email = call.param("email").map(str::to_lowercase);
    let archived = call.param("archived") == Some("true");
    let matching = owners.iter().filter(|o| !archived && email.as_ref().is_none_or(|e| *e == o.email.to_lowercase()));
    let results: Vec<_> = matching
        .map(|o| {
            json!({"id": o.id.to_string(), "email": o.email, "userId": o.user_id, "firstName": "", "lastName": "",
                "archived": false})
        })
        .collect();
    Answer::json(200, &json!({"results": results}))
}

/// Answers `schemas`: the custom types.
pub(super) fn schemas(portal: &Portal) -> Answer {
    let custom = portal.tables.iter().filter(|t| t.spec.type_id.starts_with("2-"));
    let results: Vec<_> = custom
        .map(|t| {
            json!({"name": t.spec.name, "objectTypeId": t.spec.type_id, "labels": {"singular": t.spec.singular, "plural": t.spec.name},
                "properties": t.spec.properties.values().map(Property::describe).collect::<Vec<_>>()})
        })
        .collect();
    Answer::json(200, &json!({"results": results}))
}
