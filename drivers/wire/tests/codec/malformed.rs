//! Hostile headers: each gets the error, status and information that the specification names.

use wire::Error;
use wire::error::NqnProblem;
use wire::fabrics::connect::{ConnectCommand, ConnectData};
use wire::fabrics::discovery::DiscoveryHeader;
use wire::fabrics::property::PropertyGet;
use wire::nvme::dsm::decode_ranges;
use wire::nvme::feature::{NumberOfQueues, TemperatureThreshold};
use wire::nvme::identify::{DescriptorIter, NsDescriptor};
use wire::nvme::register::PropertySize;
use wire::nvme::{Sgl, SglDescriptor};
use wire::tcp::{
    C2hData, CommonHeader, FatalStatus, Framing, Grant, H2cData, IcReq, IcResp, Link, Pdu,
    PduError, PduType, R2t, Receiver, TermFrame, digest,
};
use wire::text::NqnField;

use crate::tcp_rows::{FRAMING, assemble, link, take_apart};

const PLAIN: Framing = Framing {
    header_digest: false,
    data_digest: false,
    pda: 0,
};
use Receiver::{Controller, Host};

fn header(kind: u8, flags: u8, hlen: u8, pdo: u8, plen: u32) -> CommonHeader {
    CommonHeader {
        kind: PduType(kind),
        flags,
        hlen,
        pdo,
        plen: plen.into(),
    }
}

/// (status, information) of the refusal.
fn refused(link: &Link, header: CommonHeader) -> (FatalStatus, u32) {
    match link.frame(&header) {
        Ok(layout) => panic!("{header:?} accepted as {layout:?}"),
        Err(error) => (error.status(), error.information()),
    }
}

const FIELD: FatalStatus = FatalStatus::INVALID_HEADER_FIELD;

#[test]
fn common_header_table() {
    let (target, host) = (link(Controller, PLAIN), link(Host, PLAIN));
    let table = [
        // link    type flags hlen pdo plen          status field
        (&target, header(0x08, 0, 24, 0, 24), (FIELD, 0)),
        (&target, header(0xff, 0, 24, 0, 24), (FIELD, 0)),
        (&target, header(0x05, 0, 24, 0, 24), (FIELD, 0)),
        (&host, header(0x04, 0, 72, 0, 72), (FIELD, 0)),
        (&target, header(0x04, 1, 72, 0, 76), (FIELD, 1)),
        (&target, header(0x04, 2, 72, 0, 72), (FIELD, 1)),
        (&target, header(0x04, 2, 72, 72, 76), (FIELD, 1)),
        (&target, header(0x04, 0, 71, 0, 72), (FIELD, 2)),
        (&target, header(0x04, 0, 0, 0, 72), (FIELD, 2)),
        (&target, header(0x04, 0, 72, 0, 71), (FIELD, 4)),
        (&target, header(0x04, 0, 72, 0, 0), (FIELD, 4)),
        (&target, header(0x04, 0, 72, 72, u32::MAX), (FIELD, 4)),
        (&target, header(0x04, 0, 72, 72, 72 + 8193), (FIELD, 4)),
        (&target, header(0x04, 0, 72, 0, 80), (FIELD, 3)),
        (&target, header(0x04, 0, 72, 71, 80), (FIELD, 3)),
        (&target, header(0x04, 0, 72, 73, 80), (FIELD, 3)),
        (&target, header(0x04, 0, 72, 84, 80), (FIELD, 3)),
        (&target, header(0x04, 0, 72, 255, 80), (FIELD, 3)),
        (&target, header(0x04, 0, 72, 80, 80), (FIELD, 4)),
        (&target, header(0x06, 0, 24, 24, 24), (FIELD, 4)),
        (&target, header(0x06, 0, 25, 24, 32), (FIELD, 2)),
        (&target, header(0x06, 0, 24, 20, 32), (FIELD, 3)),
        (
            &target,
            header(0x06, 0, 24, 24, 24 + 131_073),
            (FatalStatus::LIMIT_EXCEEDED, 0),
        ),
        (
            &host,
            header(0x07, 0, 24, 24, 24 + 131_073),
            (FatalStatus::OUT_OF_RANGE, 0),
        ),
        (&host, header(0x07, 0, 24, 24, 23), (FIELD, 4)),
        (&host, header(0x05, 0, 24, 0, 25), (FIELD, 4)),
        (&host, header(0x05, 1, 24, 0, 28), (FIELD, 1)),
        (&host, header(0x05, 0, 23, 0, 24), (FIELD, 2)),
        (&host, header(0x09, 0, 24, 0, 28), (FIELD, 4)),
        (&host, header(0x09, 0, 32, 0, 32), (FIELD, 2)),
        (&target, header(0x02, 0, 24, 0, 23), (FIELD, 4)),
        (&target, header(0x02, 0, 24, 0, 153), (FIELD, 4)),
        (&target, header(0x02, 0, 28, 0, 28), (FIELD, 2)),
        (&host, header(0x03, 0, 24, 0, 153), (FIELD, 4)),
        (
            &target,
            header(0x00, 0, 128, 0, 128),
            (FatalStatus::SEQUENCE, 0),
        ),
        (
            &host,
            header(0x01, 0, 128, 0, 128),
            (FatalStatus::SEQUENCE, 0),
        ),
    ];
    for (link, header, expected) in table {
        assert_eq!(
            refused(link, header),
            expected,
            "{:?} {header:?}",
            link.receiver
        );
    }
}

