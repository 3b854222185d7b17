//! Writes a bundle as PEM files. Private keys are readable by their owner only from the first byte on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::make::Bundle;

/// Names of the files, in the order they are written.
pub const FILES: [&str; 6] = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"];

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// One is there already; nothing was written.
    #[error("{} exists already; nothing was written; give another folder, or --force to replace all files", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes all six files into `folder`, which is made with its parents. Without `force` an existing file stops it before
/// anything is written; with it each file is replaced in one step, so a reader never sees half of one.
///
/// # Errors
/// [`WriteError`].
pub fn write(bundle: &Bundle, folder: &Path, force: bool) -> Result<Vec<PathBuf>, WriteError> {
    let paths: Vec<_> = FILES.iter().map(|name| folder.join(name)).collect();
    if let Some(existing) = paths.iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        return Err(WriteError::Exists(existing.clone()));
    }
    fs::create_dir_all(folder).map_err(|source| WriteError::Io { path: folder.to_owned(), source })?;
    let pairs = [&bundle.authority, &bundle.server, &bundle.client];
    let contents = pairs.into_iter().flat_map(|pair| [(&pair.certificate, 0o644), (&pair.key, 0o600)]);
    for (path, (text, mode)) in paths.iter().zip(contents) {
        replace(path, text, mode).map_err(|source| WriteError::Io { path: path.clone(), source })?;
    }
    Ok(paths)
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("pem.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Made new with its mode: a key is at no time readable by others.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
