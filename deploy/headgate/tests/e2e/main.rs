//! The whole program from outside: the built binary on a temporary folder, models of the CRMs in this process, events
//! signed and posted as HubSpot posts them. What is judged is what stands in the CRMs at the end and every write on the
//! way there; nothing here shares code with the gateway or the relay.
//!
//! The surprising thing: times never decide. A test waits for a state of the system with a generous deadline, and the
//! only sleeps are part of a scenario, like the length of an outage or the moment of a kill.

#![expect(clippy::unwrap_used, reason = "a test whose stage cannot be set has failed")]
#![expect(clippy::print_stderr, reason = "what was measured is told, not asserted; and the log of a failed run")]

mod api;
mod chronicle;
mod commands;
mod conflicts;
mod flow;
mod guards;
mod interloper;
mod kafka;
mod kafka_anew;
mod kafka_long;
mod kafka_secured;
mod kafka_shared;
mod kill;
mod outages;
#[cfg(feature = "failpoints")]
mod policies;
mod postgres;
mod proxy;
mod readers;
mod relays;
mod sealed;
mod sender;
mod server;
mod stage;
#[cfg(feature = "failpoints")]
mod steps;
mod subscriber;
mod subscriptions;
mod trouble;
mod witness;
mod world;
