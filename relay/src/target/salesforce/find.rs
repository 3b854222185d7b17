//! Finding rows by a value of a field: the one query again, by that field. Salesforce compares text without case.

use std::collections::HashMap;

use super::super::{Answered, FindCall, MOST_FOUND, TargetError};
use super::{Row, Salesforce, column, soql, type_of};

impl Salesforce {
    pub(super) async fn find_records(&self, call: &FindCall) -> Result<Answered<Vec<String>>, TargetError> {
        let sobject = type_of(&call.object)?;
        let values: Vec<&str> = call.values.iter().map(|v| v.trim()).collect();
        let columns: &[&str] = if call.field.eq_ignore_ascii_case("Id") { &["Id"] } else { &["Id", &call.field] };
        let paths = soql::paths(&format!("{}/query", self.base), sobject, columns, &call.field, &values)?;
        let answer = self.rows(&paths).await?;
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for (value, id) in answer.rows.iter().filter_map(|row| hit(row, &call.field)) {
            let ids = found.entry(value).or_default();
            if ids.len() < MOST_FOUND && !ids.contains(&id) {
                ids.push(id);
            }
        }
        let items = values.iter().map(|v| found.get(&v.to_lowercase()).cloned().unwrap_or_default());
        Ok(Answered { items: items.collect(), date: answer.date, quota: answer.quota })
    }
}

/// The folded value of a row and its id.
fn hit(row: &Row, field: &str) -> Option<(String, String)> {
    let value = column(row, field)?.as_str()?.trim().to_lowercase();
    Some((value, soql::id18(column(row, "Id")?.as_str()?)?.into_owned()))
}