#[test]
fn handshake_header_table() {
    let (target, host) = (Link::new(Controller), Link::new(Host));
    let table = [
        (&target, header(0x00, 0, 127, 0, 128), (FIELD, 2)),
        (&target, header(0x00, 0, 128, 0, 127), (FIELD, 4)),
        (&target, header(0x00, 0, 128, 0, 129), (FIELD, 4)),
        (&host, header(0x01, 0, 128, 0, u32::MAX), (FIELD, 4)),
        (&host, header(0x00, 0, 128, 0, 128), (FIELD, 0)),
        (
            &target,
            header(0x04, 0, 72, 0, 72),
            (FatalStatus::SEQUENCE, 0),
        ),
        (
            &target,
            header(0x06, 0, 24, 24, 32),
            (FatalStatus::SEQUENCE, 0),
        ),
        (
            &host,
            header(0x09, 0, 24, 0, 24),
            (FatalStatus::SEQUENCE, 0),
        ),
    ];
    for (link, header, expected) in table {
        assert_eq!(
            refused(link, header),
            expected,
            "{:?} {header:?}",
            link.receiver
        );
    }
}

#[test]
fn digest_header_table() {
    let target = link(Controller, FRAMING);
    let table = [
        (header(0x04, 2, 72, 128, 144), (FIELD, 1)),
        (header(0x04, 1, 72, 128, 144), (FIELD, 1)),
        (header(0x04, 0, 72, 0, 72), (FIELD, 1)),
        (header(0x04, 1, 72, 0, 72), (FIELD, 4)),
        (header(0x04, 3, 72, 76, 144), (FIELD, 3)),
        (header(0x04, 3, 72, 64, 144), (FIELD, 3)),
        (header(0x04, 3, 72, 128, 132), (FIELD, 4)),
        (header(0x04, 3, 72, 128, 130), (FIELD, 4)),
        (header(0x06, 3, 24, 64, 68), (FIELD, 4)),
    ];
    for (header, expected) in table {
        assert_eq!(refused(&target, header), expected, "{header:?}");
    }
}

#[test]
fn the_smallest_and_largest_pdus_are_accepted() {
    let (plain, both) = (link(Controller, PLAIN), link(Controller, FRAMING));
    let accepted = [
        (&plain, header(0x04, 0, 72, 0, 72), 0),
        // PDO is reserved without data, whatever it holds.
        (&plain, header(0x04, 0, 72, 99, 72), 0),
        // Reserved flags are ignored.
        (&plain, header(0x04, 0xf0, 72, 72, 73), 1),
        (&plain, header(0x04, 0, 72, 252, 253), 1),
        (&plain, header(0x04, 0, 72, 72, 72 + 8192), 8192),
        (&plain, header(0x06, 4, 24, 24, 24 + 131_072), 131_072),
        (&both, header(0x04, 1, 72, 0, 76), 0),
        (&both, header(0x04, 3, 72, 128, 133), 1),
        (&both, header(0x02, 0, 24, 0, 152), 128),
        (&both, header(0x02, 0, 24, 0, 24), 0),
    ];
    for (link, header, data) in accepted {
        let layout = link
            .frame(&header)
            .unwrap_or_else(|error| panic!("{header:?}: {error}"));
        assert_eq!(layout.data, data, "{header:?}");
        assert_eq!(
            layout.total(),
            usize::try_from(header.plen.get()).unwrap(),
            "{header:?}"
        );
    }
}

