//! A call of a provider: its URL, its headers, an empty line, its raw body.

use headgate_gateway::config::ProviderName;
use headgate_gateway::foreign::try_call;

use crate::Broken;
use crate::text::{headers, split};

/// Verifies and reads the call; answers the changes in it.
///
/// # Errors
/// A broken promise. A call that is refused is none.
pub fn run(provider: ProviderName, input: &[u8]) -> Result<usize, Broken> {
    let (head, body) = split(input);
    let (url, headers) = headers(head);
    Ok(try_call(provider, url.unwrap_or("https://hooks.example.com/in"), &headers, body)?)
}

/// The text of a call.
pub fn write<'h>(url: &str, headers: impl IntoIterator<Item = (&'h str, &'h str)>, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{url}\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\n"]);
    }
    [text.as_bytes(), b"\n", body].concat()
}
