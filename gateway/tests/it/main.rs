//! The gateway through its front door: real sockets, signed calls, a stream whose answers the test decides.

mod drain;
mod fate;
mod golden;
mod harness;
mod hostile;
mod order;
mod slow;
mod vectors;
