//! CHAP: secrets, challenges and responses.
//!
//! Source: RFC 1994 section 4, RFC 7143 sections 9.2.1 (CHAP considerations) and 12.1.3 (keys); the
//! numbers of algorithms are IANA's "PPP Authentication Algorithms".

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};

/// Shortest secret that RFC 7143 section 9.2.1 allows outside of IPsec: 96 bits.
pub const SECRET_MIN_BYTES: usize = 12;
/// Longest challenge that is taken from an initiator, in bytes.
pub(super) const CHALLENGE_MAX_BYTES: usize = 1024;
/// Length of the challenges that are sent, in bytes.
pub(super) const CHALLENGE_BYTES: usize = 32;

/// A name with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapUser {
    /// Only for this initiator (InitiatorName, in lower case); none for all.
    pub initiator: Option<String>,
    /// CHAP_N.
    pub user: String,
    /// The secret.
    pub secret: Vec<u8>,
}

/// Who may log in, and how the target proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChapSecrets {
    /// Initiators.
    pub initiators: Vec<ChapUser>,
    /// The target's own name and secret, for initiators that want a proof (mutual CHAP).
    pub target: Option<ChapUser>,
}

impl fmt::Debug for ChapUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapUser")
            .field("initiator", &self.initiator)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl ChapSecrets {
    /// The entry of `user` at `initiator`. One that names the initiator goes before one for all.
    pub(super) fn find(&self, initiator: &str, user: &str) -> Option<&ChapUser> {
        let named = |entry: &&ChapUser| entry.user == user;
        let mut entries = self.initiators.iter().filter(named);
        let own = |entry: &&ChapUser| entry.initiator.as_deref() == Some(initiator);
        entries
            .clone()
            .find(own)
            .or_else(|| entries.find(|entry| entry.initiator.is_none()))
    }
}

/// How a response is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// 5: what every initiator can.
    Md5,
    /// 7.
    Sha256,
}

impl Algorithm {
    /// The best of a list that the initiator offers; none when there is none in common.
    pub fn choose(offered: &str) -> Option<Self> {
        let has = |number| {
            wire::iscsi::text::list(offered)
                .any(|one| wire::iscsi::text::number(one) == Some(number))
        };
        if has(7) {
            Some(Self::Sha256)
        } else {
            has(5).then_some(Self::Md5)
        }
    }

    /// CHAP_A.
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha256 => 7,
        }
    }

    /// What `secret` answers to a challenge.
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => hash::<Md5>(identifier, secret, challenge),
            Self::Sha256 => hash::<Sha256>(identifier, secret, challenge),
        }
    }
}

fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
    let sum = D::new()
        .chain_update([identifier])
        .chain_update(secret)
        .chain_update(challenge);
    sum.finalize().to_vec()
}

/// Compares without telling by its time where the first difference is.
pub(super) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, ChapSecrets, ChapUser, is_equal};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The test suites of RFC 1321 (MD5) and FIPS 180 (SHA-256) hash "abc" and
    /// "message digest"; identifier, secret and challenge are hashed as one string.
    #[test]
    fn responses_hash_identifier_secret_and_challenge() {
        let md5 = Algorithm::Md5.response(b'm', b"essage ", b"digest");
        assert_eq!(hex(&md5), "f96b697d7cb7938d525a2f31aaf161d0");
        let sha = Algorithm::Sha256.response(b'a', b"b", b"c");
        assert_eq!(
            hex(&sha),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn the_strongest_common_algorithm_is_chosen() {
        let table = [
            ("5", Some(Algorithm::Md5)),
            ("7", Some(Algorithm::Sha256)),
            ("5,7", Some(Algorithm::Sha256)),
            ("8,6,5", Some(Algorithm::Md5)),
            ("0x7", Some(Algorithm::Sha256)),
            ("6", None),
            ("", None),
            ("MD5", None),
        ];
        for (offered, expected) in table {
            assert_eq!(Algorithm::choose(offered), expected, "{offered:?}");
        }
        assert_eq!(Algorithm::Md5.number(), 5);
        assert_eq!(Algorithm::Sha256.number(), 7);
    }

    #[test]
    fn comparison_sees_every_difference() {
        assert!(is_equal(b"", b""));
        assert!(is_equal(b"abc", b"abc"));
        for other in [&b"abd"[..], b"bbc", b"ab", b"abcd", b""] {
            assert!(!is_equal(b"abc", other));
        }
    }

    #[test]
    fn an_entry_of_the_initiator_goes_first() {
        let user = |initiator: Option<&str>, user: &str, secret: &str| ChapUser {
            initiator: initiator.map(str::to_owned),
            user: user.to_owned(),
            secret: secret.into(),
        };
        let secrets = ChapSecrets {
            initiators: vec![
                user(None, "a", "for all"),
                user(Some("iqn.one"), "a", "for one"),
                user(Some("iqn.two"), "b", "for two"),
            ],
            target: None,
        };
        let find = |initiator, user| {
            let found = secrets.find(initiator, user)?;
            Some(String::from_utf8_lossy(&found.secret).into_owned())
        };
        assert_eq!(find("iqn.one", "a").as_deref(), Some("for one"));
        assert_eq!(find("iqn.two", "a").as_deref(), Some("for all"));
        assert_eq!(find("iqn.two", "b").as_deref(), Some("for two"));
        assert_eq!(find("iqn.one", "b"), None);
        assert_eq!(find("iqn.one", "A"), None);
    }

    #[test]
    fn secrets_do_not_print() {
        let user = ChapUser {
            initiator: None,
            user: "u".to_owned(),
            secret: b"hidden secret".to_vec(),
        };
        let printed = format!("{user:?}");
        assert!(
            !printed.contains("hidden") && !printed.contains("104"),
            "{printed}"
        );
    }
}
