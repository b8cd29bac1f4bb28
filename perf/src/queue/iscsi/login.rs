//! What is asked for in a login, and what comes of it.
//!
//! Source: RFC 7143 sections 6.2 (negotiation) and 13 (keys).

use wire::iscsi::DEFAULT_MAX_DATA_BYTES;
use wire::iscsi::text::{Full, Pair, TextWriter, is_yes, list, number};

use crate::error::PerfError;

/// Most data in one PDU that this side takes, in bytes.
pub const RECEIVE_MAX_BYTES: u32 = 256 << 10;
/// What the lengths that a target may declare are rounded down to, so that no data needs padding.
const STEP_BYTES: u32 = 512;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// This initiator's name.
    pub initiator: String,
    /// Differs between programs that use the same name at once.
    pub isid: u32,
    /// HeaderDigest=CRC32C.
    pub header_digest: bool,
    /// DataDigest=CRC32C.
    pub data_digest: bool,
    /// InitialR2T=Yes: nothing beyond immediate data goes unasked.
    pub initial_r2t: bool,
    /// ImmediateData=Yes.
    pub immediate_data: bool,
    /// FirstBurstLength in bytes.
    pub first_burst_bytes: u32,
    /// MaxBurstLength in bytes.
    pub max_burst_bytes: u32,
    /// MaxOutstandingR2T.
    pub max_r2t: u32,
}

/// What came of it: the defaults of the standard until the target says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Digests: header, data.
    pub digests: [bool; 2],
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// FirstBurstLength in bytes.
    pub first_burst_bytes: u32,
    /// MaxBurstLength in bytes.
    pub max_burst_bytes: u32,
    /// Most data in one PDU that the target takes, in bytes.
    pub max_send_bytes: u32,
}

impl Default for Settled {
    fn default() -> Self {
        Self {
            digests: [false; 2],
            initial_r2t: true,
            immediate_data: true,
            first_burst_bytes: 64 << 10,
            max_burst_bytes: 256 << 10,
            max_send_bytes: DEFAULT_MAX_DATA_BYTES,
        }
    }
}

impl Settled {
    /// Bytes of a write of `io_bytes` that go with the command, and that go unasked in all.
    pub fn unasked(&self, io_bytes: u32) -> (u32, u32) {
        let first = self.first_burst_bytes.min(io_bytes);
        let immediate = if self.immediate_data {
            first.min(self.max_send_bytes)
        } else {
            0
        };
        let all = if self.initial_r2t { immediate } else { first };
        (immediate, all)
    }

    /// Takes one answer.
    ///
    /// Errors: `Negotiation`.
    pub fn take(&mut self, pair: Pair<'_>, wishes: &Wishes) -> Result<(), PerfError> {
        let refuse = |problem| Err(negotiation(pair, problem));
        match pair.value {
            "NotUnderstood" | "Irrelevant" => return Ok(()),
            "Reject" => return refuse("leave out the option that asks for it"),
            _ => {}
        }
        let yes = || is_yes(pair.value).ok_or_else(|| negotiation(pair, "must be Yes or No"));
        let bytes = |least: u64, most: u64| -> Result<u32, PerfError> {
            let value = number(pair.value).filter(|bytes| (least..=most).contains(bytes));
            let value = value.ok_or_else(|| negotiation(pair, "is not what it can be"))?;
            Ok(value as u32 / STEP_BYTES * STEP_BYTES)
        };
        let most = (1 << 24) - 1;
        match pair.key {
            "HeaderDigest" => self.digests[0] = digest(pair, wishes.header_digest)?,
            "DataDigest" => self.digests[1] = digest(pair, wishes.data_digest)?,
            "InitialR2T" => self.initial_r2t = yes()? || wishes.initial_r2t,
            "ImmediateData" => self.immediate_data = yes()? && wishes.immediate_data,
            "FirstBurstLength" => {
                self.first_burst_bytes = bytes(512, wishes.first_burst_bytes.into())?;
            }
            "MaxBurstLength" => self.max_burst_bytes = bytes(512, wishes.max_burst_bytes.into())?,
            "MaxRecvDataSegmentLength" => self.max_send_bytes = bytes(512, most)?,
            "DataPDUInOrder" | "DataSequenceInOrder" if !yes()? => {
                return refuse("this program takes data in order only");
            }
            _ => {}
        }
        Ok(())
    }

    /// The digests must be those that were asked for.
    ///
    /// Errors: `Negotiation`.
    pub fn check(&self, wishes: &Wishes) -> Result<(), PerfError> {
        if self.digests == [wishes.header_digest, wishes.data_digest] {
            return Ok(());
        }
        let pair = Pair {
            key: "HeaderDigest, DataDigest",
            value: "None",
        };
        Err(negotiation(pair, "the target did not answer for a digest"))
    }
}

