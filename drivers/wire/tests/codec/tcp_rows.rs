//! Golden rows of NVMe/TCP PDUs: bare headers, and whole PDUs with padding and digests.

use wire::Error;
use wire::nvme::command::{NvmOpcode, ReadWrite, Sqe};
use wire::nvme::{Cqe, Sgl, Status};
use wire::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, IcReq, IcResp, Layout, Link,
    Pdu, PduError, PduType, R2t, Receiver, TermFrame, TermReq, digest, flags, icreq::dgst,
};

use crate::golden::{Decoded, Row};
use crate::spec_bytes::{SpecBytes, crc32c_bitwise, le16, le32, le64};
use crate::{meaning, row};

/// Both digests, data aligned to 64 bytes.
pub const FRAMING: Framing = Framing {
    header_digest: true,
    data_digest: true,
    pda: 15,
};

/// A connection past its handshake.
pub fn link(receiver: Receiver, framing: Framing) -> Link {
    Link {
        receiver,
        ready: true,
        framing,
        max_capsule_data_bytes: 8192,
        max_data_bytes: 131_072,
    }
}

pub fn rows() -> Vec<Row> {
    let mut rows = headers();
    rows.extend(handshake());
    rows.extend(whole_pdus());
    rows
}

fn headers() -> Vec<Row> {
    vec![
        row!("tcp_common_header", CommonHeader, {
            0 byte (kind.0) = 0x07;
            1 byte (flags) = 0x0f;
            2 byte (hlen) = 24;
            3 byte (pdo) = 32;
            4 le32 (plen) = 0x0102_0304;
        }),
        row!("tcp_capsule_cmd", CapsuleCmd, {
            0 byte (ch.kind.0) = 4;
            2 byte (ch.hlen) = 72;
            4 le32 (ch.plen) = 72;
            8 byte (sqe.opcode) = 2;
            10 le16 (sqe.cid) = 0x0102;
            68 le32 (sqe.cdw15) = 9;
        }),
        row!("tcp_capsule_resp", CapsuleResp, {
            0 byte (ch.kind.0) = 5;
            2 byte (ch.hlen) = 24;
            4 le32 (ch.plen) = 24;
            8 le64 (cqe.result) = 1;
            16 le16 (cqe.sqhd) = 2;
            20 le16 (cqe.cid) = 3;
            22 le16 (cqe.status) = 4;
        }),
        row!("tcp_h2c_data", H2cData, {
            0 byte (ch.kind.0) = 6;
            2 byte (ch.hlen) = 24;
            8 le16 (cccid) = 1;
            10 le16 (ttag) = 2;
            12 le32 (datao) = 4096;
            16 le32 (datal) = 8192;
        }),
        row!("tcp_c2h_data", C2hData, {
            0 byte (ch.kind.0) = 7;
            2 byte (ch.hlen) = 24;
            8 le16 (cccid) = 1;
            12 le32 (datao) = 4096;
            16 le32 (datal) = 8192;
        }),
        row!("tcp_r2t", R2t, {
            0 byte (ch.kind.0) = 9;
            2 byte (ch.hlen) = 24;
            4 le32 (ch.plen) = 24;
            8 le16 (cccid) = 1;
            10 le16 (ttag) = 2;
            12 le32 (r2to) = 4096;
            16 le32 (r2tl) = 8192;
        }),
        row!("tcp_term_req", TermReq, {
            0 byte (ch.kind.0) = 2;
            2 byte (ch.hlen) = 24;
            4 le32 (ch.plen) = 24;
            8 le16 (fes) = 3;
            10 le32 (fei) = 0xaabb_ccdd;
        }),
    ]
}

