//! Properties: what is encoded decodes to the same, and no bytes at all make a decoder panic.

use proptest::array::{uniform8, uniform16};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::fabrics::connect::{ConnectCommand, ConnectData, ConnectResponse, InvalidParameter};
use wire::nvme::command::{
    Abort, AsyncEvent, AsyncEventType, DatasetManagement, GetFeatures, GetLogPage, Identify,
    NvmOpcode, ReadWrite, SetFeatures, Sqe, WriteZeroes,
};
use wire::nvme::dsm::decode_ranges;
use wire::nvme::feature::{
    Arbitration, ErrorRecovery, FeatureId, FeatureSelect, NumberOfQueues, PowerManagement,
    TemperatureThreshold,
};
use wire::nvme::identify::{Cns, Csi, DescriptorIter, DescriptorWriter, NsDescriptor, NsidType};
use wire::nvme::log::LogId;
use wire::nvme::register::{Cap, Config, ControllerStatus, Version};
use wire::nvme::{Sgl, SglDescriptor, Status};
use wire::tcp::{
    CommonHeader, Framing, Grant, H2cData, Layout, Link, Pdu, PduType, R2t, Receiver, digest,
};
use wire::text::{Ascii, NqnField};

use crate::golden::rows;
use crate::spec_bytes::crc32c_bitwise;
use crate::tcp_rows::{link, rebuild_with, take_apart};

const IN: Sgl = Sgl::Transport { len_bytes: 8 };

fn framing() -> impl Strategy<Value = Framing> {
    (any::<bool>(), any::<bool>(), 0u8..=31).prop_map(|(header_digest, data_digest, pda)| Framing {
        header_digest,
        data_digest,
        pda,
    })
}

fn sgl() -> impl Strategy<Value = Sgl> {
    let (address, len_bytes) = (any::<u64>, any::<u32>);
    prop_oneof![
        (address(), len_bytes())
            .prop_map(|(address, len_bytes)| Sgl::DataBlock { address, len_bytes }),
        (address(), len_bytes())
            .prop_map(|(offset, len_bytes)| Sgl::InCapsule { offset, len_bytes }),
        len_bytes().prop_map(|len_bytes| Sgl::BitBucket { len_bytes }),
        (address(), len_bytes(), any::<bool>(), any::<bool>()).prop_map(
            |(address, len_bytes, offset, last)| Sgl::Segment {
                address,
                len_bytes,
                offset,
                last
            }
        ),
        (address(), 0u32..1 << 24, any::<u32>(), any::<bool>()).prop_map(
            |(address, len_bytes, key, invalidate)| Sgl::Keyed {
                address,
                len_bytes,
                key,
                invalidate
            }
        ),
        len_bytes().prop_map(|len_bytes| Sgl::Transport { len_bytes }),
        (0u8..16).prop_map(|subtype| Sgl::Vendor { subtype }),
    ]
}

fn read_write() -> impl Strategy<Value = ReadWrite> {
    (
        (
            any::<u64>(),
            any::<u16>(),
            any::<bool>(),
            any::<bool>(),
            0u8..16,
            any::<bool>(),
        ),
        (
            0u8..16,
            any::<u8>(),
            any::<u16>(),
            any::<u32>(),
            any::<u32>(),
        ),
    )
        .prop_map(|(range, tags)| ReadWrite {
            slba: range.0,
            nlb_zero_based: range.1,
            fua: range.2,
            limited_retry: range.3,
            prinfo: range.4,
            storage_tag_check: range.5,
            directive_type: tags.0,
            dsm_hints: tags.1,
            directive_specific: tags.2,
            reference_tag: tags.3,
            application_tag: tags.4,
        })
}

