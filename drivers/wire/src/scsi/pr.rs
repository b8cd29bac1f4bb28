//! PERSISTENT RESERVE IN and OUT: command descriptor blocks, parameter data, TransportIDs.
//!
//! Source: SPC-4 sections 6.15 (IN), 6.16 (OUT) and 7.6.4 (TransportIDs).

use super::{Cdb, Writer};
use crate::Error;

open_enum! {
    /// Service action of PERSISTENT RESERVE IN.
    InAction: u8 {
        READ_KEYS = 0x00, "The keys of all registrants.";
        READ_RESERVATION = 0x01, "The reservation.";
        REPORT_CAPABILITIES = 0x02, "What is supported.";
        READ_FULL_STATUS = 0x03, "Every registrant.";
    }
}

open_enum! {
    /// Service action of PERSISTENT RESERVE OUT.
    OutAction: u8 {
        REGISTER = 0x00, "Registers, changes a key, unregisters.";
        RESERVE = 0x01, "Reserves.";
        RELEASE = 0x02, "Releases.";
        CLEAR = 0x03, "Removes the reservation and all registrants.";
        PREEMPT = 0x04, "Removes registrants by key.";
        PREEMPT_AND_ABORT = 0x05, "The same, and aborts their commands.";
        REGISTER_AND_IGNORE_EXISTING_KEY = 0x06, "As REGISTER, whatever the key was.";
        REGISTER_AND_MOVE = 0x07, "Gives the reservation to another nexus.";
    }
}

/// The only scope there is: the logical unit.
pub const SCOPE_UNIT: u8 = 0;

/// What a PERSISTENT RESERVE IN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InCommand {
    /// Which data.
    pub action: InAction,
    /// Bytes at most.
    pub allocation_bytes: u16,
}

impl InCommand {
    /// Reads the command descriptor block.
    #[must_use]
    pub fn decode(cdb: &Cdb) -> Self {
        Self {
            action: InAction(cdb[1] & 0x1f),
            allocation_bytes: u16::from_be_bytes([cdb[7], cdb[8]]),
        }
    }
}

/// What a PERSISTENT RESERVE OUT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutCommand {
    /// What to do.
    pub action: OutAction,
    /// [`SCOPE_UNIT`], else wrong.
    pub scope: u8,
    /// Type of the reservation.
    pub kind: u8,
    /// Bytes of the parameter list.
    pub list_bytes: u32,
}

impl OutCommand {
    /// Reads the command descriptor block.
    #[must_use]
    pub fn decode(cdb: &Cdb) -> Self {
        Self {
            action: OutAction(cdb[1] & 0x1f),
            scope: cdb[2] >> 4,
            kind: cdb[2] & 0x0f,
            list_bytes: u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]]),
        }
    }
}

/// Length of the parameter list where there are no TransportIDs.
pub const LIST_BYTES: usize = 24;

/// Parameter list of every service action but REGISTER AND MOVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutList<'a> {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub action_key: u64,
    /// SPEC_I_PT: TransportIDs follow.
    pub names_others: bool,
    /// ALL_TG_PT.
    pub all_ports: bool,
    /// APTPL.
    pub persists: bool,
    /// What follows the first 24 bytes.
    rest: &'a [u8],
}

impl<'a> OutList<'a> {
    /// Reads a parameter list.
    ///
    /// Errors: `Truncated`.
    pub fn decode(list: &'a [u8]) -> Result<Self, Error> {
        let (head, rest) = split(list, "PERSISTENT RESERVE OUT")?;
        Ok(Self {
            key: u64_at(head, 0),
            action_key: u64_at(head, 8),
            names_others: head[20] & 1 << 3 != 0,
            all_ports: head[20] & 1 << 2 != 0,
            persists: head[20] & 1 != 0,
            rest,
        })
    }

    /// Whether the length is the one that a list without TransportIDs must have.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.rest.is_empty()
    }

    /// The TransportIDs, one after the other; an error is the last item.
    ///
    /// Errors: `Truncated` when their length is not that of the list.
    pub fn transport_ids(&self) -> Result<TransportIds<'a>, Error> {
        let truncated = || Error::Truncated {
            what: "TransportIDs",
            need_bytes: 4,
            have_bytes: self.rest.len(),
        };
        let (len, ids) = self.rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        whole(ids, u32::from_be_bytes(*len) as usize).map(TransportIds)
    }
}

