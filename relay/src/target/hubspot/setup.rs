//! The property that holds our external id: looked for, and made where the connection's set-up is automatic.
//!
//! Shapes: HubSpot's "Properties" API reference. The surprising thing: whether values of a property must be unique is
//! decided when it is made and never again, so one that exists without it cannot be repaired, only replaced.

use bytes::Bytes;
use headgate_schemas::ObjectType;
use hyper::{Method, StatusCode};
use serde::Serialize;

use super::super::{Disposition, Prepared, TargetError};
use super::{Hubspot, PropertiesAnswer, Property, errors, path_of};
use crate::http::{Call, Effect};

/// The property as it is made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewProperty<'a> {
    name: &'a str,
    label: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    field_type: &'static str,
    group_name: &'static str,
    has_unique_value: bool,
}

impl Hubspot {
    pub(super) async fn prepare_type(&self, object: &ObjectType) -> Result<Prepared, TargetError> {
        let Some(properties) = self.listed(object).await? else { return Ok(unclear("list")) };
        match properties.iter().find(|p| p.name == self.external_id_field) {
            Some(property) if property.is_fit() => Ok(Prepared::Ready),
            Some(_) => Ok(self.blocked(
                object,
                "a property of this name exists whose values may repeat or cannot be written; delete or rename it first",
            )),
            None if self.makes_fields => self.make(object).await,
            None => Ok(self.blocked(object, "the property is missing and setup is \"never\"")),
        }
    }

    /// The properties, or `None` where the answer cannot be relied on: a stand-in for HubSpot need not know its metadata,
    /// and an app need not be allowed to see them.
    async fn listed(&self, object: &ObjectType) -> Result<Option<Vec<Property>>, TargetError> {
        let reply = self.listing(object).await?;
        if reply.is_unbuilt() || reply.status == StatusCode::FORBIDDEN {
            return Ok(None);
        }
        if reply.status != StatusCode::OK {
            return Err(errors::whole_call(&reply, Effect::Read));
        }
        let answer: Option<PropertiesAnswer> = serde_json::from_slice(&reply.body).ok();
        // No account is without properties.
        Ok(answer.map(|a| a.results).filter(|all| !all.is_empty()))
    }

    async fn make(&self, object: &ObjectType) -> Result<Prepared, TargetError> {
        let body = NewProperty {
            name: &self.external_id_field,
            label: "Headgate id",
            kind: "string",
            field_type: "text",
            group_name: group(object),
            has_unique_value: true,
        };
        let body = serde_json::to_vec(&body)
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        let path = format!("/crm/v3/properties/{}", path_of(object)?);
        let reply = self.client.send(Call::json(Effect::Write, Method::POST, path, Bytes::from(body))).await?;
        if reply.status.is_success() {
            return Ok(Prepared::Made);
        }
        if reply.is_unbuilt() {
            return Ok(unclear("make"));
        }
        if reply.status == StatusCode::CONFLICT {
            // Somebody made it just now, or it lies in HubSpot's archive of properties.
            let properties = self.listed(object).await?.unwrap_or_default();
            let fit = properties.iter().any(|p| p.name == self.external_id_field && p.is_fit());
            let archived = "HubSpot keeps an archived property of this name; restore or purge it";
            return Ok(if fit { Prepared::Ready } else { self.blocked(object, archived) });
        }
        let error = errors::whole_call(&reply, Effect::Write);
        if error.disposition == Disposition::Permanent {
            let scope = format!("HubSpot refuses to make it ({}); the app needs the scope of schemas", error.code);
            return Ok(self.blocked(object, &scope));
        }
        Err(error)
    }

    fn blocked(&self, object: &ObjectType, why: &str) -> Prepared {
        let field = self.external_id_field.clone();
        let advice = format!(
            "{why}. In HubSpot: Settings > Properties > choose the {object} object > Create property, internal name \
             `{field}`, type single-line text, tick \"Require unique values for this property\""
        );
        Prepared::Blocked { field, advice }
    }
}

impl Property {
    /// Nothing that is told of it speaks against it.
    fn is_fit(&self) -> bool {
        self.has_unique_value != Some(false) && !self.modification_metadata.read_only_value
    }
}

fn unclear(verb: &str) -> Prepared {
    Prepared::Unclear { reason: format!("the address to {verb} properties does not answer as HubSpot's does") }
}

/// The group of properties that every account has for a type.
fn group(object: &ObjectType) -> &'static str {
    match object.as_str() {
        "company" => "companyinformation",
        "deal" => "dealinformation",
        _ => "contactinformation",
    }
}
