//! Writes that Salesforce takes row by row because they carry a precondition: "Conditional Request Headers" of the REST
//! API Developer Guide.
//!
//! The surprising thing: the precondition has the resolution of its header, whole seconds, so of two writers inside one
//! second the later one overwrites unseen.

use bytes::Bytes;
use headgate_schemas::Timestamp;
use hyper::header::{HeaderValue, IF_UNMODIFIED_SINCE};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::single::Single;
use super::super::{Disposition, NativeValues, TargetError, UpdateItem, Version, Written};
use super::{Salesforce, errors, quota, soql};
use crate::http::{Call, Effect, Reply};

impl Salesforce {
    /// Writes one row, where it still has this version.
    pub(super) async fn write_row(
        &self,
        sobject: &'static str,
        item: &UpdateItem,
        version: Version,
    ) -> Result<Single, TargetError> {
        let id = soql::id18(&item.id)
            .ok_or_else(|| TargetError::new("MALFORMED_ID", "not a Salesforce id", Disposition::Permanent))?;
        let body = serde_json::to_vec(&Fields(&item.values))
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        let path = format!("{}/sobjects/{sobject}/{id}", self.base);
        let call = Call::json(Effect::Write, Method::PATCH, path, Bytes::from(body))
            .header(IF_UNMODIFIED_SINCE, http_date(version.at)?);
        let reply = self.send(call).await?;
        if !reply.status.is_success() {
            return Err(refused(&reply));
        }
        let told = serde_json::from_slice::<Saved>(&reply.body).ok().and_then(|saved| saved.id);
        let id = told.as_deref().and_then(soql::id18).unwrap_or(id).into_owned();
        Ok((Written { id: Some(id), created: None, version: None, stored: None }, reply.date, quota(&reply)))
    }
}

fn refused(reply: &Reply) -> TargetError {
    match reply.status {
        StatusCode::PRECONDITION_FAILED => {
            TargetError::new("PRECONDITION_FAILED", "the record changed since it was read", Disposition::Conflict)
        }
        // The path names a row: what is not there is that row.
        StatusCode::NOT_FOUND => TargetError::new("NOT_FOUND", "the record is not there", Disposition::Gone),
        StatusCode::BAD_REQUEST => match serde_json::from_slice::<Vec<errors::Fault>>(&reply.body) {
            Ok(faults) if !faults.is_empty() => errors::record(faults),
            Ok(_) | Err(_) => errors::whole_call(reply, Effect::Write),
        },
        _ => errors::whole_call(reply, Effect::Write),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the second that the version lies in.
fn http_date(at: Timestamp) -> Result<HeaderValue, TargetError> {
    let unsendable = |_| TargetError::new("unsendable", "a version without a date", Disposition::Permanent);
    let second = jiff::Timestamp::from_second(at.micros().div_euclid(1_000_000)).map_err(unsendable)?;
    let text = second.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text)
        .map_err(|_| TargetError::new("unsendable", "a version without a date", Disposition::Permanent))
}

/// The fields of a row whose id stands in the path, where it may not stand again.
struct Fields<'a>(&'a NativeValues);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("id")) {
            map.serialize_entry(&**name, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Saved {
    id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_sent_as_its_second() {
        let at = Timestamp::from_micros(784_111_777_999_999);
        assert_eq!(http_date(at).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
