//! Tells people what is wrong with a configuration: every fault in a block of its own, on stderr, in the order of the
//! file.

use std::io::{IsTerminal as _, Write as _, stderr};

use crate::config::ConfigError;
use crate::config::fault::Finding;
use crate::exit::{Exit, Failure};
use crate::output::{self, Colour};

/// The failure of a refused configuration, with all its faults.
pub(crate) fn refused(error: &ConfigError) -> Failure {
    let on = output::colour(stderr().is_terminal());
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let written = output::findings(&mut text, on, "fault", Colour::Red, &error.faults)
        .and_then(|()| output::findings(&mut text, on, "warning", Colour::Yellow, &error.warnings))
        .and_then(|()| write!(text, "{}", output::paint(on, Colour::Bold, &error.to_string())));
    let message = match written {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => error.to_string(),
    };
    Failure::new(Exit::Configuration, message)
}

/// Puts warnings on stderr.
///
/// # Errors
/// When stderr is closed.
pub(crate) fn warn(findings: &[Finding]) -> std::io::Result<()> {
    let on = output::colour(stderr().is_terminal());
    output::findings(&mut stderr().lock(), on, "warning", Colour::Yellow, findings)
}
