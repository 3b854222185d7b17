//! A record of the stream as anybody could have put it there: headers, an empty line, the data.

use std::borrow::Cow;

use bytes::Bytes;
use headgate_schemas::contract::{self, DEFAULT_PARTITIONS, Record};
use headgate_schemas::{ObjectType, Timestamp};

use crate::text::{headers, split};

/// What was promised of every record and did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A change that was read cannot be written.
    #[error("a change that was read cannot be written")]
    Encode,
    /// A change that was written cannot be read, or reads as something else.
    #[error("a change does not come back as it was")]
    RoundTrip,
    /// A type has a name that keys cannot hold.
    #[error("a type with a name that is not its own in keys")]
    Type,
    /// A record stands in a partition that there is not.
    #[error("a record has no partition")]
    Partition,
}

/// Reads the record, writes what it holds and reads it again; answers the changes in it.
///
/// # Errors
/// A broken promise. A record that is no change is none.
pub fn run(input: &[u8]) -> Result<usize, crate::Broken> {
    let (head, body) = split(input);
    let (_, headers) = headers(head);
    let own = |(name, value): (&str, &[u8])| (Cow::Owned(name.to_owned()), String::from_utf8_lossy(value).into_owned());
    let record = Record {
        key: "k".to_owned(),
        at: Timestamp::from_millis(1_767_268_800_000),
        headers: headers.into_iter().map(own).collect(),
        body: Bytes::copy_from_slice(body),
    };
    let Ok(change) = contract::decode(&record) else { return Ok(0) };
    let written = contract::encode(&change).map_err(|_| Broken::Encode)?;
    let again = contract::decode(&written).map_err(|_| Broken::RoundTrip)?;
    if again != change {
        return Err(Broken::RoundTrip.into());
    }
    let types = [Some(&change.object.kind), change.link.as_ref().map(|link| &link.to_type)];
    if types.into_iter().flatten().any(|name| *name != ObjectType::new(name.as_str())) {
        return Err(Broken::Type.into());
    }
    if contract::partition(&written.key, DEFAULT_PARTITIONS) >= DEFAULT_PARTITIONS {
        return Err(Broken::Partition.into());
    }
    Ok(1)
}

/// The text of a record.
pub fn write(record: &Record) -> Vec<u8> {
    let headers: String = record.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    [headers.as_bytes(), b"\n", &record.body].concat()
}
