//! The gateway through its front door: real sockets, signed calls, a stream whose answers the test decides.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

mod accounts;
mod added;
mod checks;
mod drain;
mod fate;
mod golden;
mod harness;
mod hostile;
mod limits;
mod order;
mod overload;
mod providers;
mod rejected;
mod replay;
mod salesforce;
mod spool;
mod storm;
mod tls;
mod vectors;