fn handshake() -> Vec<Row> {
    vec![
        meaning!("tcp_ic_req", IcReq, 128, {
            2 byte = 128; 4 le32 = 128; 10 byte = 31; 11 byte = 3; 12 le32 = 15;
        }, IcReq::new(31, dgst::HEADER | dgst::DATA, 15), |bytes| {
            let layout = Link::new(Receiver::Controller).frame(CommonHeader::decode(bytes)?)?;
            match Pdu::parse(bytes, &layout)? {
                Pdu::IcReq(pdu) => Ok(*pdu),
                other => panic!("decoded as {other:?}"),
            }
        }, |v| v.as_wire().to_vec()),
        meaning!("tcp_ic_resp", IcResp, 128, {
            0 byte = 1; 2 byte = 128; 4 le32 = 128; 10 byte = 1; 11 byte = 1; 12 le32 = 131_072;
        }, IcResp::new(1, dgst::HEADER, 131_072), |bytes| {
            let layout = Link::new(Receiver::Host).frame(CommonHeader::decode(bytes)?)?;
            match Pdu::parse(bytes, &layout)? {
                Pdu::IcResp(pdu) => {
                    pdu.check(&IcReq::new(0, dgst::HEADER, 0))?;
                    Ok(*pdu)
                }
                other => panic!("decoded as {other:?}"),
            }
        }, |v| v.as_wire().to_vec()),
    ]
}

/// Whole PDUs by hand: `hlen` bytes of header, then what the flags say.
struct Whole {
    spec: SpecBytes,
    data_at: usize,
}

impl Whole {
    /// `total` and `data_at` are counted by hand for [`FRAMING`].
    fn new(kind: u8, flag_bits: u8, hlen: u8, data_at: usize, total: usize) -> Self {
        let mut spec = SpecBytes::new(total);
        spec.put(
            0,
            &[
                kind,
                flag_bits,
                hlen,
                u8::try_from(data_at).expect("a byte"),
            ],
        );
        spec.put(4, &le32(u32::try_from(total).expect("a dword")).0);
        Self { spec, data_at }
    }

    /// Puts the header digest after `hlen` bytes, then data and its digest at the end.
    fn finish(mut self, hlen: usize, data: &[u8]) -> Vec<u8> {
        let header_digest = crc32c_bitwise(&self.spec.0[..hlen]).to_le_bytes();
        self.spec.put(hlen, &header_digest);
        if !data.is_empty() {
            self.spec.put(self.data_at, data);
            self.spec.put(
                self.data_at + data.len(),
                &crc32c_bitwise(data).to_le_bytes(),
            );
        }
        self.spec.0
    }
}

/// The bytes that the crate's encoder gives for a header, its layout and its data.
pub fn assemble(header: &[u8], layout: &Layout, data: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    if layout.header_digest > 0 {
        bytes.extend(digest::header_digest(header));
    }
    bytes.extend(std::iter::repeat_n(0, layout.pad));
    bytes.extend(data);
    if layout.data_digest > 0 {
        bytes.extend(digest::crc32c(data).to_le_bytes());
    }
    bytes
}

/// A received PDU taken apart, everything checked.
pub fn take_apart<'a>(link: &Link, bytes: &'a [u8]) -> Result<(Pdu<'a>, &'a [u8]), Error> {
    let layout = link.frame(CommonHeader::decode(bytes)?)?;
    let (need_bytes, have_bytes) = (layout.total(), bytes.len());
    if have_bytes < need_bytes {
        return Err(Error::Truncated {
            what: "PDU",
            need_bytes,
            have_bytes,
        });
    }
    let (header, rest) = bytes.split_at(layout.header);
    if layout.header_digest > 0 {
        digest::check_header(header, rest[..4].try_into().expect("4 bytes"))?;
    }
    let pdu = Pdu::parse(bytes, &layout)?;
    let data = &bytes[layout.data_offset()..][..layout.data];
    if layout.data_digest > 0 {
        let end = layout.data_offset() + layout.data;
        let received = bytes[end..end + 4].try_into().expect("4 bytes");
        digest::check_data(digest::crc32c(data), received)?;
    }
    Ok((pdu, data))
}