fn digest(pair: Pair<'_>, wished: bool) -> Result<bool, PerfError> {
    match pair.value {
        "CRC32C" if wished => Ok(true),
        "None" if !wished => Ok(false),
        _ => Err(negotiation(
            pair,
            "not what was asked for: add or leave out the option of this digest",
        )),
    }
}

fn negotiation(pair: Pair<'_>, problem: &'static str) -> PerfError {
    PerfError::Negotiation {
        key: pair.key.to_owned(),
        value: pair.value.to_owned(),
        problem,
    }
}

/// The answer to AuthMethod: none is what this program has.
///
/// Errors: `Negotiation`.
pub fn check_method(pair: Pair<'_>) -> Result<(), PerfError> {
    if pair.key != "AuthMethod" || list(pair.value).all(|method| method == "None") {
        return Ok(());
    }
    let problem = "the target wants to know who this is, and this program has no secret: let \
                   the name of --initiator in without one";
    Err(negotiation(pair, problem))
}

/// The first text: who, and to what. Without a target it is discovery.
pub fn names(text: &mut TextWriter<'_>, initiator: &str, target: Option<&str>) -> Result<(), Full> {
    text.pair("InitiatorName", initiator)?;
    match target {
        Some(target) => {
            text.pair("SessionType", "Normal")?;
            text.pair("TargetName", target)?;
        }
        None => text.pair("SessionType", "Discovery")?,
    }
    text.pair("AuthMethod", "None")
}

/// The text of the operational stage.
pub fn offer(text: &mut TextWriter<'_>, wishes: &Wishes, discovery: bool) -> Result<(), Full> {
    let digest = |wished| if wished { "CRC32C" } else { "None" };
    let yes = |wished| if wished { "Yes" } else { "No" };
    text.pair("HeaderDigest", digest(wishes.header_digest))?;
    text.pair("DataDigest", digest(wishes.data_digest))?;
    text.pair("MaxRecvDataSegmentLength", RECEIVE_MAX_BYTES)?;
    text.pair("ErrorRecoveryLevel", 0)?;
    text.pair("DefaultTime2Wait", 0)?;
    text.pair("DefaultTime2Retain", 0)?;
    if discovery {
        return Ok(());
    }
    text.pair("InitialR2T", yes(wishes.initial_r2t))?;
    text.pair("ImmediateData", yes(wishes.immediate_data))?;
    text.pair("MaxBurstLength", wishes.max_burst_bytes)?;
    text.pair("FirstBurstLength", wishes.first_burst_bytes)?;
    text.pair("MaxOutstandingR2T", wishes.max_r2t)?;
    text.pair("MaxConnections", 1)?;
    text.pair("DataPDUInOrder", "Yes")?;
    text.pair("DataSequenceInOrder", "Yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> Wishes {
        Wishes {
            initiator: "iqn.2026-11.io.bedplate.perf:host".to_owned(),
            isid: 1,
            header_digest: true,
            data_digest: false,
            initial_r2t: false,
            immediate_data: true,
            first_burst_bytes: 128 << 10,
            max_burst_bytes: 1 << 20,
            max_r2t: 1,
        }
    }

    fn take(key: &str, value: &str) -> Result<Settled, PerfError> {
        let mut settled = Settled::default();
        settled.take(Pair { key, value }, &wishes())?;
        Ok(settled)
    }

    #[test]
    fn answers_are_taken_over() {
        assert!(take("HeaderDigest", "CRC32C").unwrap().digests[0]);
        assert!(!take("InitialR2T", "No").unwrap().initial_r2t);
        assert!(!take("ImmediateData", "No").unwrap().immediate_data);
        let burst = take("FirstBurstLength", "65536").unwrap();
        assert_eq!(burst.first_burst_bytes, 64 << 10);
        let odd = take("MaxRecvDataSegmentLength", "8191").unwrap();
        assert_eq!(odd.max_send_bytes, 7680);
        for (key, value) in [("X-any", "NotUnderstood"), ("MaxConnections", "1")] {
            assert_eq!(take(key, value).unwrap(), Settled::default(), "{key}");
        }
    }

    #[test]
    fn answers_that_cannot_be_are_refused() {
        for (key, value) in [
            ("HeaderDigest", "None"),
            ("DataDigest", "CRC32C"),
            ("ImmediateData", "Maybe"),
            ("FirstBurstLength", "262144"),
            ("MaxBurstLength", "511"),
            ("MaxRecvDataSegmentLength", "16777216"),
            ("MaxBurstLength", "Reject"),
            ("DataPDUInOrder", "No"),
        ] {
            assert!(take(key, value).is_err(), "{key}={value}");
        }
        assert!(Settled::default().check(&wishes()).is_err(), "no digest");
    }

    #[test]
    fn a_target_that_wants_a_secret_is_refused() {
        let method = |value| {
            check_method(Pair {
                key: "AuthMethod",
                value,
            })
        };
        assert!(method("None").is_ok());
        assert!(method("CHAP").is_err());
    }
}
