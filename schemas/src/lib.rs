//! The contract of the change stream: what a change is, how it is encoded, where it is kept.
//!
//! Light enough to import: without features this crate does no IO. `stream` adds the traits [`stream::Sink`] and
//! [`stream::Source`] with the memory engine, `embedded` the log of SQLite segments.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | names of tenants, systems, connections, records; the deterministic [`id::ChangeId`] |
//! | [`time`] | instants in microseconds and half-open spans |
//! | [`value`] | field values, lossless for numbers |
//! | [`change`] | [`change::Change`]: one change of one record |
//! | [`contract`] | topic names, the partition key, CloudEvents headers, encode and decode |
//! | [`event`] | a change as one JSON document, for readers of `GET /v1/changes` and subscriptions |
//! | [`filter`] | which changes a reader wants |
//! | [`asyncapi`] | all of that described as an AsyncAPI document |
//! | `stream` | engines: memory for tests, embedded for one machine |
//! | `bounded` | files that a person named, read as far as allowed |
//! | `shutdown` | the value that tells tasks to stop and waits for them |

pub mod asyncapi;
#[cfg(feature = "stream")]
pub mod bounded;
pub mod change;
pub mod contract;
pub mod event;
pub mod failpoint;
pub mod filter;
pub mod id;
#[cfg(feature = "stream")]
pub mod shutdown;
#[cfg(feature = "stream")]
pub mod stream;
pub mod time;
pub mod value;

pub use change::{Change, ChangeKind};
pub use id::{ChangeId, ObjectType, RecordKey, System};
pub use time::{Resolution, Span, Timestamp};
pub use value::Value;
