//! The field that holds our external id. Salesforce makes fields only for administrators, so here it is only looked for,
//! and where it is missing the way to it is told click by click.
//!
//! The surprising thing: a field that the integration user may not see looks exactly like one that does not exist.

use headgate_schemas::ObjectType;
use hyper::StatusCode;

use super::super::{Prepared, TargetError};
use super::{Description, Field, Salesforce, errors, type_of};
use crate::http::Effect;

impl Salesforce {
    pub(super) async fn prepare_type(&self, object: &ObjectType) -> Result<Prepared, TargetError> {
        let sobject = type_of(object)?;
        let name = &self.external_id_field;
        let Some(fields) = self.listed(object).await? else {
            let reason = "the address that describes a type does not answer as Salesforce's does".to_owned();
            return Ok(Prepared::Unclear { reason });
        };
        let why = match fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)) {
            Some(f) if f.external_id == Some(false) => "the field exists but is not marked as External ID",
            Some(f) if f.unique == Some(false) => "the field exists but its values may repeat",
            Some(f) if f.createable == Some(false) => "the field exists but our user may not write it",
            Some(_) => {
                self.without_id.lock().remove(sobject);
                return Ok(Prepared::Ready);
            }
            None => "the field does not exist or our user may not see it",
        };
        let label = name.strip_suffix("__c").unwrap_or(name);
        let advice = format!(
            "{why}. In Salesforce: Setup > Object Manager > {sobject} > Fields & Relationships > New > Text, length 36, \
             field name `{label}`, tick Unique (case insensitive) and External ID; then give the integration user read \
             and edit access to it under Set Field-Level Security"
        );
        Ok(Prepared::Blocked { field: name.clone(), advice })
    }

    /// The fields, or `None` where the answer cannot be relied on: a stand-in for Salesforce need not know its metadata.
    async fn listed(&self, object: &ObjectType) -> Result<Option<Vec<Field>>, TargetError> {
        let reply = self.description(object).await?;
        if reply.is_unbuilt() {
            return Ok(None);
        }
        if reply.status != StatusCode::OK {
            return Err(errors::whole_call(&reply, Effect::Read));
        }
        let answer: Option<Description> = serde_json::from_slice(&reply.body).ok();
        // No type is without fields.
        Ok(answer.map(|a| a.fields).filter(|all| !all.is_empty()))
    }
}
