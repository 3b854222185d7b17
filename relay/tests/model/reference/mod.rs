//! The reference model of convergence: a small world of CRMs, users and faults, and a relay that follows the rules.
//!
//! `world`, `network` and `crm` are the outside and know no rule; any relay can be played in them; `catalogue` lists
//! the scenarios. `fold`, `decide` and `settle` are the rules as pure functions over `state`; `relay` is the machine
//! that calls them through a `mind`; `step` tells an observer what it did, as `follower` and `invariants` do. `naive`
//! is the control, `judge` says how a run ended. Nothing is drawn outside the seed, so a seed reproduces a run.

pub mod catalogue;
pub mod crm;
pub mod decide;
pub mod fold;
pub mod follower;
pub mod invariants;
pub mod judge;
pub mod mind;
pub mod naive;
pub mod network;
pub mod order;
pub mod relay;
pub mod rules;
pub mod scenario;
pub mod settle;
pub mod state;
pub mod step;
pub mod value;
pub mod world;
