//! The default maps of contact, company and deal.
//!
//! Names are the standard fields of each CRM: HubSpot's default properties ("HubSpot's default contact/company/deal
//! properties") and Salesforce's standard objects ("Object Reference: Contact, Account, Opportunity"). Left out on
//! purpose: references (owner, company of a contact), which need look-up tables; the pipeline, which is a record type
//! in Salesforce; the probability, which both sides derive from the stage.

use headgate_schemas::{ObjectType, System, Value};

use super::kind::{Form, Kind};
use super::plan::{FieldMap, FieldPlan, Link, Required, Table};
use crate::config::{self, ConnectionConfig, LinkConfig};
use crate::conflict::Policy;
use crate::entity::matching::unique_field;

/// One line of a default map.
struct Line {
    neutral: &'static str,
    kind: Kind,
    hubspot: Side,
    salesforce: Side,
}

/// One CRM's side of a line.
enum Side {
    /// Read and written.
    Both(&'static str),
    /// Read only.
    Read(&'static str),
    /// Read and written, never empty.
    Needed(&'static str, Required),
    /// A group of two, read and written. Not every account has the second where it is `true`.
    Pair([&'static str; 2], bool),
    /// A stage, by the table of stock names; never empty.
    Stage(&'static str, usize, Option<Required>),
}

use Side::{Both, Needed, Pair, Read, Stage};

const fn line(neutral: &'static str, kind: Kind, hubspot: Side, salesforce: Side) -> Line {
    Line { neutral, kind, hubspot, salesforce }
}

const NOT_PROVIDED: Required = Required::Text("[not provided]");

const CONTACT: &[Line] = &[
    line("email", Kind::Email, Both("email"), Both("Email")),
    line("first_name", Kind::Text, Both("firstname"), Both("FirstName")),
    line("last_name", Kind::Text, Both("lastname"), Needed("LastName", NOT_PROVIDED)),
    line("phone", Kind::Phone, Both("phone"), Both("Phone")),
    line("mobile", Kind::Phone, Both("mobilephone"), Both("MobilePhone")),
    line("title", Kind::Text, Both("jobtitle"), Both("Title")),
    line("street", Kind::Text, Both("address"), Both("MailingStreet")),
    line("city", Kind::Text, Both("city"), Both("MailingCity")),
    line("state", Kind::Text, Both("state"), Both("MailingState")),
    line("zip", Kind::Text, Both("zip"), Both("MailingPostalCode")),
    line("country", Kind::Text, Both("country"), Both("MailingCountry")),
    line("source", Kind::Choice, Read("hs_analytics_source"), Both("LeadSource")),
    line("unsubscribed", Kind::Bool, Read("hs_email_optout"), Both("HasOptedOutOfEmail")),
];

const COMPANY: &[Line] = &[
    line("name", Kind::Text, Both("name"), Needed("Name", NOT_PROVIDED)),
    line("domain", Kind::Domain, Both("domain"), Both("Website")),
    line("phone", Kind::Phone, Both("phone"), Both("Phone")),
    line("industry", Kind::Choice, Both("industry"), Both("Industry")),
    line("employees", Kind::Number, Both("numberofemployees"), Both("NumberOfEmployees")),
    line("revenue", Kind::Number, Both("annualrevenue"), Both("AnnualRevenue")),
    line("street", Kind::Text, Both("address"), Both("BillingStreet")),
    line("city", Kind::Text, Both("city"), Both("BillingCity")),
    line("state", Kind::Text, Both("state"), Both("BillingState")),
    line("zip", Kind::Text, Both("zip"), Both("BillingPostalCode")),
    line("country", Kind::Text, Both("country"), Both("BillingCountry")),
];

const DEAL: &[Line] = &[
    line("name", Kind::Text, Both("dealname"), Needed("Name", NOT_PROVIDED)),
    // What it is worth and in which currency: one value without the other says nothing.
    line(
        "amount",
        Kind::Number,
        Pair(["amount", "deal_currency_code"], false),
        Pair(["Amount", "CurrencyIsoCode"], true),
    ),
    line(
        "stage",
        Kind::Choice,
        Stage("dealstage", 1, None),
        Stage("StageName", 2, Some(Required::Text("Qualification"))),
    ),
    line("close_date", Kind::Date, Both("closedate"), Needed("CloseDate", Required::DaysAfter(30))),
];

/// Stock stages of new accounts: neutral, HubSpot's default pipeline, Salesforce.
const STAGES: [(&str, &str, &str); 7] = [
    ("qualified", "qualifiedtobuy", "Qualification"),
    ("meeting", "appointmentscheduled", "Needs Analysis"),
    ("presentation", "presentationscheduled", "Value Proposition"),
    ("decision", "decisionmakerboughtin", "Id. Decision Makers"),
    ("contract", "contractsent", "Negotiation/Review"),
    ("won", "closedwon", "Closed Won"),
    ("lost", "closedlost", "Closed Lost"),
];

/// Neutral fields that a policy may name although no default map writes them yet.
const UNMAPPED: [&str; 12] = [
    "external_id",
    "email_secondary",
    "company",
    "lifecycle",
    "score_tier",
    "lead_score",
    "owner",
    "source_detail",
    "bounced",
    "pipeline",
    "probability",
    "lost_reason",
];

fn lines(object: &ObjectType) -> &'static [Line] {
    match object.as_str() {
        "contact" => CONTACT,
        "company" => COMPANY,
        "deal" => DEAL,
        _ => &[],
    }
}

/// Whether there is a default map of this type.
pub fn knows_object(object: &ObjectType) -> bool {
    !lines(object).is_empty()
}

/// Whether a CRM's metadata decide what of this type is mapped.
pub fn has_optional(object: &ObjectType) -> bool {
    lines(object).iter().any(|l| matches!(l.hubspot, Pair(_, true)) || matches!(l.salesforce, Pair(_, true)))
}

/// Whether the default map of a type has a neutral field.
pub fn is_mapped(object: &ObjectType, field: &str) -> bool {
    lines(object).iter().any(|l| l.neutral == field)
}

/// Neutral fields that a policy of this type may name.
pub fn known_fields(object: &ObjectType) -> impl Iterator<Item = &'static str> {
    lines(object).iter().map(|l| l.neutral).chain(UNMAPPED)
}

/// Compiles the default map of a link. `id` gives the number of a connection, `writable` whether this version writes
/// to its system.
pub fn compile(
    link: &LinkConfig,
    connections: &[ConnectionConfig],
    id: &dyn Fn(&str) -> u32,
    writable: &dyn Fn(System) -> bool,
) -> Link {
    let mut members: Vec<&ConnectionConfig> =
        link.members.iter().filter_map(|name| connections.iter().find(|c| c.name == *name)).collect();
    members.sort_by_key(|c| c.name != link.primary);
    let fields = lines(&link.object)
        .iter()
        .map(|l| {
            let maps = members.iter().filter_map(|c| field_map(l, c.system, id(&c.name), writable(c.system))).collect();
            FieldPlan::new(l.neutral, l.kind, policy(link, l.neutral, id), maps)
                .with_finals(finals(&link.object, l.neutral))
                .with_kinds(kinds(&link.object, l.neutral))
        })
        .collect();
    let numbers = members.iter().map(|c| (id(&c.name), writable(c.system))).collect();
    let mut compiled = Link::new(&link.name, &link.tenant, link.object.clone(), link.guard, numbers, fields);
    compiled.records = link.records.into();
    if let Some(find) = unique_field(link.object.as_str()) {
        for member in members.iter().filter(|member| !refuses_twins(member.system, &link.object)) {
            compiled.seek(id(&member.name), find);
        }
    }
    compiled
}

/// The policy of a field: consent is never negotiable; then what the link says of the field, of all, and the table.
fn policy(link: &LinkConfig, field: &str, id: &dyn Fn(&str) -> u32) -> Policy {
    let of = |p: &config::Policy| match p {
        config::Policy::LastWrite => Policy::LastWrite,
        config::Policy::Ours => Policy::Ours,
        config::Policy::Theirs => Policy::Theirs,
        config::Policy::FieldPriority(order) => Policy::FieldPriority(order.iter().map(|name| id(name)).collect()),
        config::Policy::Manual => Policy::Manual,
    };
    if is_consent(field) {
        return Policy::MostRestrictive;
    }
    let own = link.policy.fields.iter().find(|(name, _)| name == field).map(|(_, p)| p);
    own.or(link.policy.default.as_ref()).map_or_else(|| by_table(&link.object, field), of)
}

/// A second record with the same unique key is refused there, naming the first: nothing need be looked for. ("HubSpot
/// API: contacts": the e-mail address is unique; the domain of a company is not.)
fn refuses_twins(system: System, object: &ObjectType) -> bool {
    system == System::Hubspot && *object == ObjectType::CONTACT
}

/// Consent is decided by the most restrictive side, whatever a link says.
pub fn is_consent(field: &str) -> bool {
    matches!(field, "unsubscribed" | "bounced")
}

/// Two edits of a name this close, in microseconds, are one edit made twice.
const NAMES_APART: i64 = 2_000_000;

/// Who wins where the link does not say. What a deal is worth, and when it closes, is for the CRM that has the deal:
/// the one in which it was made, because owners are not mapped.
fn by_table(object: &ObjectType, field: &str) -> Policy {
    match (object.as_str(), field) {
        (_, "email" | "lead_score" | "score_tier") => Policy::Ours,
        (_, "lifecycle" | "stage" | "status" | "pipeline" | "company") => Policy::Theirs,
        ("deal", "amount" | "close_date") => Policy::Origin,
        (_, "first_name" | "last_name") => Policy::LastWriteOrOrigin(NAMES_APART),
        _ => Policy::LastWrite,
    }
}

/// The types of the parts of a group.
fn kinds(object: &ObjectType, field: &str) -> &'static [Kind] {
    match (object.as_str(), field) {
        ("deal", "amount") => &[Kind::Number, Kind::Choice],
        _ => &[],
    }
}

/// Values that only a person moves a record from.
fn finals(object: &ObjectType, field: &str) -> &'static [&'static str] {
    match (object.as_str(), field) {
        ("deal", "stage") => &["won", "lost"],
        _ => &[],
    }
}

fn field_map(line: &Line, system: System, connection: u32, writable: bool) -> Option<FieldMap> {
    let (side, form) = match system {
        System::Hubspot => (&line.hubspot, Form::Text),
        System::Salesforce => (&line.salesforce, Form::Json),
        System::Dynamics | System::Pipedrive | System::Native => return None,
    };
    let (names, write, optional, required, stage) = match side {
        Both(name) => (std::slice::from_ref(name), true, false, None, None),
        Read(name) => (std::slice::from_ref(name), false, false, None, None),
        Pair(names, optional) => (names.as_slice(), true, *optional, None, None),
        Needed(name, required) => (std::slice::from_ref(name), true, false, Some(required.clone()), None),
        Stage(name, column, required) => (std::slice::from_ref(name), true, false, required.clone(), Some(*column)),
    };
    let parts = names.iter().map(|name| (*name).into()).collect();
    let table = stage.map(|column| Table {
        pairs: STAGES
            .iter()
            .map(|(neutral, hubspot, salesforce)| {
                (Value::from(*neutral), Value::from(if column == 1 { *hubspot } else { *salesforce }))
            })
            .collect(),
        closed: true,
    });
    Some(FieldMap { connection, parts, optional, form, write: write && writable, required, table })
}