/// Parameter list of REGISTER AND MOVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveList<'a> {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY: the key of who gets the reservation.
    pub action_key: u64,
    /// UNREG: the sender unregisters.
    pub unregisters: bool,
    /// APTPL.
    pub persists: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of the nexus that gets the reservation.
    pub target_port: u16,
    /// Its initiator port.
    pub transport_id: TransportId<'a>,
}

impl<'a> MoveList<'a> {
    /// Reads a parameter list.
    ///
    /// Errors: `Truncated`, `InvalidField` as of a TransportID.
    pub fn decode(list: &'a [u8]) -> Result<Self, Error> {
        let (head, rest) = split(list, "REGISTER AND MOVE")?;
        let len = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
        let (transport_id, rest) = TransportId::decode(whole(rest, len as usize)?)?;
        if !rest.is_empty() {
            return Err(invalid("TRANSPORTID LENGTH", len.into()));
        }
        Ok(Self {
            key: u64_at(head, 0),
            action_key: u64_at(head, 8),
            unregisters: head[17] & 1 << 1 != 0,
            persists: head[17] & 1 != 0,
            target_port: u16::from_be_bytes([head[18], head[19]]),
            transport_id,
        })
    }
}

/// Initiator ports that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportIds<'a>(&'a [u8]);

impl<'a> Iterator for TransportIds<'a> {
    type Item = Result<TransportId<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(match TransportId::decode(self.0) {
            Ok((id, rest)) => {
                self.0 = rest;
                Ok(id)
            }
            Err(error) => {
                self.0 = &[];
                Err(error)
            }
        })
    }
}

/// An iSCSI initiator, as a TransportID names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportId<'a> {
    /// A device by its name (format 00b).
    Device(&'a str),
    /// A port: the name, `,i,0x` and the ISID in hexadecimal digits (format 01b).
    Port(&'a str),
}

const ISCSI: u8 = 0x5;
const FORMAT_PORT: u8 = 0x40;
/// What separates the name of a device from the ISID of its port.
const SEPARATOR: &str = ",i,0x";
/// The name of an iSCSI port: at most 223 bytes, the separator, 12 digits.
const NAME_BYTES_MAX: usize = 223 + SEPARATOR.len() + 12;
/// The shortest ADDITIONAL LENGTH.
const ADDITIONAL_BYTES_MIN: usize = 20;

impl<'a> TransportId<'a> {
    /// Reads the TransportID at the start; gives what follows it.
    ///
    /// Errors: `Truncated`; `InvalidField` for another protocol than iSCSI, a name that is none, or
    /// a length that a TransportID cannot have.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let truncated = |need_bytes| Error::Truncated {
            what: "TransportID",
            need_bytes,
            have_bytes: bytes.len(),
        };
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(truncated(4))?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] & 0x0f != ISCSI || head[0] & 0x30 != 0 {
            return Err(invalid("PROTOCOL IDENTIFIER", head[0].into()));
        }
        if len < ADDITIONAL_BYTES_MIN || !len.is_multiple_of(4) {
            return Err(invalid("ADDITIONAL LENGTH", len as u64));
        }
        let (name, rest) = rest.split_at_checked(len).ok_or(truncated(4 + len))?;
        let name = text(name).ok_or(invalid("ISCSI NAME", len as u64))?;
        let id = match (head[0] & 0xc0, name.split_once(SEPARATOR)) {
            (0, None) => Self::Device(name),
            (FORMAT_PORT, Some((_, isid))) if is_isid(isid) => Self::Port(name),
            (format, _) => return Err(invalid("FORMAT CODE", format.into())),
        };
        Ok((id, rest))
    }

    /// The names as they are.
    #[must_use]
    pub fn name(&self) -> &'a str {
        match self {
            Self::Device(name) | Self::Port(name) => name,
        }
    }

    /// That of the port or device with this name.
    #[must_use]
    pub fn of_name(name: &'a str) -> Self {
        match name.contains(SEPARATOR) {
            true => Self::Port(name),
            false => Self::Device(name),
        }
    }

    /// Appends it: 4 bytes, the name, a zero byte, and zeros up to a multiple of 4.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        let (format, name) = match self {
            Self::Device(name) => (0, name),
            Self::Port(name) => (FORMAT_PORT, name),
        };
        let len = (name.len() + 1).next_multiple_of(4);
        let len = len.max(ADDITIONAL_BYTES_MIN);
        writer.u8(format | ISCSI).u8(0).u16(len as u16);
        writer.bytes(name.as_bytes()).zeros(len - name.len());
    }
}