fn decode_whole(receiver: Receiver, bytes: &[u8]) -> Result<Decoded, Error> {
    let (pdu, data) = take_apart(&link(receiver, FRAMING), bytes)?;
    Ok(Decoded {
        debug: format!("{pdu:#?}\ndata: {data:?}"),
        reencoded: rebuild(&pdu, data),
    })
}

/// Builds the PDU again from its meaning.
pub fn rebuild(pdu: &Pdu<'_>, data: &[u8]) -> Vec<u8> {
    rebuild_with(pdu, data, &FRAMING)
}

/// As [`rebuild`], for another framing.
pub fn rebuild_with(pdu: &Pdu<'_>, data: &[u8], framing: &Framing) -> Vec<u8> {
    match pdu {
        Pdu::CapsuleCmd(pdu) => {
            let (pdu, layout) = CapsuleCmd::new(pdu.sqe, data.len(), framing).expect("small");
            assemble(pdu.as_wire(), &layout, data)
        }
        Pdu::CapsuleResp(pdu) => {
            let (pdu, layout) = CapsuleResp::new(pdu.cqe, framing);
            assemble(pdu.as_wire(), &layout, &[])
        }
        Pdu::H2cData(pdu) => {
            let span = (pdu.datao.get(), pdu.datal.get());
            let (id, tag) = (pdu.cccid.get(), pdu.ttag.get());
            let (pdu, layout) = H2cData::new(id, tag, span, pdu.is_last(), framing).expect("small");
            assemble(pdu.as_wire(), &layout, data)
        }
        Pdu::C2hData(pdu) => {
            let span = (pdu.datao.get(), pdu.datal.get());
            let (pdu, layout) =
                C2hData::new(pdu.cccid.get(), span, pdu.ch.flags, framing).expect("small");
            assemble(pdu.as_wire(), &layout, data)
        }
        Pdu::R2t(pdu) => {
            let (offset, len_bytes) = (pdu.r2to.get(), pdu.r2tl.get());
            let (pdu, layout) =
                R2t::new(pdu.cccid.get(), pdu.ttag.get(), offset, len_bytes, framing);
            assemble(pdu.as_wire(), &layout, &[])
        }
        Pdu::IcReq(pdu) => pdu.as_wire().to_vec(),
        Pdu::IcResp(pdu) => pdu.as_wire().to_vec(),
        Pdu::H2cTermReq(pdu) | Pdu::C2hTermReq(pdu) => [pdu.as_wire(), data].concat(),
    }
}

fn whole_pdus() -> Vec<Row> {
    vec![
        whole_write(),
        whole_response(),
        whole_h2c(),
        whole_c2h(),
        whole_r2t(),
        whole_term(),
    ]
}

/// A Write with 12 bytes in the capsule: 72 header + 4 digest, data at 128, 12 data + 4 digest.
fn whole_write() -> Row {
    let mut whole = Whole::new(4, 3, 72, 128, 144);
    whole.spec.put(8, &[0x01, 0x40]);
    whole.spec.put(10, &le16(0x0102).0);
    whole.spec.put(12, &le32(1).0);
    whole.spec.put(8 + 32, &le32(12).0);
    whole.spec.put(8 + 39, &[0x01]);
    whole.spec.put(8 + 40, &le64(99).0);
    let write = ReadWrite {
        slba: 99,
        ..ReadWrite::default()
    };
    let data = Some(Sgl::InCapsule {
        offset: 0,
        len_bytes: 12,
    });
    let sqe: Sqe = write.encode(NvmOpcode::WRITE, 0x0102, 1, data);
    let (pdu, layout) = CapsuleCmd::new(sqe, 12, &FRAMING).expect("small");
    Row {
        name: "tcp_whole_capsule_cmd",
        covers: "CapsuleCmd",
        bytes: whole.finish(72, b"twelve bytes"),
        encoded: assemble(pdu.as_wire(), &layout, b"twelve bytes"),
        decode: |bytes| decode_whole(Receiver::Controller, bytes),
    }
}

