//! NVMe over Fabrics commands and data.
//!
//! Source: base 2.0 section 6 (fabrics command set), NVMe-oF 1.1 sections 2 and 3.

pub mod connect;
pub mod disconnect;
pub mod discovery;
pub mod property;

use crate::Error;
use crate::nvme::Sqe;

open_enum! {
    /// Fabrics command type, byte 4 of a command with opcode 7Fh.
    FabricsType: u8 {
        PROPERTY_SET = 0x00, "Property Set.";
        CONNECT = 0x01, "Connect.";
        PROPERTY_GET = 0x04, "Property Get.";
        AUTH_SEND = 0x05, "Authentication Send.";
        AUTH_RECEIVE = 0x06, "Authentication Receive.";
        DISCONNECT = 0x08, "Disconnect.";
    }
}

impl Sqe {
    /// The fabrics command type; `None` when the opcode is not 7Fh.
    #[must_use]
    pub fn fabrics_type(&self) -> Option<FabricsType> {
        self.is_fabrics().then(|| FabricsType(self.fctype()))
    }
}

/// Gives `Ok` when `opcode` and `fctype` name the fabrics command `want`.
fn expect(what: &'static str, want: FabricsType, opcode: u8, fctype: u8) -> Result<(), Error> {
    if opcode == crate::nvme::AdminOpcode::FABRICS.0 && fctype == want.0 {
        return Ok(());
    }
    Err(Error::WrongCommand {
        what,
        opcode,
        fctype,
    })
}

/// The conversions that every 64-byte fabrics command shares.
macro_rules! fabrics_command {
    ($name:ident, $fctype:expr, $what:literal) => {
        impl $name {
            /// Reads the command from a submission queue entry.
            ///
            /// Errors: `WrongCommand` when the opcode or the fabrics type is another one.
            pub fn from_sqe(sqe: &$crate::nvme::Sqe) -> Result<&Self, $crate::Error> {
                $crate::fabrics::expect($what, $fctype, sqe.opcode, sqe.fctype())?;
                Self::decode(sqe.as_wire())
            }

            /// The command as a submission queue entry.
            #[must_use]
            pub fn to_sqe(&self) -> $crate::nvme::Sqe {
                zerocopy::transmute!(*self)
            }

            fn blank(cid: u16) -> Self {
                Self {
                    opcode: $crate::nvme::AdminOpcode::FABRICS.0,
                    flags: $crate::nvme::command::Psdt::SGL.0 << 6,
                    cid: zerocopy::little_endian::U16::new(cid),
                    fctype: $fctype,
                    ..Self::zeroed()
                }
            }
        }
    };
}
use fabrics_command;
