//! Everyone else who reads the stream, through the front door: `GET /v1/changes` over the memory engine, with the clock
//! of the runtime in the test's hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod support;