fn kind_of(result: Result<(), PduError>) -> (FatalStatus, u32) {
    let error = result.expect_err("a bad PDU was accepted");
    (error.status(), error.information())
}

#[test]
fn handshake_fields() {
    let mut request = IcReq::new(0, 0, 0);
    request.pfv.set(1);
    assert_eq!(
        kind_of(request.check()),
        (FatalStatus::UNSUPPORTED_PARAMETER, 8)
    );
    assert_eq!(kind_of(IcReq::new(32, 0, 0).check()), (FIELD, 10));
    assert_eq!(IcReq::new(31, 0, u32::MAX).check(), Ok(()));

    let asked = IcReq::new(0, 1, 0);
    let mut response = IcResp::new(0, 1, 4096);
    assert_eq!(response.check(&asked), Ok(()));
    response.pfv.set(1);
    assert_eq!(
        kind_of(response.check(&asked)),
        (FatalStatus::UNSUPPORTED_PARAMETER, 8)
    );
    assert_eq!(kind_of(IcResp::new(32, 0, 4096).check(&asked)), (FIELD, 10));
    assert_eq!(kind_of(IcResp::new(0, 3, 4096).check(&asked)), (FIELD, 11));
    assert_eq!(kind_of(IcResp::new(0, 1, 4092).check(&asked)), (FIELD, 12));
    assert_eq!(kind_of(IcResp::new(0, 1, 4098).check(&asked)), (FIELD, 12));
}

#[test]
fn data_fields() {
    let (good, layout) = H2cData::new(1, 2, (4096, 8), true, &PLAIN).unwrap();
    assert_eq!(good.check(&layout), Ok(()));
    let mut bad = good;
    bad.datal.set(12);
    assert_eq!(kind_of(bad.check(&layout)), (FIELD, 16));
    bad = good;
    bad.datao.set(4098);
    assert_eq!(kind_of(bad.check(&layout)), (FIELD, 12));
    bad.datao.set(u32::MAX - 3);
    assert_eq!(kind_of(bad.check(&layout)), (FatalStatus::OUT_OF_RANGE, 0));

    let (mut c2h, layout) = C2hData::new(1, (0, 8), 0x0c, &PLAIN).unwrap();
    assert_eq!(c2h.check(&layout), Ok(()));
    c2h.ch.flags = 0x08;
    assert_eq!(kind_of(c2h.check(&layout)), (FIELD, 1));

    assert_eq!(kind_of(R2t::new(1, 2, 2, 8, &PLAIN).0.check()), (FIELD, 12));
    assert_eq!(kind_of(R2t::new(1, 2, 0, 0, &PLAIN).0.check()), (FIELD, 16));
    let past_end = R2t::new(1, 2, u32::MAX - 3, 8, &PLAIN).0;
    assert_eq!(kind_of(past_end.check()), (FatalStatus::OUT_OF_RANGE, 0));
}

#[test]
fn grant_refuses_data_that_was_not_asked_for() {
    let grant = Grant::of(&R2t::new(5, 6, 4096, 1024, &PLAIN).0);
    let send = |id, tag, span, last| H2cData::new(id, tag, span, last, &PLAIN).unwrap().0;
    let table = [
        (send(5, 7, (4096, 512), false), (FIELD, 10)),
        (send(4, 6, (4096, 512), false), (FIELD, 8)),
        (
            send(5, 6, (4100, 512), false),
            (FatalStatus::OUT_OF_RANGE, 0),
        ),
        (send(5, 6, (0, 512), false), (FatalStatus::OUT_OF_RANGE, 0)),
        (
            send(5, 6, (4096, 1028), true),
            (FatalStatus::OUT_OF_RANGE, 0),
        ),
        (send(5, 6, (4096, 512), true), (FIELD, 1)),
        (send(5, 6, (4096, 1024), false), (FIELD, 1)),
    ];
    for (pdu, expected) in table {
        let mut tried = grant;
        assert_eq!(kind_of(tried.accept(&pdu).map(|_| ())), expected, "{pdu:?}");
        assert_eq!(tried, grant, "a refused PDU changed the grant");
    }
    let mut taken = grant;
    assert_eq!(taken.accept(&send(5, 6, (4096, 512), false)), Ok(false));
    assert_eq!(taken.accept(&send(5, 6, (4608, 512), true)), Ok(true));
}

