//! One suite for every stream engine, and what only the embedded engine promises.
//!
//! Everything goes through `Sink` and `Source`. No verdict depends on how fast anything is: time limits are there only
//! so that a fault shows as a failure and not as a hang.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers as well")]

#[cfg(feature = "kafka")]
#[path = "../../../bench/src/broker.rs"]
#[expect(unreachable_pub, reason = "the file is a module of a library, too")]
mod broker;
mod damage;
mod embedded;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
mod suite;
mod support;
