//! From a CRM's fields to neutral ones and back: compiled once per link, pure.
//!
//! Three forms of a value: *wire* (as the CRM's API spells it: HubSpot sends text for everything), *native* (typed, as
//! the CRM means it; what members show and the ledger holds) and *canonical* (what the entity holds). [`FieldPlan::decode`]
//! and [`FieldPlan::encode`] go between wire and native, [`FieldPlan::inbound`] and [`FieldPlan::project`] between native
//! and canonical. Values are compared native with native, under the normal form of the field's [`Kind`].

mod default;
mod kind;
mod plan;

pub use default::{compile, has_optional, is_consent, is_mapped, known_fields, knows_object};
pub use kind::{Form, Kind};
pub use plan::{Decoded, FieldMap, FieldPlan, Link, LinkMember, Required, Table};
