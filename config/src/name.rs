//! Names of pools and volumes, and the names hosts present.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The name of a pool or a volume: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or a digit.
///
/// The alphabet is what may stand in an NQN, a metric label, a URL path and a file name without
/// quoting. Lower case only, so that two names never differ in case alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let starts_well = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        let fits = text.len() <= limits::NAME_BYTES_MAX;
        if starts_well && fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName {
                text: text.to_owned(),
                meant: meant_name(text),
            })
        }
    }
}

/// The same text with what is not allowed turned into what is.
fn meant_name(text: &str) -> Option<String> {
    let lower = text.trim().to_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(limits::NAME_BYTES_MAX)
        .collect();
    (!mapped.is_empty()).then_some(mapped)
}

/// Text that is not a pool or volume name. `meant` is a name near to it, when there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: use 1 to 64 of a-z 0-9 . _ - and start with a letter or a digit{}",
    .meant.as_ref().map(|name| format!(", for example \"{name}\"")).unwrap_or_default()
)]
pub struct InvalidName {
    /// The text as given.
    pub text: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

/// The name a host presents, as it is given in `allow_hosts`: an NVMe Qualified Name, sent in
/// Connect, or an iSCSI initiator's name, sent at login.
///
/// At most 223 bytes. `nqn.yyyy-mm.reverse.domain:anything`, `iqn.yyyy-mm.reverse.domain:anything`,
/// `eui.` with 16 and `naa.` with 16 or 32 hexadecimal digits. Compared byte for byte, so an iSCSI
/// name is written in lower case, as initiators send it.
/// Source: NVMe base 2.0 section 4.5; RFC 7143 section 4.2.7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the name of an iSCSI initiator.
    pub fn is_iscsi(&self) -> bool {
        !self.0.starts_with("nqn.")
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_nqn(text) || is_iscsi_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHostName(text.to_owned()))
        }
    }
}

fn is_nqn(text: &str) -> bool {
    text.strip_prefix("nqn.").is_some_and(is_dated_name) && text.len() <= limits::NQN_BYTES_MAX
}

fn is_iscsi_name(text: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(digits) = text.strip_prefix("eui.") {
        return digits.len() == 16 && is_hex(digits);
    }
    if let Some(digits) = text.strip_prefix("naa.") {
        return matches!(digits.len(), 16 | 32) && is_hex(digits);
    }
    let is_lower = !text.chars().any(char::is_uppercase);
    let rest = text.strip_prefix("iqn.");
    is_lower && text.len() <= limits::ISCSI_NAME_BYTES_MAX && rest.is_some_and(is_dated_name)
}

/// `yyyy-mm.reverse.domain`, and perhaps a colon and more.
fn is_dated_name(text: &str) -> bool {
    let Some((date, rest)) = text.split_once('.') else {
        return false;
    };
    let domain = rest.split(':').next().unwrap_or_default();
    is_year_and_month(date)
        && domain.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_year_and_month(date: &str) -> bool {
    let bytes = date.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() == 7
        && bytes[4] == b'-'
        && digits(0..4)
        && digits(5..7)
        && ("01"..="12").contains(&date.get(5..).unwrap_or_default())
}

/// Text that is not a host's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host's name; write it as the host's /etc/nvme/hostnqn or \
     /etc/iscsi/initiatorname.iscsi holds it, for example \"nqn.2014-08.org.nvmexpress:uuid:...\""
)]
pub struct InvalidHostName(pub String);

macro_rules! text_type {
    ($type:ty, $error:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

text_type!(Name, InvalidName);
text_type!(HostName, InvalidHostName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_to_the_alphabet() {
        let longest = "a".repeat(64);
        for good in ["a", "0", "demo", "db-1.data_2", longest.as_str()] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in [
            "",
            ".a",
            "-a",
            "_a",
            "Demo",
            "a b",
            "a/b",
            "a:b",
            "ä",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_comes_with_a_good_one() {
        let meant = |text: &str| text.parse::<Name>().unwrap_err().meant;
        assert_eq!(meant("My Volume").as_deref(), Some("my-volume"));
        assert_eq!(meant("_x").as_deref(), Some("x"));
        assert_eq!(meant("///"), None);
    }

    #[test]
    fn host_names_have_the_form_of_the_specification() {
        let longest = format!("nqn.2014-08.org.example:{}", "x".repeat(223 - 24));
        assert_eq!(longest.len(), 223);
        for good in [
            "nqn.2014-08.org.nvmexpress:uuid:1b4e28ba-2fa1-11d2-883f-0016d3cca427",
            "nqn.2026-11.io.bedplate:demo",
            "nqn.2026-11.com.example",
            longest.as_str(),
            "iqn.1993-08.org.debian:01:5f2e1a9c3b4d",
            "iqn.2026-11.com.example",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "demo",
            "nqn.",
            "nqn.2026-11",
            "nqn.2026-13.io.x:y",
            "nqn.2026-00.io.x:y",
            "nqn.26-11.io.x:y",
            "nqn.2026-1a.io.x:y",
            "nqn.2026-11.:y",
            "nqn.2026-11.io.x: y",
            "NQN.2026-11.io.x:y",
            "iqn.2026-11.io.x:Y",
            "iqn.2026-13.io.x:y",
            "iqn.io.x:y",
            "eui.02004567a425678",
            "naa.52004567ba64678g",
            format!("i{}x", &longest[1..]).as_str(),
            format!("{longest}x").as_str(),
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_refused(text in ".*") {
            match text.parse::<Name>() {
                Ok(name) => prop_assert_eq!(name.to_string(), text),
                Err(InvalidName { meant: Some(meant), .. }) => {
                    prop_assert!(meant.parse::<Name>().is_ok(), "{:?}", meant);
                }
                Err(_) => {}
            }
        }

        #[test]
        fn any_text_is_a_host_name_or_refused(text in "((n|i)qn\\.)?.*") {
            if let Ok(nqn) = text.parse::<HostName>() {
                prop_assert_eq!(nqn.to_string(), text);
            }
        }
    }
}
