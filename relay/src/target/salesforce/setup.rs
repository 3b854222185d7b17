//! The field that holds our external id. Salesforce makes fields only for administrators, so here it is only looked for,
//! and where it is missing the way to it is told click by click.
//!
//! The surprising thing: a field that the integration user may not see looks exactly like one that does not exist.

use headgate_schemas::ObjectType;

use super::super::{Prepared, TargetError};
use super::{Salesforce, type_of};

impl Salesforce {
    pub(super) async fn prepare_type(&self, object: &ObjectType) -> Result<Prepared, TargetError> {
        let sobject = type_of(object)?;
        let name = &self.external_id_field;
        let fields = self.described(object).await?.unwrap_or_default();
        let why = match fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)) {
            Some(f) if !f.external_id => "the field exists but is not marked as External ID",
            Some(f) if !f.unique => "the field exists but its values may repeat",
            Some(f) if !f.createable => "the field exists but our user may not write it",
            Some(_) => return Ok(Prepared::Ready),
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
}
