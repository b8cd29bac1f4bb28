//! The file of CHAP secrets: `[[initiator]]` tables, and `[target]` for the other direction.
//!
//! A file of its own, so that the configuration may be shown to anybody. No error ever holds a
//! secret or a line of the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;

use crate::limits;

/// Who may log in by CHAP, and how the target shows who it is. Source: RFC 7143 section 12.1.3.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChapSecrets {
    /// Initiators, at least one.
    #[serde(default, rename = "initiator")]
    pub initiators: Vec<ChapUser>,
    /// What the target answers with when an initiator asks it to authenticate, too.
    pub target: Option<ChapUser>,
}

/// A user and its secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChapUser {
    /// The only initiator that may log in as this user; none: any. Not for `[target]`.
    pub name: Option<String>,
    /// CHAP_N.
    pub user: String,
    /// What both sides know: 12 to 255 bytes.
    pub secret: String,
}

impl fmt::Debug for ChapSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapSecrets")
            .field("initiators", &self.initiators)
            .field("target", &self.target)
            .finish()
    }
}

/// Without the secret, so that no log ever holds one.
impl fmt::Debug for ChapUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapUser")
            .field("name", &self.name)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why there are no secrets. The server does not start without them.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file could not be read.
    #[error("{file}: cannot be read: {source}; check the path and who may read it")]
    Read {
        /// The path as given.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error(
        "{file}: its mode is {mode:04o}: others than its owner can read or change it; \
         run `chmod 600` on it, and change the secrets if others had access"
    )]
    Exposed {
        /// The path as given.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody who is neither root nor the user the server runs as.
    #[error("{file}: belongs to user {owner}; give it to the user the server runs as, or to root")]
    Foreign {
        /// The path as given.
        file: String,
        /// Number of that user.
        owner: u32,
    },
    /// What stands in it is wrong.
    #[error("{file}:{line}: {problem}")]
    Refused {
        /// The path as given.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl ChapSecrets {
    /// Reads and checks a file of secrets.
    ///
    /// Errors: see [`SecretsError`]. Blocking; for start-up only.
    pub fn load(path: &Path) -> Result<Self, SecretsError> {
        let file = path.display().to_string();
        let read = |source| SecretsError::Read {
            file: file.clone(),
            source,
        };
        let opened = File::open(path).map_err(read)?;
        let metadata = opened.metadata().map_err(read)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::Exposed { file, mode });
        }
        let own = std::fs::metadata("/proc/self").map_err(read)?.uid();
        if metadata.uid() != 0 && metadata.uid() != own {
            let owner = metadata.uid();
            return Err(SecretsError::Foreign { file, owner });
        }
        let mut text = String::new();
        let limit = limits::SECRETS_BYTES_MAX;
        opened
            .take(limit + 1)
            .read_to_string(&mut text)
            .map_err(read)?;
        if text.len() as u64 > limit {
            let source = io::Error::other(format!("larger than {limit} bytes"));
            return Err(read(source));
        }
        Self::parse(&text, &file)
    }

    /// Checks secrets given as text; `file` is only used in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, SecretsError> {
        let refuse = |line: usize, problem: String| SecretsError::Refused {
            file: file.to_owned(),
            line,
            problem,
        };
        let parsed: Result<Self, toml::de::Error> = toml::from_str(text);
        let secrets = parsed.map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            refuse(line, said_without_values(&error))
        })?;
        secrets.check().map_err(|problem| refuse(1, problem))?;
        Ok(secrets)
    }

    fn check(&self) -> Result<(), String> {
        if self.initiators.is_empty() {
            return Err("nobody could log in; write [[initiator]] with user and secret".to_owned());
        }
        if self.initiators.len() > limits::SECRETS_MAX {
            return Err(format!("more than {} initiators", limits::SECRETS_MAX));
        }
        for user in self.initiators.iter().chain(&self.target) {
            user.check()?;
        }
        for (index, user) in self.initiators.iter().enumerate() {
            let same = |other: &&ChapUser| other.user == user.user && other.name == user.name;
            if self.initiators[..index].iter().any(|other| same(&other)) {
                return Err(format!("user {:?} stands twice; keep one", user.user));
            }
        }
        let Some(target) = &self.target else {
            return Ok(());
        };
        if target.name.is_some() {
            return Err("[target] has no name; remove it".to_owned());
        }
        // Else an initiator could send the target's own challenge back to it.
        match self
            .initiators
            .iter()
            .find(|user| user.secret == target.secret)
        {
            Some(user) => Err(format!(
                "[target] and user {:?} have the same secret; give each its own",
                user.user
            )),
            None => Ok(()),
        }
    }
}