fn whole_response() -> Row {
    let mut whole = Whole::new(5, 1, 24, 0, 28);
    whole.spec.put(8 + 8, &le16(17).0);
    whole.spec.put(8 + 12, &le16(0x0102).0);
    whole.spec.put(8 + 14, &le16(0x8000 | 0x81 << 1).0);
    let cqe = Cqe::new(0x0102, 17, Status::CAPACITY_EXCEEDED.with_dnr(), 0);
    let (pdu, layout) = CapsuleResp::new(cqe, &FRAMING);
    Row {
        name: "tcp_whole_capsule_resp",
        covers: "CapsuleResp",
        bytes: whole.finish(24, &[]),
        encoded: assemble(pdu.as_wire(), &layout, &[]),
        decode: |bytes| decode_whole(Receiver::Host, bytes),
    }
}

/// 24 header + 4 digest, data at 64, 8 data + 4 digest.
fn whole_h2c() -> Row {
    let mut whole = Whole::new(6, 7, 24, 64, 76);
    whole.spec.put(8, &le16(5).0);
    whole.spec.put(10, &le16(6).0);
    whole.spec.put(12, &le32(4096).0);
    whole.spec.put(16, &le32(8).0);
    let (pdu, layout) = H2cData::new(5, 6, (4096, 8), true, &FRAMING).expect("small");
    Row {
        name: "tcp_whole_h2c_data",
        covers: "H2cData",
        bytes: whole.finish(24, b"12345678"),
        encoded: assemble(pdu.as_wire(), &layout, b"12345678"),
        decode: |bytes| decode_whole(Receiver::Controller, bytes),
    }
}

fn whole_c2h() -> Row {
    let mut whole = Whole::new(7, 15, 24, 64, 76);
    whole.spec.put(8, &le16(5).0);
    whole.spec.put(12, &le32(512).0);
    whole.spec.put(16, &le32(8).0);
    let extra = flags::LAST_PDU | flags::SUCCESS;
    let (pdu, layout) = C2hData::new(5, (512, 8), extra, &FRAMING).expect("small");
    Row {
        name: "tcp_whole_c2h_data",
        covers: "C2hData",
        bytes: whole.finish(24, b"abcdefgh"),
        encoded: assemble(pdu.as_wire(), &layout, b"abcdefgh"),
        decode: |bytes| decode_whole(Receiver::Host, bytes),
    }
}

fn whole_r2t() -> Row {
    let mut whole = Whole::new(9, 1, 24, 0, 28);
    whole.spec.put(8, &le16(5).0);
    whole.spec.put(10, &le16(6).0);
    whole.spec.put(12, &le32(8192).0);
    whole.spec.put(16, &le32(131_072).0);
    let (pdu, layout) = R2t::new(5, 6, 8192, 131_072, &FRAMING);
    Row {
        name: "tcp_whole_r2t",
        covers: "R2t",
        bytes: whole.finish(24, &[]),
        encoded: assemble(pdu.as_wire(), &layout, &[]),
        decode: |bytes| decode_whole(Receiver::Host, bytes),
    }
}

/// The controller reports a bad HLEN (byte 2) and sends the 8 bytes back; no digest ever.
fn whole_term() -> Row {
    let mut spec = SpecBytes::new(32);
    spec.put(0, &[3, 0, 24, 0, 32, 0, 0, 0, 1, 0, 2, 0, 0, 0]);
    spec.put(24, &[4, 0, 71, 0, 72, 0, 0, 0]);
    let error = PduError::HeaderField {
        kind: PduType::CAPSULE_CMD,
        offset: 2,
        value: 71,
    };
    let frame = TermFrame::new(Receiver::Controller, &error, &[4, 0, 71, 0, 72, 0, 0, 0]);
    Row {
        name: "tcp_whole_c2h_term_req",
        covers: "TermReq",
        bytes: spec.0,
        encoded: frame.as_wire().to_vec(),
        decode: |bytes| decode_whole(Receiver::Host, bytes),
    }
}
