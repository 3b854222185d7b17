//! Certificates for development and tests: an authority of their own, one server and one client certificate.
//!
//! Not for production, where certificates come from an authority that others trust and keys from a place that is
//! backed up. Making and writing are two steps: [`make()`] is a function of its arguments (apart from the keys), and
//! [`write()`] never replaces a file unless it is told to, because the old key may be the only one a peer trusts.

mod files;
mod make;

pub use files::{FILES, WriteError, write};
pub use make::{Bundle, MakeError, Pair, Request, make};
