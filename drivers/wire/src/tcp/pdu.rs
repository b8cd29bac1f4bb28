//! Any PDU, by its type.

use super::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, H2cData, IcReq, IcResp, Layout, PduType, R2t,
    TermReq,
};
use crate::Error;

/// A PDU header, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// Initialize Connection Request.
    IcReq(&'a IcReq),
    /// Initialize Connection Response; call [`IcResp::check`] with the request.
    IcResp(&'a IcResp),
    /// Terminate Connection Request of the host.
    H2cTermReq(&'a TermReq),
    /// Terminate Connection Request of the controller.
    C2hTermReq(&'a TermReq),
    /// Command capsule.
    CapsuleCmd(&'a CapsuleCmd),
    /// Response capsule.
    CapsuleResp(&'a CapsuleResp),
    /// Data, host to controller.
    H2cData(&'a H2cData),
    /// Data, controller to host.
    C2hData(&'a C2hData),
    /// Ready to Transfer.
    R2t(&'a R2t),
}

impl<'a> Pdu<'a> {
    /// Decodes the header that starts `bytes` and checks its fields. `layout` is what
    /// [`super::Link::frame`] gave for it.
    ///
    /// Errors: `Truncated` when the header is not there in full, `Pdu` for a field that ends the
    /// connection. The header digest is checked before, by the caller.
    pub fn parse(bytes: &'a [u8], layout: &Layout) -> Result<Self, Error> {
        let kind = CommonHeader::decode(bytes)?.kind;
        Ok(match kind {
            PduType::IC_REQ => Self::IcReq(checked(IcReq::decode(bytes)?, IcReq::check)?),
            PduType::IC_RESP => Self::IcResp(IcResp::decode(bytes)?),
            PduType::H2C_TERM_REQ => Self::H2cTermReq(TermReq::decode(bytes)?),
            PduType::C2H_TERM_REQ => Self::C2hTermReq(TermReq::decode(bytes)?),
            PduType::CAPSULE_CMD => Self::CapsuleCmd(CapsuleCmd::decode(bytes)?),
            PduType::CAPSULE_RESP => Self::CapsuleResp(CapsuleResp::decode(bytes)?),
            PduType::H2C_DATA => {
                Self::H2cData(checked(H2cData::decode(bytes)?, |pdu| pdu.check(layout))?)
            }
            PduType::C2H_DATA => {
                Self::C2hData(checked(C2hData::decode(bytes)?, |pdu| pdu.check(layout))?)
            }
            PduType::R2T => Self::R2t(checked(R2t::decode(bytes)?, R2t::check)?),
            other => return Err(super::PduError::field(other, super::field::TYPE, other.0).into()),
        })
    }
}

fn checked<T>(pdu: &T, check: impl Fn(&T) -> Result<(), super::PduError>) -> Result<&T, Error> {
    check(pdu)?;
    Ok(pdu)
}
