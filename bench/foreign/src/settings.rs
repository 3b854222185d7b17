//! A configuration: variables as `NAME=value`, a line `---`, the file. Without that line all of it is the file.

use headgate::foreign::try_config;

use crate::Broken;

/// What stands in the variables that hold secrets, and nowhere else.
const SECRET: &str = "s3cr3t-that-nobody-sees";
/// The variables of the example.
const SECRETS: [&str; 3] = ["HUBSPOT_TOKEN", "SALESFORCE_TOKEN", "HUBSPOT_APP_SECRET"];

/// Reads the configuration; answers 1 for one that can be started with.
///
/// # Errors
/// A broken promise. A configuration that is refused is none.
pub fn run(input: &[u8]) -> Result<usize, Broken> {
    let text = String::from_utf8_lossy(input);
    let (variables, file) = text.split_once("\n---\n").unwrap_or(("", &text));
    let own = variables.lines().filter_map(|line| line.split_once('='));
    // The secrets cannot be set to something else, so that what is looked for is known.
    let env: Vec<(&str, &str)> = own.chain(SECRETS.map(|name| (name, SECRET))).collect();
    Ok(usize::from(try_config(file, &env, SECRET)?))
}
