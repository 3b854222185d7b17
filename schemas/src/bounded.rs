//! Files that a person named: configurations, secrets, certificates, captured calls. It must not know what stands in them.
//!
//! The surprising thing: the length that the system tells is not asked for. A device has none and never ends, and a file
//! may grow while it is read.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Reads a file of at most `most` bytes of text. The error completes a sentence about the file and holds nothing of it.
///
/// # Errors
/// That it cannot be read, is longer, or is no text.
pub fn read(path: &Path, most: u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {}", error.kind());
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!("is longer than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(std::io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_read_as_far_as_allowed() {
        assert_eq!(read(Path::new("/dev/zero"), 1_000), Err("is longer than 1000 bytes".to_owned()));
        assert_eq!(read(Path::new("/dev/null"), 0), Ok(String::new()));
        let kind = |path: &str| read(Path::new(path), 1_000).unwrap_err();
        assert_eq!(kind("/nowhere"), "cannot be read: entity not found");
        assert_eq!(kind("/"), "cannot be read: is a directory");
    }
}
