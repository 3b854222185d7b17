//! Certificate authorities from files that an operator names. Knows nothing of who is trusted for what.

use std::path::Path;

use headgate_schemas::bounded;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Longest file: the bundle of a system is a fifth of it.
const FILE_BYTES: u64 = 1 << 20;

/// Adds the authorities of a PEM file to those that are believed. Blocks on the disk.
///
/// # Errors
/// Why the file is of no use; without its name.
pub(crate) fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut found = false;
    let pem = bounded::read(path, FILE_BYTES).map_err(|problem| format!("it {problem}"))?;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        found = true;
    }
    if found { Ok(()) } else { Err("it holds no certificate".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_or_a_certificate_is_of_no_use() {
        let problem = |path: &str| add_file(&mut RootCertStore::empty(), Path::new(path)).unwrap_err();
        assert_eq!(problem("/dev/zero"), "it is longer than 1048576 bytes");
        assert_eq!(problem("/nowhere"), "it cannot be read: entity not found");
        assert_eq!(problem("/dev/null"), "it holds no certificate");
    }
}
