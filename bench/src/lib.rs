//! Measuring without fooling oneself: stateful models of the CRMs, load as the providers send it, and a checker.
//!
//! The models ([`sim`]) stand in for the real services. Nothing here uses code of the gateway or the relay: a checker
//! that shares code with what it checks shares its mistakes.

pub mod sim;
