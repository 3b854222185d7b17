//! `headgate-judge FILE…`: judges a run from its logs and prints the judgement; exit 0 when nothing was found.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut lines = String::new();
    for path in std::env::args().skip(1) {
        match std::fs::read_to_string(&path) {
            Ok(text) => lines.push_str(&text),
            Err(error) => return fail(&format!("{path}: {error}")),
        }
    }
    let report = match headgate_judge::judge(&lines) {
        Ok(report) => report,
        Err(error) => return fail(&error.to_string()),
    };
    match write!(stdout(), "{report}") {
        Ok(()) if report.is_clean() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn fail(why: &str) -> ExitCode {
    // With stderr gone the exit code says enough.
    writeln!(stderr(), "{why}").ok();
    ExitCode::from(2)
}
