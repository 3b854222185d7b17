//! Secrets: named in the file, never written in it. `token_env` names an environment variable, `token_file` a file;
//! `token` itself is refused. No message of this module contains a value it read.

use std::path::Path;

use secrecy::SecretString;

use super::reader::Section;
use headgate_schemas::bounded;

/// Largest secret file that is read; a longer one is a wrong path, not a secret.
const FILE_BYTES: u64 = 64 << 10;

/// The three keys under which a secret is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    literal: &'static str,
    env: &'static str,
    file: &'static str,
}

/// A bearer token.
pub(crate) const TOKEN: Keys = Keys { literal: "token", env: "token_env", file: "token_file" };
/// What a provider signs with.
pub(crate) const SECRET: Keys = Keys { literal: "secret", env: "secret_env", file: "secret_file" };
/// The secret before or after a change of secrets.
pub(crate) const SECOND: Keys = Keys { literal: "second_secret", env: "second_secret_env", file: "second_secret_file" };
/// The password of basic authentication.
pub(crate) const PASSWORD: Keys = Keys { literal: "password", env: "password_env", file: "password_file" };

/// What a person's login gave, for fetching tokens.
pub(crate) const REFRESH: Keys =
    Keys { literal: "refresh_token", env: "refresh_token_env", file: "refresh_token_file" };
/// What signs assertions.
pub(crate) const PRIVATE_KEY: Keys = Keys { literal: "private_key", env: "private_key_env", file: "private_key_file" };
/// What a program shows when it fetches tokens for itself.
pub(crate) const CLIENT: Keys = Keys { literal: "client_secret", env: "client_secret_env", file: "client_secret_file" };

impl Keys {
    /// Whether any of the keys is present. Makes them known.
    pub(crate) fn present(self, section: &mut Section<'_>) -> bool {
        // All three are asked for, so that all three are known.
        [self.literal, self.env, self.file].map(|key| section.has(key)).contains(&true)
    }

    /// The key a fault about the value is reported under.
    pub(crate) fn written(self, section: &mut Section<'_>) -> &'static str {
        if section.has(self.file) { self.file } else { self.env }
    }
}

/// A secret that must be there.
pub(crate) fn required(section: &mut Section<'_>, keys: Keys) -> Option<SecretString> {
    if keys.present(section) {
        return optional(section, keys);
    }
    let fix = format!("name an environment variable in {}, or a file in {}", keys.env, keys.file);
    section.fault(keys.env, "it is missing", fix);
    None
}

/// A secret that may be absent. `None` also after a fault.
pub(crate) fn optional(section: &mut Section<'_>, keys: Keys) -> Option<SecretString> {
    keys.present(section);
    if section.has(keys.literal) {
        let fix = format!(
            "put it into an environment variable and name that in {}, or into a file named in {}",
            keys.env, keys.file
        );
        section.fault(keys.literal, "a secret must not stand in the configuration", fix);
        return None;
    }
    match (section.has(keys.env), section.has(keys.file)) {
        (true, true) => {
            section.fault(keys.file, format!("{} is set as well", keys.env), "keep one of the two");
            None
        }
        (true, false) => from_env(section, keys),
        (false, true) => from_file(section, keys),
        (false, false) => None,
    }
}

fn from_env(section: &mut Section<'_>, keys: Keys) -> Option<SecretString> {
    let name = section.required(keys.env, "name an environment variable")?;
    match section.reader.env.get(&name) {
        Some(value) if !value.is_empty() => Some(SecretString::from(value.as_str())),
        found => {
            let state = if found.is_some() { "empty" } else { "not set" };
            section.fault(
                keys.env,
                format!("the environment variable {name} is {state}"),
                format!("set {name} before the start"),
            );
            None
        }
    }
}

fn from_file(section: &mut Section<'_>, keys: Keys) -> Option<SecretString> {
    let path = section.path(keys.file)?;
    match read(&path) {
        Ok(secret) => Some(secret),
        Err(problem) => {
            let shown = path.display();
            section.fault(
                keys.file,
                format!("the file {shown} {problem}"),
                "name a readable file that holds the secret alone",
            );
            None
        }
    }
}

/// Reads a secret file, without the line end that editors add.
fn read(path: &Path) -> Result<SecretString, String> {
    let text = bounded::read(path, FILE_BYTES)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        secret => Ok(SecretString::from(secret)),
    }
}
