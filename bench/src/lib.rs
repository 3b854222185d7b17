//! Measuring without fooling oneself: stateful models of the CRMs, load as the providers send it, and a checker.
//!
//! The models ([`sim`]) stand in for the real services. Nothing here uses code of the gateway or the relay: a checker
//! that shares code with what it checks shares its mistakes.
//!
//! | module | holds |
//! |---|---|
//! | [`sim`] | the models, and [`sim::simulate()`] to start any of them |
//! | [`load`] | users' changes by schedule, posted as HubSpot posts them |
//! | [`check`] | lost, duplicated, reordered, late |
//! | [`demo`] | load, target and checker put together |
//! | [`attack`] | the gateway measured while it is attacked |
//! | [`broker`], [`throughput`] | a Kafka broker of one's own, and the whole way through it |
//! | [`latency`], [`report`] | histogram and table |

pub mod attack;
pub mod broker;
pub mod check;
pub mod demo;
pub mod latency;
pub mod load;
pub mod report;
pub mod sim;
pub mod throughput;
