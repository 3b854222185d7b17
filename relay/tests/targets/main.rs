//! The targets against the wire: literal requests, literal answers, and every way in which a call can fail. What the
//! published contracts demand of a request is checked by [`contract`], for each request made here.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

mod contract;
mod faults;
mod hubspot;
mod hubspot_writes;
mod salesforce;
mod salesforce_rows;
mod server;
mod simulated;
mod simulated_writes;
