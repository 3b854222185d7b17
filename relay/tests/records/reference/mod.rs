//! The reference for records' lives: persons, their records, and the rules that join, delete and restore them.
//!
//! `state` holds what is known, `registry` is the rules (who a record belongs to, what a read means, what may go), and
//! `machine` the relay around them: it looks, sends, settles and looks back. Events are hints; a read decides. One
//! field and one key per record: the rules for fields have a model of their own.

pub mod machine;
pub mod registry;
pub mod state;
