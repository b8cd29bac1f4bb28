//! iSCSI framing, digests and text: tables of what is refused, properties of what is taken.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::text::{Pair, Pairs, TextError, TextWriter, decode_binary, value_limit};
use wire::iscsi::{
    AHS_MAX_BYTES, Bhs, DEFAULT_MAX_DATA_BYTES, DataOut, Digests, Extent, Layout, Link, LoginFlags,
    NO_TAG, Opcode, PduError, Receiver, RejectReason, Residual, Stage, digest, is_before, pdu,
};

use crate::spec_bytes::crc32c_bitwise;

const BOTH: Digests = Digests {
    header: true,
    data: true,
};

fn full(receiver: Receiver, digests: Digests) -> Link {
    Link {
        receiver,
        full_feature: true,
        digests,
        max_data_bytes: 262_144,
        max_ahs_bytes: 32,
    }
}

fn header(opcode: u8, ahs_words: u8, data_bytes: usize) -> Bhs {
    Bhs {
        opcode,
        ahs_words,
        data_len: pdu::data_len(data_bytes),
        ..Bhs::zeroed()
    }
}

#[test]
fn every_opcode_has_its_direction_and_time() {
    let from_initiator = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10];
    let from_target = [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f];
    for opcode in 0..0x40 {
        for (receiver, known) in [
            (Receiver::Target, &from_initiator[..]),
            (Receiver::Initiator, &from_target[..]),
        ] {
            let is_login = opcode & 0x1f == 0x03;
            let bhs = header(opcode, 0, 0);
            let (known, refusal) = (known.contains(&opcode), Opcode(opcode));
            let late = full(receiver, Digests::default()).frame(&bhs);
            let early = Link::new(receiver).frame(&bhs);
            let taken = Ok(Layout::to_send(0, 0, Digests::default()));
            let phase = Err(PduError::Phase { opcode: refusal });
            let expected = match (known, is_login) {
                (false, _) => [Err(PduError::Opcode { opcode: refusal }); 2],
                (true, true) => [taken, phase],
                (true, false) => [phase, taken],
            };
            assert_eq!([early, late], expected, "opcode {opcode:#x}, {receiver:?}");
        }
    }
}

