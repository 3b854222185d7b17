//! A captured call as `headgate verify` takes it: one case of a file of vectors. And a whole such file.

use headgate_gateway::vectors;
use headgate_schemas::Timestamp;

use crate::Broken;

/// The clock of cases that name none.
const NOW: Timestamp = Timestamp::from_millis(1_767_268_800_000);

/// Explains the call, or counts the checks of the file.
///
/// # Errors
/// Never: what is promised is to come to an end.
pub fn run(input: &[u8]) -> Result<usize, Broken> {
    let text = String::from_utf8_lossy(input);
    let explained = vectors::explain(&text, NOW).is_ok_and(|explanation| !explanation.to_string().is_empty());
    Ok(usize::from(explained) + vectors::run_file(&text).passed)
}
