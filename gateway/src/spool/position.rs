//! How far the spool's log was brought to the stream, kept beside it.
//!
//! It must not be relied upon: a lost or old position makes records stand in the stream twice, which readers expect.
//! So it is written without waiting for the disk, and whatever cannot be read counts as the beginning.

use std::io;
use std::path::{Path, PathBuf};

/// The file, and whose positions it holds.
#[derive(Debug)]
pub(super) struct DrainedTo {
    path: PathBuf,
    log: String,
}

impl DrainedTo {
    /// The position in `folder` of the log with the id `log`.
    pub(super) fn new(folder: &Path, log: String) -> Self {
        Self { path: folder.join("drained"), log }
    }

    /// The position, if it is one of this log.
    pub(super) fn read(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (log, offset) = text.trim_end().split_once(' ')?;
        if log == self.log { offset.parse().ok() } else { None }
    }

    /// Replaces the position. Blocks.
    pub(super) fn write(&self, offset: u64) -> io::Result<()> {
        let new = self.path.with_extension("new");
        std::fs::write(&new, format!("{} {offset}\n", self.log))?;
        std::fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_of_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let position = DrainedTo::new(folder.path(), "a".to_owned());
        assert_eq!(position.read(), None);
        position.write(7).unwrap();
        position.write(42).unwrap();
        assert_eq!(position.read(), Some(42));
        assert_eq!(DrainedTo::new(folder.path(), "b".to_owned()).read(), None);
        for damaged in ["", "a", "a ", "a x", "a -1"] {
            std::fs::write(folder.path().join("drained"), damaged).unwrap();
            assert_eq!(position.read(), None, "{damaged}");
        }
    }
}
