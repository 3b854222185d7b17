//! The object types of the HubSpot model.
//!
//! A table: property names and types are those of HubSpot's default properties as its CRM guides name them; pipeline
//! and stage names are the stock ones of a new account. Every type carries `relay_id`, the property with unique values
//! by which creations are made safe to repeat.

use indexmap::IndexMap;

use super::schema::{Property, PropertyKind};

/// Name, singular and id of a type, with its properties.
#[derive(Clone, Debug)]
pub struct TypeSpec {
    /// Plural name of the path, as `contacts`.
    pub name: String,
    /// Name in classic event types, as `contact`.
    pub singular: String,
    /// Type id, as `0-1`; custom objects have `2-…`.
    pub type_id: String,
    /// Properties by name.
    pub properties: IndexMap<String, Property>,
    /// Properties shown when a read names none.
    pub shown: Vec<String>,
}

impl TypeSpec {
    /// A custom object type with a name and the given properties.
    pub fn custom(name: &str, singular: &str, type_id: &str, properties: Vec<Property>) -> Self {
        Self::build((name, singular, type_id), properties, &["hs_object_id", "createdate", "hs_lastmodifieddate"])
    }

    fn build(names: (&str, &str, &str), properties: Vec<Property>, shown: &[&str]) -> Self {
        let modified = if names.0 == "contacts" { "lastmodifieddate" } else { "hs_lastmodifieddate" };
        let owned = [
            Property::new("hs_object_id", PropertyKind::Number).read_only(),
            Property::new("createdate", PropertyKind::DateTime).read_only(),
            Property::new(modified, PropertyKind::DateTime).read_only(),
            Property::new("hs_merged_object_ids", PropertyKind::Text).read_only(),
            Property::new("relay_id", PropertyKind::Text).unique(),
        ];
        let all = owned.into_iter().chain(properties).map(|p| (p.name.clone(), p)).collect();
        Self {
            name: names.0.into(),
            singular: names.1.into(),
            type_id: names.2.into(),
            properties: all,
            shown: shown.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    /// Name of the property with the time of the last change.
    pub(super) fn modified(&self) -> &'static str {
        if self.name == "contacts" { "lastmodifieddate" } else { "hs_lastmodifieddate" }
    }

    /// Whether a path segment names this type: plural, singular or type id.
    pub(super) fn is_named(&self, segment: &str) -> bool {
        segment == self.name || segment == self.singular || segment == self.type_id
    }
}

/// Deal stages of the default pipeline: id, label, probability, closed.
pub(super) const DEAL_STAGES: [(&str, &str, &str, bool); 7] = [
    ("appointmentscheduled", "Appointment Scheduled", "0.2", false),
    ("qualifiedtobuy", "Qualified To Buy", "0.4", false),
    ("presentationscheduled", "Presentation Scheduled", "0.6", false),
    ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8", false),
    ("contractsent", "Contract Sent", "0.9", false),
    ("closedwon", "Closed Won", "1.0", true),
    ("closedlost", "Closed Lost", "0.0", true),
];

/// Stages of the default ticket pipeline: id, label, state.
pub(super) const TICKET_STAGES: [(&str, &str, &str); 4] = [
    ("1", "New", "OPEN"),
    ("2", "Waiting on contact", "OPEN"),
    ("3", "Waiting on us", "OPEN"),
    ("4", "Closed", "CLOSED"),
];

const LIFECYCLE: [&str; 8] = [
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
];

fn texts(names: &[&str]) -> Vec<Property> {
    names.iter().map(|n| Property::new(n, PropertyKind::Text)).collect()
}

fn contacts() -> TypeSpec {
    let mut all = texts(&[
        "firstname",
        "lastname",
        "jobtitle",
        "company",
        "address",
        "city",
        "state",
        "zip",
        "country",
        "website",
    ]);
    all.extend([
        Property::new("email", PropertyKind::Text).unique(),
        Property::new("phone", PropertyKind::Phone),
        Property::new("mobilephone", PropertyKind::Phone),
        Property::new("hubspot_owner_id", PropertyKind::Choice),
        Property::new("lifecyclestage", PropertyKind::Choice).options(&LIFECYCLE),
        Property::new("hs_lead_status", PropertyKind::Choice),
        Property::new("hs_additional_emails", PropertyKind::Text).read_only(),
        Property::new("hs_analytics_source", PropertyKind::Choice).read_only(),
        Property::new("hs_analytics_source_data_1", PropertyKind::Text).read_only(),
        Property::new("hs_email_optout", PropertyKind::Bool).read_only(),
        Property::new("hs_email_hard_bounce_reason", PropertyKind::Text).read_only(),
    ]);
    TypeSpec::build(
        ("contacts", "contact", "0-1"),
        all,
        &["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"],
    )
}

fn companies() -> TypeSpec {
    let mut all = texts(&["name", "domain", "address", "city", "state", "zip", "country", "website", "description"]);
    all.extend([
        Property::new("phone", PropertyKind::Phone),
        Property::new("industry", PropertyKind::Choice),
        Property::new("numberofemployees", PropertyKind::Number),
        Property::new("annualrevenue", PropertyKind::Number),
        Property::new("hubspot_owner_id", PropertyKind::Choice),
        Property::new("lifecyclestage", PropertyKind::Choice).options(&LIFECYCLE),
        Property::new("hs_parent_company_id", PropertyKind::Number).read_only(),
    ]);
    let shown = ["createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"];
    TypeSpec::build(("companies", "company", "0-2"), all, &shown)
}

fn deals() -> TypeSpec {
    let stages: Vec<&str> = DEAL_STAGES.iter().map(|s| s.0).collect();
    let mut all = texts(&["dealname", "closed_lost_reason", "description"]);
    all.extend([
        Property::new("amount", PropertyKind::Number),
        Property::new("deal_currency_code", PropertyKind::Choice),
        Property::new("pipeline", PropertyKind::Choice).options(&["default"]),
        Property::new("dealstage", PropertyKind::Choice).options(&stages),
        Property::new("closedate", PropertyKind::DateTime),
        Property::new("dealtype", PropertyKind::Choice),
        Property::new("hubspot_owner_id", PropertyKind::Choice),
        Property::new("hs_deal_stage_probability", PropertyKind::Number).read_only(),
        Property::new("hs_is_closed_won", PropertyKind::Bool).read_only(),
    ]);
    let shown = [
        "amount",
        "closedate",
        "createdate",
        "dealname",
        "dealstage",
        "hs_lastmodifieddate",
        "hs_object_id",
        "pipeline",
    ];
    TypeSpec::build(("deals", "deal", "0-3"), all, &shown)
}

fn tickets() -> TypeSpec {
    let stages: Vec<&str> = TICKET_STAGES.iter().map(|s| s.0).collect();
    let mut all = texts(&["subject", "content"]);
    all.extend([
        Property::new("hs_pipeline", PropertyKind::Choice).options(&["0"]),
        Property::new("hs_pipeline_stage", PropertyKind::Choice).options(&stages),
        Property::new("hs_ticket_priority", PropertyKind::Choice).options(&["LOW", "MEDIUM", "HIGH", "URGENT"]),
        Property::new("hubspot_owner_id", PropertyKind::Choice),
    ]);
    let shown =
        ["content", "createdate", "hs_lastmodifieddate", "hs_object_id", "hs_pipeline", "hs_pipeline_stage", "subject"];
    TypeSpec::build(("tickets", "ticket", "0-5"), all, &shown)
}

fn activities() -> Vec<TypeSpec> {
    let activity = |names, fields: &[&str]| {
        let mut all = texts(fields);
        all.push(Property::new("hs_timestamp", PropertyKind::DateTime));
        all.push(Property::new("hubspot_owner_id", PropertyKind::Choice));
        TypeSpec::build(names, all, &["createdate", "hs_lastmodifieddate", "hs_object_id", "hs_timestamp"])
    };
    vec![
        activity(("notes", "note", "0-46"), &["hs_note_body"]),
        activity(
            ("meetings", "meeting", "0-47"),
            &["hs_meeting_title", "hs_meeting_body", "hs_meeting_start_time", "hs_meeting_end_time"],
        ),
        activity(("calls", "call", "0-48"), &["hs_call_title", "hs_call_body", "hs_call_direction", "hs_call_status"]),
        activity(("tasks", "task", "0-27"), &["hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_priority"]),
        activity(
            ("emails", "email", "0-49"),
            &["hs_email_subject", "hs_email_text", "hs_email_direction", "hs_email_status"],
        ),
    ]
}

/// The types every portal has.
pub(super) fn standard() -> Vec<TypeSpec> {
    let mut all = vec![contacts(), companies(), deals(), tickets()];
    all.extend(activities());
    all
}
