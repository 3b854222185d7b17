//! A key for runs that judge nothing that is sealed: one for all of them, in a folder that is gone at once.

use std::sync::{Arc, OnceLock};

use headgate_relay::vault::Vault;

/// The vault of every run.
pub fn vault() -> Arc<Vault> {
    static VAULT: OnceLock<Arc<Vault>> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().ok();
        let vault = folder.and_then(|folder| Vault::open_or_create(&folder.path().join("key")).ok());
        match vault {
            Some(vault) => Arc::new(vault),
            None => panic!("no key file can be made in the folder for temporary files"),
        }
    };
    Arc::clone(VAULT.get_or_init(make))
}
