//! The reader of configuration files behind one function, for whatever looks for text that breaks it. It must not know
//! files of its own: relative paths lead nowhere.
//!
//! The surprising thing: a file is written by the operator and still foreign. It is the only text that is read before
//! anything of it is known, and what is said about it goes to a terminal and to logs.

use std::path::Path;

use crate::config::fault::{Finding, Origin};
use crate::config::{self, Env};

/// The folder that relative paths start from: there is none of this name.
const NOWHERE: &str = "/nonexistent/headgate";

/// What was promised of every configuration and did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It was refused and nobody is told why.
    #[error("a configuration is refused without a fault")]
    Silent,
    /// A finding does not say what to do, or where.
    #[error("a finding has no problem, no fix, or names line {0} of a text that has fewer")]
    Unhelpful(usize),
    /// The value of a secret stands in a finding or in the printed configuration.
    #[error("a secret is shown")]
    Shown,
    /// The same text read twice is said to be two things.
    #[error("the same configuration is read in two ways")]
    Unstable,
}

/// Reads `text` with `env` laid over it; answers whether it can be started with. `secret` is a value that may stand in
/// `env` only, and nowhere in what is said.
///
/// # Errors
/// [`Broken`] when a promise about what is said does not hold. A configuration that is refused is no error.
pub fn try_config(text: &str, env: &[(&str, &str)], secret: &str) -> Result<bool, Broken> {
    let env: Env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let first = read(text, &env);
    if first.good == first.faults.is_empty() {
        helpful(first.faults.iter().chain(&first.warnings), text)?;
        if !text.contains(secret) && first.said.contains(secret) {
            return Err(Broken::Shown);
        }
        let again = read(text, &env);
        let same = (first.good, &first.faults, &first.warnings) == (again.good, &again.faults, &again.warnings);
        return if same { Ok(first.good) } else { Err(Broken::Unstable) };
    }
    Err(Broken::Silent)
}

/// What came of a text.
struct Told {
    good: bool,
    faults: Vec<Finding>,
    warnings: Vec<Finding>,
    /// All that a terminal or a log could show of it.
    said: String,
}

fn read(text: &str, env: &Env) -> Told {
    match config::parse(text, Path::new(NOWHERE), env) {
        Ok(config) => {
            let said = format!("{config:?}{:?}", config.warnings);
            Told { good: true, faults: Vec::new(), warnings: config.warnings, said }
        }
        Err((faults, warnings)) => {
            let said = faults.iter().chain(&warnings).map(Finding::to_string).collect();
            Told { good: false, faults, warnings, said }
        }
    }
}

fn helpful<'f>(mut findings: impl Iterator<Item = &'f Finding>, text: &str) -> Result<(), Broken> {
    let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
    let unhelpful = findings.find_map(|finding| {
        let line = if let Origin::Line(line) = finding.at.origin { line } else { 1 };
        let whole = !finding.problem.is_empty() && !finding.fix.is_empty() && (1..=lines).contains(&line);
        (!whole).then_some(line)
    });
    unhelpful.map_or(Ok(()), |line| Err(Broken::Unhelpful(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/headgate.toml");
    const SECRET: &str = "s3cr3t-that-nobody-sees";

    fn env<'e>() -> [(&'e str, &'e str); 3] {
        ["HUBSPOT_TOKEN", "SALESFORCE_TOKEN", "HUBSPOT_APP_SECRET"].map(|name| (name, SECRET))
    }

    #[test]
    fn what_can_be_started_with_is_told_from_what_cannot() {
        assert_eq!(try_config(EXAMPLE, &env(), SECRET), Ok(true));
        assert_eq!(try_config(EXAMPLE, &[], SECRET), Ok(false));
        assert_eq!(try_config("[gateway", &env(), SECRET), Ok(false));
    }

    #[test]
    fn a_secret_in_the_wrong_variable_is_seen() {
        let mut env = env().to_vec();
        env.push(("HEADGATE__GATEWAY__LISTEN", SECRET));
        assert_eq!(try_config(EXAMPLE, &env, SECRET), Err(Broken::Shown));
    }
}