#[test]
fn every_flipped_bit_under_a_digest_is_found() {
    let (pdu, layout) = H2cData::new(5, 6, (0, 8), true, &FRAMING).unwrap();
    let good = assemble(pdu.as_wire(), &layout, b"12345678");
    let link = link(Controller, FRAMING);
    assert!(take_apart(&link, &good).is_ok());
    let covered = (0..28).chain(64..76);
    for (byte, bit) in covered.flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
        let mut bad = good.clone();
        bad[byte] ^= 1 << bit;
        // Type 6 with bit 2 flipped is a termination request, which never carries a digest: the
        // connection ends, which is what a bad digest does too.
        let ended = |(pdu, _)| matches!(pdu, Pdu::H2cTermReq(_));
        let noticed = take_apart(&link, &bad).map_or(true, ended);
        assert!(noticed, "bit {bit} of byte {byte} went unnoticed");
    }
}

#[test]
fn digest_errors_are_told_apart() {
    let header_error = digest::check_header(b"header", [1, 2, 3, 4]).unwrap_err();
    assert_eq!(header_error.status(), FatalStatus::HEADER_DIGEST);
    assert_eq!(header_error.information(), 0x0403_0201);
    let data_error = digest::check_data(7, [8, 0, 0, 0]).unwrap_err();
    assert_eq!(
        data_error,
        Error::DataDigest {
            received: 8,
            computed: 7
        }
    );
}

#[test]
fn a_termination_request_carries_at_most_128_bytes_back() {
    let error = PduError::Sequence {
        kind: PduType::IC_REQ,
    };
    for (sent, expected) in [(0, 24), (8, 32), (128, 152), (129, 152), (4096, 152)] {
        let frame = TermFrame::new(Host, &error, &vec![0xab; sent]);
        assert_eq!(frame.as_wire().len(), expected);
        let (pdu, data) = take_apart(&link(Controller, FRAMING), frame.as_wire()).unwrap();
        assert!(matches!(pdu, Pdu::H2cTermReq(term) if term.status() == FatalStatus::SEQUENCE));
        assert_eq!(data.len(), expected - 24);
    }
}

#[test]
fn sgl_types_that_do_not_exist() {
    let known: Vec<u8> = [0x00, 0x01, 0x10, 0x20, 0x21, 0x30, 0x31, 0x40, 0x4f, 0x5a]
        .into_iter()
        .chain(0xf0..=0xff)
        .collect();
    for identifier in 0..=u8::MAX {
        let descriptor = SglDescriptor {
            identifier,
            ..SglDescriptor::zeroed()
        };
        let parsed = descriptor.parse();
        assert_eq!(
            parsed.is_ok(),
            known.contains(&identifier),
            "{identifier:#x}: {parsed:?}"
        );
        match parsed {
            Ok(sgl) => assert_eq!(sgl.encode().identifier, identifier),
            Err(error) if identifier >> 4 <= 5 => {
                assert_eq!(error, Error::SglSubtype { identifier });
            }
            Err(error) => assert_eq!(error, Error::SglType { identifier }),
        }
    }
    // Reserved bytes of a transport descriptor are ignored.
    let mut odd = Sgl::Transport { len_bytes: 8 }.encode();
    odd.tail = [1, 2, 3];
    odd.address.set(77);
    assert_eq!(odd.parse(), Ok(Sgl::Transport { len_bytes: 8 }));
}