/// 12 hexadecimal digits.
fn is_isid(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// The text before the zeros, of which there is one at least.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|&byte| byte == 0)?;
    let (name, zeros) = field.split_at(end);
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    let is_padded = zeros.iter().all(|&byte| byte == 0);
    let printable = name.iter().all(|byte| !byte.is_ascii_control());
    let name = core::str::from_utf8(name).ok()?;
    (is_name && is_padded && printable).then_some(name)
}

/// Of a registrant in READ FULL STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullStatus<'a> {
    /// Its key.
    pub key: u64,
    /// Type of the reservation, if it holds it.
    pub held_kind: Option<u8>,
    /// Relative identifier of its target port.
    pub target_port: u16,
    /// Its initiator port.
    pub transport_id: TransportId<'a>,
}

impl FullStatus<'_> {
    /// Appends its descriptor.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.u64(self.key).zeros(4);
        writer.u8(self.held_kind.is_some().into());
        writer.u8(SCOPE_UNIT << 4 | self.held_kind.unwrap_or(0));
        writer.zeros(4).u16(self.target_port);
        let at = writer.len();
        writer.u32(0);
        self.transport_id.encode(writer);
        writer.patch_len32(at);
    }
}

/// Writes the data of READ KEYS.
pub fn read_keys(writer: &mut Writer<'_>, generation: u32, keys: impl Iterator<Item = u64>) {
    writer.u32(generation).u32(0);
    for key in keys {
        writer.u64(key);
    }
    writer.patch_len32(4);
}

/// Writes the data of READ RESERVATION: key and type, if there is one.
pub fn read_reservation(writer: &mut Writer<'_>, generation: u32, held: Option<(u64, u8)>) {
    writer.u32(generation).u32(0);
    if let Some((key, kind)) = held {
        writer.u64(key).zeros(5).u8(SCOPE_UNIT << 4 | kind).zeros(2);
    }
    writer.patch_len32(4);
}

/// Writes the data of READ FULL STATUS.
pub fn read_full_status<'a>(
    writer: &mut Writer<'_>,
    generation: u32,
    registrants: impl Iterator<Item = FullStatus<'a>>,
) {
    writer.u32(generation).u32(0);
    for registrant in registrants {
        registrant.encode(writer);
    }
    writer.patch_len32(4);
}

/// SIP_C, ATP_C, PTPL_C: others can be named, all ports meant, and power loss survived. CRH is 0.
const CAPABILITIES: u8 = 1 << 3 | 1 << 2 | 1;
/// TMV: the mask of types says something. ALLOW COMMANDS is 0: nothing is said.
const MASK_VALID: u8 = 1 << 7;
/// All six types.
const TYPES: u16 = 0xea01;

/// Writes the data of REPORT CAPABILITIES; `persists` is PTPL_A.
pub fn report_capabilities(writer: &mut Writer<'_>, persists: bool) {
    writer.u16(8).u8(CAPABILITIES);
    writer.u8(MASK_VALID | u8::from(persists));
    writer.u16(TYPES).zeros(2);
}

fn split<'a>(list: &'a [u8], what: &'static str) -> Result<(&'a [u8; 24], &'a [u8]), Error> {
    list.split_first_chunk().ok_or(Error::Truncated {
        what,
        need_bytes: LIST_BYTES,
        have_bytes: list.len(),
    })
}

/// All of `bytes`, of which there must be `len`.
fn whole(bytes: &[u8], len: usize) -> Result<&[u8], Error> {
    match bytes.len() == len {
        true => Ok(bytes),
        false => Err(Error::Truncated {
            what: "TransportIDs",
            need_bytes: len,
            have_bytes: bytes.len(),
        }),
    }
}

fn u64_at(head: &[u8; 24], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_be_bytes(bytes)
}

const fn invalid(field: &'static str, value: u64) -> Error {
    Error::InvalidField {
        what: "TransportID",
        field,
        value,
    }
}

#[cfg(test)]
mod tests;
