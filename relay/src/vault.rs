//! Sealing of what must not lie open at rest: tokens, secrets, rejected messages. AES-256-GCM with a key from a file.
//!
//! It knows nothing of what it seals. A sealed value is bound to a *context* (which row, which column): moved elsewhere
//! it does not open. The key file holds one key per line; the first seals, every one opens, so a new key is put on top
//! and the old one is taken out when nothing sealed with it is left.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::zeroize::Zeroizing;

/// First byte of a sealed value.
const VERSION: u8 = 1;
/// Version byte and key id.
const HEADER_LEN: usize = 5;
/// Length of a key.
const KEY_LEN: usize = 32;
/// Mark at the start of each line of the key file.
const LINE_MARK: &str = "headgate-key-1";
/// A longer key file is none.
const FILE_LIMIT: u64 = 4_096;

/// Why something could not be sealed, opened, or the keys not be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file or its folder cannot be used.
    #[error("key file {path}: {source}; check that the folder exists and belongs to this user")]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may read the keys.
    #[error("key file {path} has mode {mode:04o}, so other users can read it; run: chmod 600 {path}")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key file.
    #[error("key file {path}, line {line}: not `{LINE_MARK} ID KEY`; restore it from a backup, sealed data needs it")]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// The system gave no random bytes, or the cipher refused to work.
    #[error("the cryptographic library failed; the system may lack a source of random numbers")]
    Crypto,
    /// Sealed with a key that is not in the file.
    #[error("sealed with key {0:08x}, which is not in the key file; put that key back as a further line")]
    UnknownKey(u32),
    /// Not something this vault made for this context.
    #[error(
        "the sealed value was altered, cut short, or belongs elsewhere; restore it from a backup or enter it again"
    )]
    Altered,
}

/// The keys.
pub struct Vault {
    /// Never empty; the first seals.
    keys: Vec<Key>,
}

struct Key {
    id: u32,
    cipher: RandomizedNonceKey,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|k| format_args!("{:08x}", k.id).to_string())).finish()
    }
}

impl Vault {
    /// The vault of a key file; makes the file (mode 0600) and its folders where there is none. Blocks on the disk: for
    /// start-up only.
    ///
    /// # Errors
    /// [`VaultError::File`], [`VaultError::Exposed`], [`VaultError::Malformed`], [`VaultError::Crypto`].
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        let at = |source| VaultError::File { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::load(file, path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                // Read back, so that of two processes starting at once both use the file that won.
                Self::load(File::open(path).map_err(at)?, path)
            }
            Err(e) => Err(at(e)),
        }
    }

    /// Seals `plain` for `context`: version, key id, nonce, ciphertext with tag.
    ///
    /// # Errors
    /// [`VaultError::Crypto`].
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = self.keys.first().ok_or(VaultError::Crypto)?;
        let header = header(key.id);
        let mut text = plain.to_vec();
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(bound(header, context)), &mut text)
            .map_err(|_| VaultError::Crypto)?;
        Ok([&header[..], nonce.as_ref(), &text].concat())
    }

    /// Opens what [`Vault::seal`] made for the same context.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`], [`VaultError::Altered`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (head, rest) = sealed.split_first_chunk::<HEADER_LEN>().ok_or(VaultError::Altered)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Altered)?;
        let [VERSION, id @ ..] = *head else { return Err(VaultError::Altered) };
        let id = u32::from_be_bytes(id);
        let key = self.keys.iter().find(|k| k.id == id).ok_or(VaultError::UnknownKey(id))?;
        let mut text = text.to_vec();
        let plain = key
            .cipher
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound(*head, context)), &mut text)
            .map_err(|_| VaultError::Altered)?
            .len();
        text.truncate(plain);
        Ok(text)
    }

    fn load(mut file: File, path: &Path) -> Result<Self, VaultError> {
        let at = |source| VaultError::File { path: path.to_owned(), source };
        // The open file is asked, not the path, so nobody can put another one in between.
        let mode = file.metadata().map_err(at)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(VaultError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        (&mut file).take(FILE_LIMIT).read_to_string(&mut text).map_err(at)?;
        let keys = text
            .lines()
            .enumerate()
            .map(|(i, line)| parse(line).ok_or_else(|| VaultError::Malformed { path: path.to_owned(), line: i + 1 }))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(VaultError::Malformed { path: path.to_owned(), line: 1 });
        }
        Ok(Self { keys })
    }
}

fn header(id: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = id.to_be_bytes();
    [VERSION, a, b, c, d]
}

/// What the ciphertext is bound to: its own header and the caller's context.
fn bound(header: [u8; HEADER_LEN], context: &[u8]) -> Vec<u8> {
    [&header[..], context].concat()
}