impl ChapUser {
    fn check(&self) -> Result<(), String> {
        let (least, most) = (limits::SECRET_BYTES_MIN, limits::SECRET_BYTES_MAX);
        let is_plain = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if self.user.is_empty() || self.user.len() > most || !is_plain(&self.user) {
            return Err(format!("a user is 1 to {most} printable ASCII characters"));
        }
        if !(least..=most).contains(&self.secret.len()) || !is_plain(&self.secret) {
            return Err(format!(
                "the secret of user {:?} is not {least} to {most} printable ASCII characters",
                self.user
            ));
        }
        match &self.name {
            Some(name)
                if !name
                    .parse::<crate::HostName>()
                    .is_ok_and(|name| name.is_iscsi()) =>
            {
                Err(format!("{name:?} is not the name of an iSCSI initiator"))
            }
            _ => Ok(()),
        }
    }
}

/// The parser's message up to the value it quotes, which may be a secret.
fn said_without_values(error: &toml::de::Error) -> String {
    let message = error.message();
    let kept = ["unknown field", "missing field", "duplicate key"];
    match kept.iter().any(|start| message.starts_with(start)) {
        true => message.to_owned(),
        false => "this is not TOML with [[initiator]] user, secret, name and [target] user, secret"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const GOOD: &str = "[[initiator]]\nuser = 'web'\nsecret = 'correct horse'\n";

    fn refused(text: &str) -> String {
        ChapSecrets::parse(text, "s.toml")
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn users_and_the_target_are_read() {
        let text = format!(
            "{GOOD}name = 'iqn.2026-11.com.example:web'\n[target]\nuser='t'\nsecret='battery staple'"
        );
        let secrets = ChapSecrets::parse(&text, "s.toml").expect("it is good");
        assert_eq!(secrets.initiators[0].user, "web");
        assert_eq!(
            secrets.target.expect("it is there").secret,
            "battery staple"
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_a_secret() {
        let table = [
            ("", "s.toml:1: nobody could log in"),
            ("[[initiator]]\nuser = 'web'\n", "missing field `secret`"),
            (
                "\n\n[[initator]]\nuser = 'web'\n",
                "s.toml:3: unknown field `initator`",
            ),
            ("[[initiator]]\nuser = 'web'\nsecret = 'short'", "12 to 255"),
            (
                "[[initiator]]\nuser = ''\nsecret = 'correct horse'",
                "a user is",
            ),
            (
                "[[initiator]]\nuser = 'web'\nsecret = correct horse\n",
                "s.toml:3: this is not",
            ),
            (
                "[[initiator]]\nuser = 'web'\nsecret = 123456789012\n",
                "this is not TOML with",
            ),
        ];
        for (text, says) in table {
            let message = refused(text);
            assert!(message.contains(says), "{text:?}: {message}");
            assert!(
                !message.contains("horse") && !message.contains("1234"),
                "{message}"
            );
        }
        assert!(refused(&format!("{GOOD}{GOOD}")).contains("stands twice"));
        assert!(refused(&format!("{GOOD}name = 'nqn.2026-11.x:y'")).contains("not the name"));
        let same = format!("{GOOD}[target]\nuser = 't'\nsecret = 'correct horse'");
        assert!(refused(&same).contains("have the same secret"));
        let secrets = ChapSecrets::parse(GOOD, "s.toml").expect("it is good");
        assert!(!format!("{secrets:?}").contains("horse"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("secrets-{}", std::process::id()));
        std::fs::write(&path, GOOD).expect("a temporary file");
        let with_mode = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("it is ours");
            ChapSecrets::load(&path)
        };
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let error = with_mode(mode).expect_err("it is exposed").to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"));
        }
        assert!(with_mode(0o600).is_ok() && with_mode(0o400).is_ok());
        std::fs::remove_file(&path).expect("it is ours");
        let missing = ChapSecrets::load(&path).expect_err("it is gone");
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
    }
}