proptest! {
    #[test]
    fn io_commands(rw in read_write(), cid: u16, nsid: u32, opcode in 0usize..4, flags: [bool; 4]) {
        let opcodes =
            [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE, NvmOpcode::VERIFY];
        let opcode = opcodes[opcode];
        let sqe = rw.encode(opcode, cid, nsid, Some(IN));
        prop_assert_eq!(ReadWrite::decode(&sqe), Ok(rw));
        prop_assert_eq!((sqe.cid.get(), sqe.nsid.get()), (cid, nsid));
        prop_assert_eq!(rw.end_lba().is_none(), rw.slba > u64::MAX - u64::from(rw.block_count()));

        let zeroes = WriteZeroes {
            slba: rw.slba, nlb_zero_based: rw.nlb_zero_based, deallocate: flags[0],
            fua: flags[1], limited_retry: flags[2], prinfo: rw.prinfo,
        };
        prop_assert_eq!(WriteZeroes::decode(&zeroes.encode(cid, nsid)), Ok(zeroes));
        let dsm = DatasetManagement {
            nr_zero_based: rw.dsm_hints, integral_read: flags[0], integral_write: flags[1],
            deallocate: flags[3],
        };
        prop_assert_eq!(DatasetManagement::decode(&dsm.encode(cid, nsid, IN)), Ok(dsm));
    }

    #[test]
    fn admin_commands(bytes: [u8; 4], words: [u16; 4], numd: u32, lpo: u64, flags: [bool; 2]) {
        let uuid_index = bytes[2] & 0x7f;
        let identify = Identify {
            cns: Cns(bytes[0]), cntid: words[0], cnssid: words[1], csi: Csi(bytes[1]), uuid_index,
        };
        prop_assert_eq!(Identify::decode(&identify.encode(words[2], numd, IN)), Ok(identify));
        let log = GetLogPage {
            lid: LogId(bytes[0]), lsp: bytes[3] & 0x7f, rae: flags[0], numd_zero_based: numd,
            lsi: words[0], lpo, offset_is_index: flags[1], csi: Csi(bytes[1]), uuid_index,
        };
        prop_assert_eq!(GetLogPage::decode(&log.encode(words[2], numd, IN)), Ok(log));
        prop_assert_eq!(log.len_bytes(), 4 * (u64::from(numd) + 1));
        let get = GetFeatures {
            fid: FeatureId(bytes[0]), select: FeatureSelect(bytes[1] & 7), cdw11: numd,
        };
        prop_assert_eq!(GetFeatures::decode(&get.encode(words[2], 0, Some(IN))), Ok(get));
        let set = SetFeatures {
            fid: FeatureId(bytes[0]), save: flags[0], cdw11: numd, cdw12: !numd,
        };
        prop_assert_eq!(SetFeatures::decode(&set.encode(words[2], 0, None)), Ok(set));
        let abort = Abort { sqid: words[0], cid: words[1] };
        prop_assert_eq!(Abort::decode(&abort.encode(words[2])), Ok(abort));
    }

    #[test]
    fn small_dwords(dword: u32, cntlid: u16) {
        let event = AsyncEvent {
            event_type: AsyncEventType(dword as u8 & 7), info: (dword >> 8) as u8,
            lid: LogId((dword >> 16) as u8),
        };
        prop_assert_eq!(AsyncEvent::decode(event.encode()), event);
        prop_assert_eq!(ConnectResponse::decode(dword).encode(), dword);
        let invalid = InvalidParameter { offset: cntlid, in_data: dword & 1 != 0 };
        prop_assert_eq!(InvalidParameter::decode(invalid.encode()), invalid);
        if let Ok(queues) = NumberOfQueues::decode(dword) {
            prop_assert_eq!(queues.encode(), dword);
        }
        prop_assert_eq!(Arbitration::decode(dword).encode(), dword & 0xffff_ff07);
        prop_assert_eq!(PowerManagement::decode(dword).encode(), dword & 0xff);
        prop_assert_eq!(ErrorRecovery::decode(dword).encode(), dword & 0x1_ffff);
        if let Ok(threshold) = TemperatureThreshold::decode(dword) {
            prop_assert_eq!(threshold.encode(), dword & 0x3f_ffff);
        }
    }

    #[test]
    fn status_field(field: u16, phase: bool) {
        let status = Status::from_field(field);
        prop_assert_eq!(status.field(field & 1 != 0), field);
        let built = Status::build(status.sct(), status.sc(), status.dnr(), status.more());
        let delayed = Status::from_field(built).with_retry_delay(status.retry_delay());
        prop_assert_eq!(delayed, status);
        prop_assert_eq!(status.field(phase) & 1 != 0, phase);
        let shown = format!("{status:?}");
        prop_assert_eq!(shown.contains("do-not-retry"), status.dnr());
    }

    #[test]
    fn registers_keep_other_bits(bits: u64, value: u64) {
        let cap = Cap(bits);
        prop_assert_eq!(cap.with_timeout_500ms(value).timeout_500ms(), value & 0xff);
        prop_assert_eq!(cap.with_crms(value).with_crms(cap.crms()), cap);
        prop_assert_eq!(cap.with_mqes(value).with_mqes(cap.mqes()), cap);
        let cc = Config(bits as u32);
        prop_assert_eq!(cc.with_shn(value as u32).shn(), value as u32 & 3);
        prop_assert_eq!(cc.with_iocqes(value as u32).with_iocqes(cc.iocqes()), cc);
        let csts = ControllerStatus(bits as u32);
        prop_assert_eq!(csts.with_shst(value as u32).with_shst(csts.shst()), csts);
        let version = Version(bits as u32);
        prop_assert_eq!(Version::default().with_major(version.major()).with_minor(version.minor())
            .with_tertiary(version.tertiary()), version);
    }

    #[test]
    fn sgl_descriptors(sgl in sgl()) {
        prop_assert_eq!(sgl.encode().parse(), Ok(sgl));
    }

    #[test]
    fn whole_pdus_of_any_framing(
        framing in framing(), data in vec(any::<u8>(), 1..600), id: u16, tag: u16, offset: u16,
        last: bool,
    ) {
        let span = (u32::from(offset) * 4, data.len() as u32);
        let (pdu, layout) = H2cData::new(id, tag, span, last, &framing).unwrap();
        prop_assert_eq!(layout.total(), pdu.ch.plen.get() as usize);
        prop_assert_eq!(layout.data_offset() % framing.align_bytes(), 0);
        let bytes = rebuild_with(&Pdu::H2cData(&pdu), &data, &framing);
        let target = link(Receiver::Controller, framing);
        prop_assert_eq!(target.frame(&pdu.ch), Ok(layout));
        let (back, back_data) = take_apart(&target, &bytes).unwrap();
        prop_assert_eq!(back, Pdu::H2cData(&pdu));
        prop_assert_eq!(back_data, &data[..]);
        prop_assert_eq!(rebuild_with(&back, back_data, &framing), bytes);
    }

    /// Any 8 bytes: refused, or a layout that adds up to PLEN and keeps every limit.
    #[test]
    fn frame_of_any_header(
        bytes: [u8; 8], kind in 0u8..12, framing in framing(), host: bool, ready: bool, keep: bool,
    ) {
        let mut header = *CommonHeader::decode(&bytes).unwrap();
        if keep {
            // Mostly right headers reach deeper than random ones.
            header.kind = PduType(kind);
            header.hlen = if kind == 4 { 72 } else if kind < 2 { 128 } else { 24 };
            header.plen.set(header.plen.get() & 0xfff);
        }
        let receiver = if host { Receiver::Host } else { Receiver::Controller };
        let link = Link { ready, ..link(receiver, framing) };
        match link.frame(&header) {
            Ok(layout) => {
                prop_assert_eq!(layout.total(), header.plen.get() as usize);
                prop_assert_eq!(layout.header, usize::from(header.hlen));
                prop_assert!(layout.data <= link.max_data_bytes as usize);
                if layout.data > 0 && header.kind.0 > 3 {
                    prop_assert_eq!(layout.data_offset(), usize::from(header.pdo));
                }
            }
            Err(error) => prop_assert!((1..=6).contains(&error.status().0)),
        }
    }

    #[test]
    fn no_bytes_panic_any_decoder(bytes in vec(any::<u8>(), 0..200), name: u8) {
        let rows = rows();
        let row = &rows[usize::from(name) % rows.len()];
        let _ = (row.decode)(&bytes);
        let mut bent = row.bytes.clone();
        for (at, byte) in bytes.iter().enumerate() {
            let at = at * 37 % bent.len();
            bent[at] ^= byte;
        }
        if let Ok(decoded) = (row.decode)(&bent) {
            prop_assert!(!decoded.debug.is_empty());
        }
    }

    #[test]
    fn crc32c_is_castagnoli_in_pieces_too(data in vec(any::<u8>(), 0..700), cut: u16) {
        let expected = crc32c_bitwise(&data);
        prop_assert_eq!(digest::crc32c(&data), expected);
        let cut = usize::from(cut) % (data.len() + 1);
        let mut pieces = digest::Crc32c::new();
        pieces.update(&data[..cut]);
        prop_assert_eq!(pieces.value(), crc32c_bitwise(&data[..cut]));
        pieces.update(&data[cut..]);
        prop_assert_eq!(pieces.value(), expected);
    }

    #[test]
    fn grants_take_exactly_what_they_asked_for(
        pieces in vec(1u32..2000, 1..20), start in 0u32..9999,
    ) {
        let total: u32 = pieces.iter().map(|len| len * 4).sum();
        let framing = Framing::default();
        let mut grant = Grant::of(&R2t::new(1, 2, start * 4, total, &framing).0);
        let mut offset = start * 4;
        for (index, len) in pieces.iter().map(|len| len * 4).enumerate() {
            let last = index + 1 == pieces.len();
            let (pdu, _) = H2cData::new(1, 2, (offset, len), last, &framing).unwrap();
            prop_assert_eq!(grant.accept(&pdu), Ok(last));
            offset += len;
        }
        prop_assert_eq!(grant.remaining_bytes, 0);
    }

    #[test]
    fn descriptor_lists(
        eui in uniform8(any::<u8>()), uuid in uniform16(any::<u8>()), kind in 5u8..,
        value in vec(any::<u8>(), 0..260),
    ) {
        let list = [
            NsDescriptor::Eui64(eui), NsDescriptor::Nguid(uuid), NsDescriptor::Uuid(uuid),
            NsDescriptor::Csi(Csi::NVM), NsDescriptor::Unknown(NsidType(kind), &value),
        ];
        let mut writer = DescriptorWriter::new();
        let pushed: Vec<_> = list.iter().map(|descriptor| writer.push(descriptor)).collect();
        let refused = pushed.iter().filter(|result| result.is_err()).count();
        prop_assert_eq!(refused, usize::from(value.len() > 255));
        let back: Result<Vec<_>, _> = DescriptorIter::new(writer.as_wire()).collect();
        prop_assert_eq!(&back.unwrap()[..], &list[..if value.len() > 255 { 4 } else { 5 }]);
    }

    #[test]
    fn names_and_text(name in "nqn\\.[ -~]{0,219}", text in "[ -~]{0,20}") {
        let data = ConnectData::new([7; 16], 1, &name, &name).unwrap();
        prop_assert_eq!(data.subsystem_nqn(), Ok(name.as_str()));
        prop_assert_eq!(data.host_nqn(), Ok(name.as_str()));
        let field = Ascii::<20>::new(&text);
        prop_assert_eq!(field.as_str(), text.trim_end_matches(' '));
    }

    #[test]
    fn any_name_field(bytes in vec(any::<u8>(), 256)) {
        let field = NqnField(bytes.try_into().unwrap());
        if let Ok(name) = field.parse("SUBNQN") {
            prop_assert!(name.len() <= 223 && name.starts_with("nqn."));
            let again = NqnField::new(name, "SUBNQN").unwrap();
            prop_assert_eq!(again.parse("SUBNQN"), Ok(name));
        }
    }

    #[test]
    fn dsm_ranges(bytes in vec(any::<u8>(), 0..5000), count in 0usize..300) {
        match decode_ranges(&bytes, count) {
            Ok(ranges) => prop_assert_eq!(ranges.len(), count),
            Err(_) => prop_assert!(count == 0 || count > 256 || bytes.len() < 16 * count),
        }
    }

    #[test]
    fn any_sqe(bytes in vec(any::<u8>(), 64)) {
        let sqe = Sqe::decode(&bytes).unwrap();
        if let Ok(sgl) = SglDescriptor::parse(&sqe.dptr) {
            prop_assert_eq!(sgl.encode().parse(), Ok(sgl));
        }
        if let Ok(rw) = ReadWrite::decode(sqe) {
            let again = rw.encode(sqe.nvm_opcode(), sqe.cid.get(), sqe.nsid.get(), None);
            prop_assert_eq!(ReadWrite::decode(&again), Ok(rw));
        }
        if let Ok(connect) = ConnectCommand::from_sqe(sqe) {
            prop_assert_eq!(connect.to_sqe(), *sqe);
        }
    }
}

#[test]
fn crc32c_check_value() {
    assert_eq!(digest::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(digest::crc32c(&[]), 0);
}

#[test]
fn every_alignment_of_every_header_fits_a_byte() {
    for (hlen, pda) in [24, 72]
        .into_iter()
        .flat_map(|hlen| (0..=31).map(move |pda| (hlen, pda)))
    {
        let framing = Framing {
            header_digest: true,
            data_digest: true,
            pda,
        };
        let layout = Layout::to_send(hlen, 1, &framing);
        assert!(
            layout.common_header(PduType::CAPSULE_CMD, 0).is_ok(),
            "hlen {hlen} pda {pda}"
        );
        assert!(layout.pad < framing.align_bytes());
    }
}