fn parse(line: &str) -> Option<Key> {
    let mut words = line.split_ascii_whitespace();
    let (LINE_MARK, id, key, None) = (words.next()?, words.next()?, words.next()?, words.next()) else { return None };
    let id = (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok()).flatten()?;
    let key = Zeroizing::new(BASE64.decode(key).ok().filter(|k| k.len() == KEY_LEN)?);
    Some(Key { id, cipher: RandomizedNonceKey::new(&AES_256_GCM, &key).ok()? })
}

/// Writes a new key file beside its place and links it there, so the place holds a whole file or none, and a file that
/// is already there is never replaced.
fn create(path: &Path) -> Result<(), VaultError> {
    let at = |source| VaultError::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
    let mut random = Zeroizing::new([0_u8; KEY_LEN + 8]);
    aws_lc_rs::rand::fill(&mut random[..]).map_err(|_| VaultError::Crypto)?;
    let (key, ids) = random.split_at(KEY_LEN);
    let (id, unique) = ids.split_at(4);
    let name = format!(".{}.{}", path.file_name().unwrap_or_default().to_string_lossy(), hex(unique));
    let draft = folder.join(name);
    let line = Zeroizing::new(format!("{LINE_MARK} {} {}\n", hex(id), *Zeroizing::new(BASE64.encode(key))));
    let placed = write_new(&draft, line.as_bytes()).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => File::open(folder)?.sync_all(),
    });
    let removed = std::fs::remove_file(&draft);
    placed.and(removed).map_err(at)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/headgate.key");
        (folder, path)
    }

    #[test]
    fn a_key_file_is_made_once_private_and_alone() {
        let (_folder, path) = place();
        let sealed = Vault::open_or_create(&path).unwrap().seal(b"row 1", b"token").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        let again = Vault::open_or_create(&path).unwrap();
        assert_eq!(again.open(b"row 1", &sealed).unwrap(), b"token");
    }

    #[test]
    fn a_second_creator_keeps_the_first_ones_file() {
        let (_folder, path) = place();
        create(&path).unwrap();
        let first = fs::read(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_file_others_can_read_is_refused_with_the_remedy() {
        let (_folder, path) = place();
        Vault::open_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let message = Vault::open_or_create(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
            assert!(message.ends_with(&format!("run: chmod 600 {}", path.display())), "{message}");
        }
    }

    #[test]
    fn what_is_not_a_key_file_is_refused_by_line() {
        let (_folder, path) = place();
        Vault::open_or_create(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let wrong = [
            (String::new(), 1),
            ("hello\n".to_owned(), 1),
            (format!("{good}\n"), 2),
            (format!("{good}{LINE_MARK} 00000001 c2hvcnQ=\n"), 2),
            (good.replace(LINE_MARK, "headgate-key-2"), 1),
        ];
        for (text, expected) in wrong {
            fs::write(&path, &text).unwrap();
            let Err(VaultError::Malformed { line, .. }) = Vault::open_or_create(&path) else { panic!("{text}") };
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn a_sealed_value_opens_whole_and_in_its_place_only() {
        let (_folder, path) = place();
        let vault = Vault::open_or_create(&path).unwrap();
        let sealed = vault.seal(b"acme/hubspot/token", b"s3cr3t").unwrap();
        assert_eq!(sealed.len(), 1 + 4 + 12 + 6 + 16);
        assert_ne!(sealed, vault.seal(b"acme/hubspot/token", b"s3cr3t").unwrap(), "a nonce is never used twice");
        assert!(matches!(vault.open(b"other/hubspot/token", &sealed), Err(VaultError::Altered)));
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert!(vault.open(b"acme/hubspot/token", &altered).is_err(), "byte {i}");
            assert!(vault.open(b"acme/hubspot/token", &sealed[..i]).is_err(), "cut at {i}");
        }
        assert_eq!(vault.open(b"", &vault.seal(b"", b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn a_new_key_on_top_seals_and_the_old_one_still_opens() {
        let (_folder, path) = place();
        let old = Vault::open_or_create(&path).unwrap();
        let sealed = old.seal(b"c", b"old").unwrap();
        let line = format!("{LINE_MARK} 00c0ffee {}\n", BASE64.encode([7; 32]));
        fs::write(&path, line.clone() + &fs::read_to_string(&path).unwrap()).unwrap();
        let both = Vault::open_or_create(&path).unwrap();
        assert_eq!(both.open(b"c", &sealed).unwrap(), b"old");
        let fresh = both.seal(b"c", b"new").unwrap();
        assert_eq!(fresh[..5], [1, 0x00, 0xc0, 0xff, 0xee]);
        assert!(matches!(old.open(b"c", &fresh), Err(VaultError::UnknownKey(0x00c0_ffee))));
        assert!(!format!("{both:?}").contains(&BASE64.encode([7; 32])));
        fs::write(&path, line).unwrap();
        assert!(matches!(Vault::open_or_create(&path).unwrap().open(b"c", &sealed), Err(VaultError::UnknownKey(_))));
    }
}
