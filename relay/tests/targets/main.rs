//! The targets against the wire: literal requests, literal answers, and every way in which a call can fail. What the
//! published contracts demand of a request is checked by [`contract`], for each request made here.

mod contract;
mod faults;
mod hubspot;
mod salesforce;
mod server;
