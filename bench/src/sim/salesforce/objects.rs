//! The standard objects of the Salesforce model.
//!
//! A table: names, lengths and pick lists are those of the standard objects in Salesforce's object reference. Every
//! object but the user carries the external id by which creations are made safe to repeat.

use super::schema::{Field, FieldKind};
use FieldKind::{
    Area, Bool, Choice, Currency, Date, DateTime, Email, Int, Percent, Phone, Reference, Restricted, Text, Url,
};

/// One object with its key prefix.
#[derive(Clone, Debug)]
pub(super) struct ObjectSpec {
    pub(super) name: &'static str,
    pub(super) prefix: &'static str,
    pub(super) fields: Vec<Field>,
}

impl ObjectSpec {
    /// The field with this name; names are compared without case, as Salesforce does.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name))
    }
}

/// Stages of an opportunity: name, probability, closed, won.
pub(super) const STAGES: [(&str, u8, bool, bool); 10] = [
    ("Prospecting", 10, false, false),
    ("Qualification", 10, false, false),
    ("Needs Analysis", 20, false, false),
    ("Value Proposition", 50, false, false),
    ("Id. Decision Makers", 60, false, false),
    ("Perception Analysis", 70, false, false),
    ("Proposal/Price Quote", 75, false, false),
    ("Negotiation/Review", 90, false, false),
    ("Closed Won", 100, true, true),
    ("Closed Lost", 0, true, false),
];

const LEAD_SOURCES: [&str; 5] = ["Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"];

fn with(kind: FieldKind, names: &[(&str, usize)]) -> Vec<Field> {
    names.iter().map(|(n, length)| Field::new(n, kind).length(*length)).collect()
}

fn address(prefix: &str) -> Vec<Field> {
    let parts = [("Street", 255), ("City", 40), ("State", 80), ("PostalCode", 20), ("Country", 80)];
    parts.iter().map(|(n, l)| Field::new(&format!("{prefix}{n}"), Text).length(*l)).collect()
}

fn object(name: &'static str, prefix: &'static str, keyed: Option<bool>, own: Vec<Vec<Field>>) -> ObjectSpec {
    let mut fields = vec![Field::new("Id", FieldKind::Id).read_only()];
    fields.extend(own.into_iter().flatten());
    for (name, kind) in [
        ("CreatedDate", DateTime),
        ("LastModifiedDate", DateTime),
        ("SystemModstamp", DateTime),
        ("CreatedById", Reference),
        ("LastModifiedById", Reference),
        ("IsDeleted", Bool),
    ] {
        fields.push(Field::new(name, kind).read_only());
    }
    // Only what can be merged has it.
    if matches!(name, "Contact" | "Account" | "Lead") {
        fields.push(Field::new("MasterRecordId", Reference).read_only());
    }
    if name != "User" {
        fields.push(Field::new("OwnerId", Reference).refers(&["User"]));
    }
    fields.extend(keyed.map(|unique| Field::external_id("Relay_Id__c", unique)));
    ObjectSpec { name, prefix, fields }
}

fn person(own: Vec<Field>, company: Field) -> Vec<Vec<Field>> {
    vec![
        with(Text, &[("FirstName", 40), ("Title", 128)]),
        vec![Field::new("LastName", Text).length(80).required(), Field::new("Name", Text).length(121).read_only()],
        vec![Field::new("Email", Email), company, Field::new("Description", Area)],
        with(Phone, &[("Phone", 40), ("MobilePhone", 40)]),
        vec![
            Field::new("LeadSource", Choice).values(&LEAD_SOURCES),
            Field::new("HasOptedOutOfEmail", Bool),
            Field::new("EmailBouncedDate", DateTime).read_only(),
        ],
        own,
    ]
}

fn parties() -> Vec<Field> {
    vec![
        Field::new("WhoId", Reference).refers(&["Contact", "Lead"]),
        Field::new("WhatId", Reference).refers(&["Account", "Opportunity"]),
        Field::new("Description", Area),
        Field::new("Subject", Text),
    ]
}

fn account() -> Field {
    Field::new("AccountId", Reference).refers(&["Account"])
}

fn lead() -> Vec<Vec<Field>> {
    let statuses = ["Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted"];
    let own = vec![
        Field::new("Status", Choice).values(&statuses),
        Field::new("Rating", Choice).values(&["Hot", "Warm", "Cold"]),
        Field::new("Website", Url),
    ];
    person([address(""), own].concat(), Field::new("Company", Text).required())
}

fn company() -> Vec<Vec<Field>> {
    let own = vec![
        Field::new("Name", Text).required(),
        Field::new("Website", Url),
        Field::new("Phone", Phone),
        Field::new("Industry", Choice),
        Field::new("NumberOfEmployees", Int),
        Field::new("AnnualRevenue", Currency),
        Field::new("ParentId", Reference).refers(&["Account"]),
        Field::new("Description", Area),
    ];
    vec![own, address("Billing")]
}

fn opportunity() -> Vec<Field> {
    let stages: Vec<&str> = STAGES.iter().map(|s| s.0).collect();
    vec![
        Field::new("Name", Text).length(120).required(),
        Field::new("Amount", Currency),
        Field::new("Probability", Percent),
        Field::new("StageName", Restricted).required().values(&stages),
        Field::new("CloseDate", Date).required(),
        Field::new("IsClosed", Bool).read_only(),
        Field::new("IsWon", Bool).read_only(),
        account(),
        Field::new("Type", Choice),
        Field::new("Description", Area),
        Field::new("LeadSource", Choice).values(&LEAD_SOURCES),
    ]
}

fn task() -> Vec<Field> {
    vec![
        Field::new("Status", Choice).values(&["Not Started", "In Progress", "Completed"]),
        Field::new("Priority", Choice).values(&["High", "Normal", "Low"]),
        Field::new("ActivityDate", Date),
        Field::new("TaskSubtype", Choice).values(&["Task", "Email", "Call"]),
    ]
}

fn event() -> Vec<Field> {
    vec![Field::new("StartDateTime", DateTime).required(), Field::new("EndDateTime", DateTime).required()]
}

fn user() -> Vec<Field> {
    vec![
        Field::new("Username", Text).length(80).required(),
        Field::new("Email", Email).required(),
        Field::new("LastName", Text).length(80).required(),
        Field::new("IsActive", Bool),
    ]
}

/// The standard objects of the model; `unique` says whether the external id has unique values.
pub(super) fn standard(unique: bool) -> Vec<ObjectSpec> {
    vec![
        object("Contact", "003", Some(unique), person(address("Mailing"), account())),
        object("Lead", "00Q", Some(unique), lead()),
        object("Account", "001", Some(unique), company()),
        object("Opportunity", "006", Some(unique), vec![opportunity()]),
        object("Task", "00T", Some(unique), vec![parties(), task()]),
        object("Event", "00U", Some(unique), vec![parties(), event()]),
        object("User", "005", None, vec![user()]),
    ]
}
