//! How a command ends: its exit code, and the error that explains it on stderr. Scripts rely on the numbers.

use std::fmt;
use std::process::ExitCode;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok,
    /// It was tried and failed.
    Failed,
    /// The command line is wrong. The argument parser exits with this code too.
    Usage,
    /// The configuration is wrong.
    Configuration,
    /// Something that should answer does not.
    CannotReach,
    /// It was done, and has not arrived everywhere.
    #[cfg(feature = "kafka")]
    Partial,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::CannotReach => 4,
            #[cfg(feature = "kafka")]
            Self::Partial => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command stopped, for a person, and the code it stops with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    /// What happened and what to do; may have several lines.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with the code of `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A plain failure.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Failure {
    /// Output that cannot be written, usually because its reader went away.
    fn from(error: std::io::Error) -> Self {
        Self::failed(format!("the output cannot be written: {}", error.kind()))
    }
}
