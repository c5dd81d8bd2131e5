//! The bearer token of the admin API, in a file that only its owner can read.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Random bytes of a token that we make: not to be guessed.
const RANDOM: usize = 32;
/// A token that somebody else made must not be easy to guess either.
const SHORTEST: usize = 32;
/// Longer than any token; it has to fit into a header.
const LONGEST: usize = 1024;

/// The secret that callers of the admin API must know.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file is not there.
    #[error("token file {}: not there; `mailferry serve` makes it when it starts", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read or made.
    #[error("token file {}: can't {action} it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `make`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner have access to the file.
    #[error("token file {}: others have access to it (mode {mode:04o}): chmod 600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What it holds is no token.
    #[error("token file {}: {reason}; remove it, and `mailferry serve` makes a new one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Token {
    /// Reads the token in `path`; makes the file, with mode 0600, if it is missing. For the server.
    ///
    /// # Errors
    /// [`TokenError`], which names the file.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        match Self::load(path) {
            Err(TokenError::Missing { .. }) => {}
            other => return other,
        }
        match create(path) {
            // Somebody else was faster: theirs is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(TokenError::Io { path: path.to_owned(), action: "make", source }),
            Ok(()) => tracing::info!(path = %path.display(), "made a token for the admin API"),
        }
        Self::load(path)
    }

    /// Reads the token in `path`.
    ///
    /// # Errors
    /// [`TokenError`], which names the file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => TokenError::Missing { path: path.to_owned() },
            _ => TokenError::Io { path: path.to_owned(), action: "read", source },
        };
        let wrong = |reason: String| TokenError::Content { path: path.to_owned(), reason };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        // Room for all of it from the start: a buffer that grows would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
        let limit = u64::try_from(LONGEST + 1).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).unwrap_or("\0").trim_end();
        if text.len() < SHORTEST || bytes.len() > LONGEST {
            return Err(wrong(format!("a token has {SHORTEST} to {LONGEST} characters")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("a token is one line of printable ASCII".to_owned()));
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Whether `presented` is this token. Takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        // Comparing hashes gives away neither length nor content; blake3's own comparison takes constant time.
        blake3::hash(self.0.expose_secret().as_bytes()) == blake3::hash(presented)
    }

    /// The value of an `Authorization` header. Mark it sensitive.
    pub(super) fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.expose_secret()))
    }
}

/// Makes the file with a new token, whole or not at all.
fn create(path: &Path) -> io::Result<()> {
    let random = Zeroizing::new(rand::random::<[u8; RANDOM]>());
    let mut text = Zeroizing::new(String::with_capacity(2 * RANDOM + 1));
    for byte in random.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    let mut draft = path.to_owned().into_os_string();
    draft.push(format!(".{:016x}", rand::random::<u64>()));
    let draft = PathBuf::from(draft);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Fails if the file has come into being meanwhile, unlike a rename.
        fs::hard_link(&draft, path)
    });
    let removed = fs::remove_file(&draft);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::Token;

    #[test]
    fn a_missing_file_is_made_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        assert!(Token::load(&path).unwrap_err().to_string().contains("mailferry serve"));
        let token = Token::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 64);
        assert!(token.matches(text.trim_end().as_bytes()));
        // The same one from now on, and nothing left beside it.
        assert!(Token::load_or_create(&path).unwrap().matches(text.trim_end().as_bytes()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Another file, another token.
        let other = folder.path().join("other.token");
        assert!(!Token::load_or_create(&other).unwrap().matches(text.trim_end().as_bytes()));
    }

    #[test]
    fn what_differs_is_not_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let token = Token::load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.trim_end();
        for wrong in ["", &text[1..], &text[..63], &text.to_uppercase().replace('0', "O"), &format!("{text}0")] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        Token::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o660, 0o620, 0o610] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Token::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 600"), "{error}");
            assert!(error.contains("admin.token"), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(Token::load_or_create(&path).is_ok());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        for content in
            ["", "short", &"x".repeat(2000), &format!("{}\n{}", "x".repeat(40), "y".repeat(40)), &"ü".repeat(40)]
        {
            let _ = fs::remove_file(&path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(Token::load_or_create(&path).unwrap_err().to_string().contains("a token"), "{content}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let error = Token::load_or_create(&folder.path().join("no/such/folder")).unwrap_err().to_string();
        assert!(error.contains("can't make it"), "{error}");
    }

    #[test]
    fn a_token_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let shown = format!("{:?}", Token::load_or_create(&path).unwrap());
        assert!(!shown.contains(fs::read_to_string(&path).unwrap().trim_end()), "{shown}");
    }
}
