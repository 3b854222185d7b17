//! When to call a CRM again, and when not to call it at all. Policies without clock, randomness or network of their own.

pub mod backoff;
pub mod breaker;