#[test]
fn lengths_are_bounded() {
    let link = full(Receiver::Target, BOTH);
    let table = [
        // opcode ahs data      reason of the refusal
        (0x01, 8, 262_144, None),
        (0x41, 0, 0, None),
        (0x01, 9, 0, Some((36, 32))),
        (0x05, 1, 0, Some((4, 0))),
        (0x05, 0, 262_145, Some((262_145, 262_144))),
        (0x05, 0, 0xff_ffff, Some((0xff_ffff, 262_144))),
        (0x02, 0, 1, Some((1, 0))),
        (0x06, 0, 1, Some((1, 0))),
        (0x10, 0, 4, Some((4, 0))),
        (0x1c, 255, 0, Some((AHS_MAX_BYTES as u32, 32))),
    ];
    for (opcode, ahs_words, data, refused) in table {
        let bhs = header(opcode, ahs_words, data);
        let found = link.frame(&bhs).err().map(|error| {
            assert!(error.is_fatal(), "{error:?}");
            assert_eq!(error.reason(), RejectReason::PROTOCOL_ERROR);
            match error {
                PduError::Ahs {
                    len_bytes, limit, ..
                }
                | PduError::Data {
                    len_bytes, limit, ..
                } => (len_bytes, limit),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(found, refused, "opcode {opcode:#x}");
    }
    let login = Link::new(Receiver::Target);
    let limit = DEFAULT_MAX_DATA_BYTES as usize;
    assert!(login.frame(&header(0x43, 0, limit)).is_ok());
    assert!(login.frame(&header(0x43, 0, limit + 1)).is_err());
    assert!(login.frame(&header(0x43, 1, 0)).is_err());
}

#[test]
fn an_unknown_pdu_can_be_skipped() {
    let link = full(Receiver::Target, BOTH);
    let bhs = header(0x1d, 2, 5);
    let error = link.frame(&bhs).expect_err("unknown");
    assert!(!error.is_fatal());
    assert_eq!(error.reason(), RejectReason::COMMAND_NOT_SUPPORTED);
    let layout = link.measure(&bhs).expect("its lengths are fine");
    assert_eq!(layout.total(), 48 + 8 + 4 + 5 + 3 + 4);
}

#[test]
fn what_ends_a_connection_and_what_is_rejected() {
    let opcode = Opcode::DATA_OUT;
    let field = PduError::Field {
        opcode,
        offset: 2,
        value: 1,
    };
    assert_eq!(field.reason(), RejectReason::INVALID_PDU_FIELD);
    assert!(!field.is_fatal());
    let data = digest::check_data(1, [2, 0, 0, 0]).expect_err("differs");
    assert_eq!(data.reason(), RejectReason::DATA_DIGEST_ERROR);
    assert!(!data.is_fatal());
    assert!(
        digest::check_header(b"x", [0; 4])
            .expect_err("differs")
            .is_fatal()
    );
    assert!(PduError::Phase { opcode }.is_fatal());
}

/// The vectors of RFC 7143 appendix A.4: 32 bytes, and the digest in the order it is sent.
#[test]
fn digests_are_those_of_the_standard() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    let table: [(&[u8], [u8; 4]); 4] = [
        (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
        (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
        (&ascending, [0x4e, 0x79, 0xdd, 0x46]),
        (&descending, [0x5c, 0xdb, 0x3f, 0x11]),
    ];
    for (bytes, expected) in table {
        assert_eq!(digest::header_digest(bytes), expected);
        assert_eq!(digest::data_digest(bytes), expected);
        assert_eq!(digest::check_header(bytes, expected), Ok(()));
        assert_eq!(digest::check_data(crc32c_bitwise(bytes), expected), Ok(()));
    }
}

#[test]
fn residuals_say_how_much_is_missing() {
    let table = [
        (512, 512, Residual::None, (0, 0)),
        (1024, 512, Residual::Underflow(512), (2, 512)),
        (0, 36, Residual::Overflow(36), (4, 36)),
    ];
    for (expected, actual, residual, (flag, count)) in table {
        assert_eq!(Residual::of(expected, actual), residual);
        assert_eq!(residual.encode(), (flag, count));
        assert_eq!(Residual::decode(0x80 | flag, count), residual);
    }
}

#[test]
fn serial_numbers_wrap() {
    for (a, b, before) in [
        (1, 2, true),
        (2, 1, false),
        (5, 5, false),
        (u32::MAX, 0, true),
        (0, u32::MAX, false),
        (0xffff_fff0, 0x10, true),
    ] {
        assert_eq!(is_before(a, b), before, "{a} {b}");
    }
}

fn text(bytes: &[u8]) -> Result<Vec<(String, String)>, TextError> {
    Pairs::new(bytes)
        .map(|pair| pair.map(|Pair { key, value }| (key.to_owned(), value.to_owned())))
        .collect()
}

#[test]
fn malformed_text_is_refused() {
    let long_key = [b"A".repeat(64), b"=1\0".to_vec()].concat();
    let long_value = [b"Key=".to_vec(), b"v".repeat(256), vec![0]].concat();
    let long_secret = [b"CHAP_R=0x".to_vec(), b"0".repeat(8191), vec![0]].concat();
    let table: [(&[u8], TextError); 14] = [
        (b"A=1", TextError::Unterminated { at: 0 }),
        (b"A=1\0B=2", TextError::Unterminated { at: 4 }),
        (b"A", TextError::Unterminated { at: 0 }),
        (b"A\0", TextError::NoValue { at: 0 }),
        (b"A=1\0B\0", TextError::NoValue { at: 4 }),
        (b"=1\0", TextError::Key { at: 0 }),
        (b"1A=1\0", TextError::Key { at: 0 }),
        (b"A B=1\0", TextError::Key { at: 0 }),
        (b"A\xff=1\0", TextError::Key { at: 0 }),
        (&long_key, TextError::Key { at: 0 }),
        (b"A=\xff\0", TextError::Value { at: 0 }),
        (b"A=1\n\0", TextError::Value { at: 0 }),
        (
            &long_value,
            TextError::TooLong {
                at: 0,
                len_bytes: 256,
            },
        ),
        (
            &long_secret,
            TextError::TooLong {
                at: 0,
                len_bytes: 8193,
            },
        ),
    ];
    for (bytes, error) in table {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(bytes), Err(error), "{shown:?}");
        let mut pairs = Pairs::new(bytes);
        while let Some(Ok(_)) = pairs.next() {}
        assert!(pairs.next().is_none(), "an error ends {shown:?}");
    }
}

#[test]
fn text_at_its_limits_is_taken() {
    let key = "A".repeat(63);
    let value = "v".repeat(255);
    let secret = "0".repeat(8192);
    let table = [
        (String::new(), vec![]),
        ("\0\0\0".to_owned(), vec![]),
        ("A=\0".to_owned(), vec![("A", "")]),
        ("A=1=2\0".to_owned(), vec![("A", "1=2")]),
        ("A=1\0\0\0B=2\0\0".to_owned(), vec![("A", "1"), ("B", "2")]),
        (
            "X-com.example.key+1@_=ü\0".to_owned(),
            vec![("X-com.example.key+1@_", "ü")],
        ),
        (format!("{key}={value}\0"), vec![(&*key, &*value)]),
        (format!("CHAP_R={secret}\0"), vec![("CHAP_R", &*secret)]),
    ];
    for (bytes, expected) in table {
        let expected: Vec<(String, String)> = expected
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(text(bytes.as_bytes()), Ok(expected));
    }
}

proptest! {
    #[test]
    fn a_layout_adds_up(
        ahs_words in 0u8..=8, data in 0usize..=262_144, header in any::<bool>(), sums in any::<bool>()
    ) {
        let digests = Digests { header, data: sums };
        let link = full(Receiver::Target, digests);
        let layout = link.frame(&self::header(0x01, ahs_words, data)).expect("within the limits");
        prop_assert_eq!(layout, Layout::to_send(usize::from(ahs_words) * 4, data, digests));
        prop_assert_eq!(layout.total() % 4, 0);
        prop_assert!(layout.padding < 4);
        prop_assert_eq!(layout.data_digest > 0, sums && data > 0);
        prop_assert_eq!(layout.header_digest > 0, header);
        prop_assert_eq!(layout.data, data);
        prop_assert_eq!(layout.header(), 48 + usize::from(ahs_words) * 4);
    }

    #[test]
    fn any_header_is_judged(bytes in proptest::array::uniform32(any::<u8>()), more in any::<[u8; 16]>()) {
        let bytes = [&bytes[..], &more[..]].concat();
        let bhs = Bhs::decode(&bytes).expect("48 bytes");
        for receiver in [Receiver::Target, Receiver::Initiator] {
            for link in [Link::new(receiver), full(receiver, BOTH)] {
                match link.frame(bhs) {
                    Ok(layout) => prop_assert!(layout.total() <= 48 + 32 + 4 + 262_144 + 4),
                    Err(error) => prop_assert!(error.reason().name().is_some()),
                }
            }
        }
    }

    #[test]
    fn a_data_digest_covers_data_and_padding(data in vec(any::<u8>(), 0..64)) {
        let mut padded = data.clone();
        padded.resize(data.len().next_multiple_of(4), 0);
        prop_assert_eq!(digest::data_digest(&data), crc32c_bitwise(&padded).to_le_bytes());
    }

    #[test]
    fn written_text_reads_the_same(
        pairs in vec(("[A-Za-z][A-Za-z0-9.+@_-]{0,62}", "[ -~]{0,255}"), 0..8),
        secret in vec(any::<u8>(), 1..64)
    ) {
        let mut buffer = [0; 4096];
        let mut written = TextWriter::new(&mut buffer);
        for (key, value) in &pairs {
            written.pair(key, value).expect("fits");
        }
        written.binary("CHAP_C", &secret).expect("fits");
        let read = text(written.bytes()).expect("our own text");
        let (last, first) = read.split_last().expect("one at least");
        prop_assert_eq!(first, &pairs[..]);
        let mut into = [0; 64];
        let len = decode_binary(&last.1, &mut into).expect("our own value");
        prop_assert_eq!(&into[..len], &secret[..]);
    }

    #[test]
    fn any_text_is_judged(bytes in vec(any::<u8>(), 0..512)) {
        for Pair { key, value } in Pairs::new(&bytes).flatten() {
            prop_assert!(!key.is_empty() && key.len() <= 63);
            prop_assert!(value.len() <= value_limit(key));
            prop_assert!(decode_binary(value, &mut [0; 16]).is_none_or(|len| len <= 16));
        }
    }

    #[test]
    fn login_flags_survive(transit in any::<bool>(), continues in any::<bool>(), csg in 0u8..4, nsg in 0u8..4) {
        let form = LoginFlags { transit, continues, current: Stage(csg), next: Stage(nsg) };
        let expected = if transit { form } else { LoginFlags { next: Stage(0), ..form } };
        prop_assert_eq!(LoginFlags::decode(form.encode()), expected);
    }

    #[test]
    fn extents_survive(sn in any::<u32>(), offset in any::<u32>(), len_bytes in 0u32..1 << 24) {
        let built = DataOut::new(1, NO_TAG, [0; 8], Extent { sn, offset, len_bytes }, false, 0);
        let bhs = Bhs::decode(built.as_wire()).expect("48 bytes");
        prop_assert_eq!(bhs.data_bytes(), len_bytes as usize);
        prop_assert!(!bhs.is_final() && !bhs.is_immediate());
        prop_assert_eq!((built.data_sn.get(), built.buffer_offset.get()), (sn, offset));
    }
}
