//! The events HubSpot posts, field for field.
//!
//! Shapes follow HubSpot's webhooks guide. The surprising thing: an event of a creation names the record and nothing
//! else, so a receiver must read to learn any value.

use serde::{Deserialize, Serialize};

/// Who changed a record, as events and history show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// `changeSource`, as `CRM_UI` or `INTEGRATION`.
    pub source: String,
    /// `sourceId`, as `userId:31` or the app's id.
    pub id: String,
}

impl Author {
    /// A person at the screen.
    pub fn user(user_id: u64) -> Self {
        Self { source: "CRM_UI".into(), id: format!("userId:{user_id}") }
    }

    /// An automation of the account.
    pub fn automation() -> Self {
        Self { source: "AUTOMATION_PLATFORM".into(), id: "workflow".into() }
    }

    /// An app over the API.
    pub fn app(app_id: u64) -> Self {
        Self { source: "INTEGRATION".into(), id: app_id.to_string() }
    }
}

/// One event of a webhook body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// Id of the triggering event; not guaranteed unique by HubSpot.
    pub event_id: u64,
    /// The subscription that fired.
    pub subscription_id: u64,
    /// The account.
    pub portal_id: u64,
    /// The receiving app.
    pub app_id: u64,
    /// Milliseconds since the Unix epoch.
    pub occurred_at: i64,
    /// As `contact.propertyChange`.
    pub subscription_type: String,
    /// Starts at 0.
    pub attempt_number: u32,
    /// The record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<u64>,
    /// Only in the generic generation of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_type_id: Option<String>,
    /// The changed property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property_name: Option<String>,
    /// Its new value; empty when cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property_value: Option<String>,
    /// As `CRM_UI` or `INTEGRATION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_source: Option<String>,
    /// As `userId:31` or the writing app's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// `NEW`, `DELETED` or `RESTORED` on record events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_flag: Option<String>,
    /// Merge: the record that survives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_object_id: Option<u64>,
    /// Merge: the records merged away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_object_ids: Option<Vec<u64>>,
    /// Merge: the record that stands for all of them from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_object_id: Option<u64>,
    /// Merge: how many values moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_properties_moved: Option<u64>,
    /// Association: from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_object_id: Option<u64>,
    /// Association: to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_object_id: Option<u64>,
    /// Association: as `CONTACT_TO_COMPANY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_type: Option<String>,
    /// Association: taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_removed: Option<bool>,
    /// Association: the primary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_primary_association: Option<bool>,
}

/// What happened, before it is dressed as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Created,
    Deleted,
    Restored,
    Erased,
    Property { name: String, value: String },
    Merged { primary: u64, merged: u64, new: u64, moved: u64 },
    Associated { from: u64, to: u64, kind: String, removed: bool },
}

impl Happened {
    /// Suffix of the subscription type, and the subscription that fires.
    pub(super) const fn suffix(&self) -> (&'static str, u64) {
        match self {
            Self::Created => ("creation", 41),
            Self::Deleted => ("deletion", 42),
            Self::Property { .. } => ("propertyChange", 43),
            Self::Merged { .. } => ("merge", 44),
            Self::Restored => ("restore", 45),
            Self::Associated { .. } => ("associationChange", 46),
            Self::Erased => ("privacyDeletion", 47),
        }
    }

    /// Fills the fields that this kind of event has.
    pub(super) fn fill(self, record: u64, event: &mut WebhookEvent) {
        let flag = |text: &str| Some(text.to_owned());
        event.object_id = Some(record);
        match self {
            Self::Created => event.change_flag = flag("NEW"),
            Self::Deleted | Self::Erased => event.change_flag = flag("DELETED"),
            Self::Restored => event.change_flag = flag("RESTORED"),
            Self::Property { name, value } => {
                event.property_name = Some(name);
                event.property_value = Some(value);
            }
            Self::Merged { primary, merged, new, moved } => {
                event.primary_object_id = Some(primary);
                event.merged_object_ids = Some(vec![merged]);
                event.new_object_id = Some(new);
                event.number_of_properties_moved = Some(moved);
            }
            Self::Associated { from, to, kind, removed } => {
                event.object_id = None;
                event.from_object_id = Some(from);
                event.to_object_id = Some(to);
                event.association_type = Some(kind);
                event.association_removed = Some(removed);
                event.is_primary_association = Some(false);
            }
        }
    }
}