fn nqn_problem(bytes: &[u8]) -> Option<NqnProblem> {
    let mut field = NqnField::default();
    field.0[..bytes.len()].copy_from_slice(bytes);
    match field.parse("SUBNQN") {
        Ok(_) => None,
        Err(Error::Nqn {
            problem,
            field: "SUBNQN",
        }) => Some(problem),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn names_that_are_not() {
    let longest = [b"nqn.".to_vec(), vec![b'x'; 219]].concat();
    let table = [
        (b"nqn.2026-11.io.bedplate:demo".to_vec(), None),
        (longest.clone(), None),
        (
            [longest.clone(), vec![b'x']].concat(),
            Some(NqnProblem::TooLong),
        ),
        (
            [longest, vec![b'x'; 33]].concat(),
            Some(NqnProblem::TooLong),
        ),
        (b"".to_vec(), Some(NqnProblem::Empty)),
        (
            b"iqn.2026-11.io.bedplate:demo".to_vec(),
            Some(NqnProblem::Prefix),
        ),
        (b"nqn.2026-11\n".to_vec(), Some(NqnProblem::Control)),
        (b"nqn.\xff\xfe".to_vec(), Some(NqnProblem::NotUtf8)),
        (b"nqn.a\0garbage after the end".to_vec(), None),
    ];
    for (bytes, expected) in table {
        assert_eq!(
            nqn_problem(&bytes),
            expected,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert!(ConnectData::new([0; 16], 0xffff, "nqn.a", "host").is_err());
}

#[test]
fn lists_and_small_fields() {
    assert!(decode_ranges(&[0; 4096], 0).is_err());
    assert!(decode_ranges(&[0; 8192], 257).is_err());
    assert!(decode_ranges(&[0; 4095], 256).is_err());
    assert_eq!(decode_ranges(&[0; 4096], 256).map(<[_]>::len), Ok(256));
    assert!(ConnectCommand::new(1, 1, 1, 0).is_err());
    assert!(ConnectCommand::new(1, 1, 65_537, 0).is_err());
    assert!(ConnectCommand::new(1, 1, 65_536, 0).is_ok());
    assert!(NumberOfQueues::decode(0xffff).is_err());
    assert!(NumberOfQueues::decode(0xffff_0000).is_err());
    assert!(TemperatureThreshold::decode(2 << 20).is_err());
    assert!(
        PropertyGet::new(1, PropertySize(2), 0)
            .size_bytes()
            .is_err()
    );
    let mut header = DiscoveryHeader::new(1, 1);
    assert!(DiscoveryHeader::check(header.as_wire()).is_ok());
    header.recfmt.set(1);
    assert!(DiscoveryHeader::check(header.as_wire()).is_err());
    assert!(DiscoveryHeader::check(&[0; 1023]).is_err());
}

#[test]
fn descriptor_lists_that_lie() {
    fn walk(bytes: &[u8]) -> Result<Vec<NsDescriptor<'_>>, Error> {
        DescriptorIter::new(bytes).collect()
    }
    assert_eq!(walk(&[]).map(|list| list.len()), Ok(0));
    assert_eq!(
        walk(&[1, 8, 0]).map(|list| list.len()),
        Ok(0),
        "no room for a header"
    );
    assert!(walk(&[3, 16, 0, 0, 1, 2, 3]).is_err(), "value cut short");
    assert!(
        walk(&[1, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7]).is_err(),
        "EUI64 of 7 bytes"
    );
    assert!(walk(&[4, 2, 0, 0, 1, 2]).is_err(), "CSI of 2 bytes");
    assert!(walk(&[4, 0, 0, 0]).is_err(), "CSI of 0 bytes");
    // An error ends the walk: no endless loop.
    assert_eq!(DescriptorIter::new(&[4, 0, 0, 0, 4, 1, 0, 0, 0]).count(), 1);
}

/// `Pdu::parse` is the only gate a receiver uses: each type's own check must sit behind it.
#[test]
fn parse_applies_the_check_of_every_type() {
    let parsed = |link: &Link, bytes: &[u8]| -> (FatalStatus, u32) {
        let layout = link.frame(CommonHeader::decode(bytes).unwrap()).unwrap();
        match Pdu::parse(bytes, &layout) {
            Err(Error::Pdu(error)) => (error.status(), error.information()),
            other => panic!("{other:?}"),
        }
    };
    let (target, host) = (link(Controller, PLAIN), link(Host, PLAIN));
    let request = IcReq::new(32, 0, 0);
    assert_eq!(
        parsed(&Link::new(Controller), request.as_wire()),
        (FIELD, 10)
    );
    let r2t = R2t::new(1, 2, 2, 8, &PLAIN).0;
    assert_eq!(parsed(&host, r2t.as_wire()), (FIELD, 12));
    let mut h2c = H2cData::new(1, 2, (0, 8), true, &PLAIN).unwrap().0;
    h2c.datal.set(4);
    assert_eq!(parsed(&target, h2c.as_wire()), (FIELD, 16));
    let mut c2h = C2hData::new(1, (0, 8), 0, &PLAIN).unwrap().0;
    c2h.datal.set(4);
    assert_eq!(parsed(&host, c2h.as_wire()), (FIELD, 16));
}
