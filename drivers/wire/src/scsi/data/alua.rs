//! Target port groups.
//!
//! Source: SPC-4 sections 6.37 and 6.45.

use crate::scsi::{Sense, SenseCode, Writer};

open_enum! {
    /// How well a unit can be reached through a target port group.
    AccessState: u8 {
        OPTIMIZED = 0x0, "Active, the best way.";
        NON_OPTIMIZED = 0x1, "Active, slower.";
        STANDBY = 0x2, "Only commands that touch no medium.";
        UNAVAILABLE = 0x3, "Only commands that say what it is.";
        OFFLINE = 0xe, "No commands.";
        TRANSITIONING = 0xf, "Between two states.";
    }
}

open_enum! {
    /// Why it has that state.
    StatusCode: u8 {
        NONE = 0x0, "Not said.";
        BY_COMMAND = 0x1, "SET TARGET PORT GROUPS.";
        IMPLICIT = 0x2, "The target itself.";
    }
}

/// States that a group can have: all but logical block dependent.
const SUPPORTED: u8 = 0xcf;

/// One group of REPORT TARGET PORT GROUPS, with one port, whose number is the group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The host should use it first.
    pub is_preferred: bool,
    /// Its state.
    pub state: AccessState,
    /// Why.
    pub status: StatusCode,
    /// Target port group, and relative target port identifier.
    pub number: u16,
}

impl Group {
    /// Starts the data; [`Group::end`] puts the length in.
    pub fn begin(is_extended: bool, transition_s: u8, out: &mut Writer<'_>) {
        out.zeros(4);
        if is_extended {
            out.bytes(&[0x10, transition_s, 0, 0]);
        }
    }

    /// Writes one group.
    pub fn write(&self, out: &mut Writer<'_>) {
        let preferred = if self.is_preferred { 0x80 } else { 0 };
        out.bytes(&[preferred | (self.state.0 & 0xf), SUPPORTED]);
        out.u16(self.number);
        out.bytes(&[0, self.status.0, 0, 1]);
        out.u16(0).u16(self.number);
    }

    /// Ends the data.
    pub fn end(out: &mut Writer<'_>) {
        out.patch_len32(0);
    }
}

/// One descriptor of SET TARGET PORT GROUPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetGroup {
    /// The state that it shall have.
    pub state: AccessState,
    /// Target port group; for OFFLINE a relative target port identifier.
    pub number: u16,
}

/// The descriptors of a SET TARGET PORT GROUPS parameter list.
///
/// Errors: PARAMETER LIST LENGTH ERROR when the list does not end with a descriptor.
pub fn set_groups(list: &[u8]) -> Result<impl Iterator<Item = SetGroup> + Clone, Sense> {
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    let (_, descriptors) = list.split_at_checked(4).ok_or(short)?;
    if !descriptors.len().is_multiple_of(4) {
        return Err(short);
    }
    Ok(descriptors.chunks_exact(4).map(|bytes| SetGroup {
        state: AccessState(bytes.first().copied().unwrap_or_default() & 0xf),
        number: u16::from_be_bytes([
            bytes.get(2).copied().unwrap_or_default(),
            bytes.get(3).copied().unwrap_or_default(),
        ]),
    }))
}
