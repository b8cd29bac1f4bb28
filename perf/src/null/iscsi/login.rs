//! The login of the null target: it agrees to everything that it can.

use wire::iscsi::text::{Full, Pairs, TextWriter, list, number};

use super::super::Disguise;
use crate::error::PerfError;

/// Name of the only target.
pub const IQN: &str = "iqn.2026-11.io.bedplate.perf:null";

/// What was settled.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Digests: header, data.
    pub digests: [bool; 2],
    /// Most data in one PDU that the initiator takes.
    pub send_max_bytes: u32,
    /// FirstBurstLength.
    pub first_burst_bytes: u32,
    /// MaxBurstLength.
    pub max_burst_bytes: u32,
}

impl Settled {
    /// Before the login.
    pub fn new() -> Self {
        Self {
            digests: [false; 2],
            send_max_bytes: wire::iscsi::DEFAULT_MAX_DATA_BYTES,
            first_burst_bytes: 64 << 10,
            max_burst_bytes: 256 << 10,
        }
    }

    /// Answers the pairs of `text` into `out`; `operational` is the stage.
    ///
    /// Errors: `Text`; `Closed` when the answers do not fit.
    pub fn answer(
        &mut self,
        text: &[u8],
        disguise: &Disguise,
        operational: bool,
        out: &mut TextWriter<'_>,
    ) -> Result<(), PerfError> {
        for pair in Pairs::new(text) {
            let pair = pair?;
            let full = |Full| PerfError::Closed {
                doing: "answering a login",
            };
            self.one(pair.key, pair.value, disguise, out)
                .map_err(full)?;
        }
        if operational {
            out.pair("MaxRecvDataSegmentLength", disguise.max_h2c_bytes)
        } else {
            out.pair("TargetPortalGroupTag", 1)
        }
        .map_err(|Full| PerfError::Closed {
            doing: "answering a login",
        })
    }

    fn one(
        &mut self,
        key: &str,
        value: &str,
        disguise: &Disguise,
        out: &mut TextWriter<'_>,
    ) -> Result<(), Full> {
        let bytes = |default: u32| number(value).map_or(default, |n| n.min(1 << 24) as u32);
        match key {
            "HeaderDigest" | "DataDigest" => {
                let known = |digest: &&str| ["CRC32C", "None"].contains(digest);
                let chosen = list(value).find(known).unwrap_or("Reject");
                self.digests[usize::from(key == "DataDigest")] = chosen == "CRC32C";
                out.pair(key, chosen)
            }
            "MaxRecvDataSegmentLength" => {
                self.send_max_bytes = bytes(8192).max(512);
                Ok(())
            }
            "FirstBurstLength" => {
                self.first_burst_bytes = bytes(0).min(disguise.capsule_bytes).max(512);
                out.pair(key, self.first_burst_bytes)
            }
            "MaxBurstLength" => {
                self.max_burst_bytes = bytes(512).max(512);
                out.pair(key, self.max_burst_bytes)
            }
            "AuthMethod" => out.pair(key, "None"),
            "MaxOutstandingR2T" | "MaxConnections" => out.pair(key, 1),
            "InitialR2T"
            | "ImmediateData"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "ErrorRecoveryLevel"
            | "DefaultTime2Wait"
            | "DefaultTime2Retain" => out.pair(key, value),
            "InitiatorName" | "InitiatorAlias" | "SessionType" | "TargetName" => Ok(()),
            _ => out.pair(key, "NotUnderstood"),
        }
    }
}
