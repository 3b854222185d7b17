//! The places at which a test can end the gateway, in the order of a request's steps.

use headgate_schemas::failpoint::Failpoint;

/// The body was read.
pub(crate) const RECEIVED: Failpoint = Failpoint::new("gateway.received");
/// The signature is right.
pub(crate) const VERIFIED: Failpoint = Failpoint::new("gateway.verified");
/// The changes were read from the body.
pub(crate) const PARSED: Failpoint = Failpoint::new("gateway.parsed");
/// Their keys are reserved.
pub(crate) const RESERVED: Failpoint = Failpoint::new("gateway.reserved");
/// The sequencer let changes go.
pub(crate) const RELEASED: Failpoint = Failpoint::new("gateway.released");
/// The stream was given them and has not answered.
pub(crate) const APPENDED: Failpoint = Failpoint::new("gateway.appended");
/// The stream has them; their keys are only reserved.
pub(crate) const ACKNOWLEDGED: Failpoint = Failpoint::new("gateway.acknowledged");
/// Their keys are kept.
pub(crate) const REMEMBERED: Failpoint = Failpoint::new("gateway.remembered");
/// The reply is made and not sent.
pub(crate) const ACCEPTED: Failpoint = Failpoint::new("gateway.accepted");

/// All of them.
pub const STEPS: [Failpoint; 9] =
    [RECEIVED, VERIFIED, PARSED, RESERVED, RELEASED, APPENDED, ACKNOWLEDGED, REMEMBERED, ACCEPTED];
