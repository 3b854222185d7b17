//! Everyone else who reads the stream, through the front door: `GET /v1/changes` over the memory engine, and
//! subscriptions of a running relay with real endpoints on loopback, replays.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod endpoint;
mod exchanged;
mod guard;
#[path = "../support/postgres.rs"]
#[expect(dead_code, reason = "shared with the suite of the store, which asks the database more")]
mod postgres;
mod replay;
mod shared_state;
mod subscriptions;
mod support;
