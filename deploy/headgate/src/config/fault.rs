//! What is wrong with a configuration: where, what, and what to do about it. Knows nothing of any key. A fault may
//! quote a name or a choice from the file; it never quotes a secret, and reading a secret is what makes sure of that.

use std::fmt;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Env(String),
    /// Nowhere: it is missing.
    Absent,
}

/// A setting by its path (`connection[hubspot-main].base_url`) and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The path of keys; empty for the file as a whole.
    pub(crate) path: String,
    /// Where it stands.
    pub(crate) origin: Origin,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Line(line) => write!(f, "line {line}")?,
            Origin::Env(name) => f.write_str(name)?,
            Origin::Absent => return f.write_str(&self.path),
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

/// One thing to mend or to know: a fault stops the program, a warning does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The setting.
    pub(crate) at: At,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do.
    pub(crate) fix: String,
}

impl Finding {
    /// A finding from its three parts.
    pub(crate) fn new(at: At, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { at, problem: problem.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  problem: {}\n  fix:     {}", self.at, self.problem, self.fix)
    }
}

/// Sorts findings as a reader walks through the file: by line, then what came from the environment, then what is missing.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| a.at.origin.cmp(&b.at.origin));
}
