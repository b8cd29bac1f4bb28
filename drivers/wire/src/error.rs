//! The one error of this crate.

use crate::tcp::PduError;

/// Why bytes were refused. Expected on bad input; never a reason to stop the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the structure needs.
    #[error("{what} needs {need_bytes} bytes, got {have_bytes}: read more before decoding")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Its size.
        need_bytes: usize,
        /// What was there.
        have_bytes: usize,
    },
    /// A field has a value that the structure does not allow.
    #[error("{what} has {value:#x} in {field}: refuse the command")]
    InvalidField {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The command is another one than the decoder was asked for.
    #[error("expected {what}, got opcode {opcode:#04x} fabrics type {fctype:#04x}: dispatch first")]
    WrongCommand {
        /// The command the decoder is for.
        what: &'static str,
        /// The opcode found.
        opcode: u8,
        /// Byte 4, the fabrics command type when `opcode` is 7Fh.
        fctype: u8,
    },
    /// The SGL descriptor's type and subtype are not ones that exist.
    #[error("SGL descriptor {identifier:#04x} is unknown: fail with SGL Descriptor Type Invalid")]
    SglType {
        /// Byte 15 of the descriptor: type in the high nibble, subtype in the low one.
        identifier: u8,
    },
    /// A known descriptor type with a subtype it cannot have.
    #[error("SGL descriptor {identifier:#04x} has a bad subtype: fail as for an unknown type")]
    SglSubtype {
        /// Byte 15 of the descriptor.
        identifier: u8,
    },
    /// A qualified name that is not one.
    #[error("{field} is not a qualified name ({problem}): refuse the connection")]
    Nqn {
        /// The field that holds it.
        field: &'static str,
        /// What is wrong with it.
        problem: NqnProblem,
    },
    /// The data's digest does not match: the command failed, the connection goes on.
    #[error("data digest is {received:#010x}, computed {computed:#010x}: fail the command")]
    DataDigest {
        /// The digest in the PDU.
        received: u32,
        /// The digest of the bytes received.
        computed: u32,
    },
    /// A PDU that ends its connection.
    #[error(transparent)]
    Pdu(#[from] PduError),
}

/// What is wrong with a qualified name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NqnProblem {
    /// No nul byte in the field, or more than 223 bytes before it.
    #[error("longer than 223 bytes")]
    TooLong,
    /// Nothing before the nul byte.
    #[error("empty")]
    Empty,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Does not start with `nqn.`.
    #[error("does not start with nqn.")]
    Prefix,
    /// A control character, which would corrupt logs and file names.
    #[error("contains a control character")]
    Control,
}
