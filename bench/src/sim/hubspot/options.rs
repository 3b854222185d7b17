//! How an account is set up, what a user can do in it, and what comes of it.
//!
//! Plain data; the account itself stands in the parent module.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::problem::Problem;
use super::{Owner, TypeSpec, WebhookEvent};
use crate::sim::access::AccessOptions;
use crate::sim::flow::Flow;
use crate::sim::hooks::{Hook, RetryPlan};

/// How a HubSpot account is set up.
#[derive(Clone, Debug)]
pub struct HubspotOptions {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The account's id, as webhooks carry it.
    pub portal_id: u64,
    /// The app that writes over the API and gets the webhooks.
    pub app_id: u64,
    /// Which tokens are good.
    pub access: AccessOptions,
    /// Calls per 10 seconds; `None` sets no limit. 190 is that of a private app on the professional plan.
    pub burst: Option<u32>,
    /// Calls per day.
    pub daily: u64,
    /// Seed by which batch results are put into another order; `None` keeps the order of the inputs.
    pub shuffle: Option<u64>,
    /// Post `object.*` names with a type id instead of `contact.*`.
    pub generic_events: bool,
    /// A merge makes a new record instead of keeping the primary one.
    pub merge_makes_new: bool,
    /// A creation also posts one property change per value.
    pub creation_values: bool,
    /// Whether every type has the property `relay_id`; without, it must be made first.
    pub relay_id: bool,
    /// An automation of the account.
    pub flow: Option<Flow>,
    /// Custom object types.
    pub custom_types: Vec<TypeSpec>,
    /// Users who can own records.
    pub owners: Vec<Owner>,
    /// Addresses that get the webhooks; those of other providers are passed over.
    pub hooks: Vec<Hook>,
    /// When failed webhooks are tried again.
    pub retry: RetryPlan,
    /// Entries the write log keeps.
    pub write_log: usize,
}

impl Default for HubspotOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            portal_id: 5_550_123,
            app_id: 70_077,
            access: AccessOptions::default(),
            burst: Some(190),
            daily: 650_000,
            shuffle: None,
            generic_events: false,
            merge_makes_new: false,
            creation_values: false,
            relay_id: true,
            flow: None,
            custom_types: Vec::new(),
            owners: vec![Owner { id: 41, user_id: 31, email: "owner@example.com".into() }],
            hooks: Vec::new(),
            retry: RetryPlan::default(),
            write_log: 2_000_000,
        }
    }
}

/// Something a user does in the account.
#[derive(Clone, Debug)]
pub enum HubspotEdit {
    /// Makes a record; `id` fixes its id.
    Create {
        /// Object type, as `contacts`.
        object: String,
        /// Native id, for tests that need a certain one.
        id: Option<u64>,
        /// Property values.
        values: BTreeMap<String, String>,
    },
    /// Changes properties.
    Update {
        /// Object type.
        object: String,
        /// Native id.
        id: u64,
        /// Property values; the empty text clears.
        values: BTreeMap<String, String>,
    },
    /// Moves a record to the bin.
    Delete {
        /// Object type.
        object: String,
        /// Native id.
        id: u64,
    },
    /// Brings a record back.
    Restore {
        /// Object type.
        object: String,
        /// Native id.
        id: u64,
    },
    /// Erases a record for privacy.
    Erase {
        /// Object type.
        object: String,
        /// Native id.
        id: u64,
    },
    /// Merges one record into another.
    Merge {
        /// Object type.
        object: String,
        /// The record that survives.
        primary: u64,
        /// The record that goes.
        merged: u64,
    },
    /// Links two records, or takes the link away.
    Link {
        /// Object type and id of one side.
        from: (String, u64),
        /// Object type and id of the other side.
        to: (String, u64),
        /// Take the link away.
        remove: bool,
    },
}

/// The account refused an edit, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the account refused the edit with {status} {category}: {message}")]
pub struct EditRefused {
    /// HTTP status the API would have answered.
    pub status: u16,
    /// HubSpot's category.
    pub category: String,
    /// HubSpot's message.
    pub message: String,
}

impl From<Problem> for EditRefused {
    fn from(p: Problem) -> Self {
        Self { status: p.status, category: p.category.into(), message: p.message }
    }
}

/// What an edit left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The record that was made or changed; after a merge the one that stands for both.
    pub id: u64,
    /// The events HubSpot posts for it, not posted yet.
    pub events: Vec<WebhookEvent>,
}
