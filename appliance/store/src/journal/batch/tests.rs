use super::*;
use proptest::prelude::*;

const IDENTITY: Identity = Identity {
    volume_uuid: *b"0123456789abcdef",
    salt: 0x5a17,
};

const HEADER: Header = Header {
    epoch: 3,
    sequence: 41,
    position: 0x12_3000,
    previous_end: 0x12_2000,
    first_lsn: 1000,
    durable_lsn: 990,
};

fn write(first_page: u64, page_count: u32, payload_block: u32) -> Record {
    let cluster = Cluster(0);
    let kind = RecordKind::Write;
    Record {
        kind,
        first_page,
        page_count,
        payload_block,
        cluster,
        page_in_cluster: 0,
    }
}

fn zero(first_page: u64, page_count: u32) -> Record {
    Record {
        kind: RecordKind::Zero,
        ..write(first_page, page_count, 0)
    }
}

fn direct(first_page: u64, page_count: u32, cluster: u32) -> Record {
    Record {
        kind: RecordKind::Direct,
        cluster: Cluster(cluster),
        page_in_cluster: (first_page % CLUSTER_BLOCKS as u64) as u32,
        ..write(first_page, page_count, 0)
    }
}

/// A whole batch; payload pages are filled with their index.
fn build(header: &Header, records: &[Record]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut crcs = Vec::new();
    for record in records {
        for index in 0..record.crc_count() {
            if record.kind == RecordKind::Write {
                let fill = (payload.len() / BLOCK_BYTES) as u8;
                payload.extend_from_slice(&[fill; BLOCK_BYTES]);
                crcs.push(crc32c(&[fill; BLOCK_BYTES]));
            } else {
                crcs.push(0xd1ec_0000 + index as u32);
            }
        }
    }
    let mut bytes = vec![0xee; header_len(records.iter().map(Record::encoded_len).sum())];
    encode(&mut bytes, &IDENTITY, header, records, &crcs);
    bytes.extend_from_slice(&payload);
    bytes
}

fn sample() -> Vec<u8> {
    build(
        &HEADER,
        &[
            write(7, 3, 0),
            zero(640, 32768),
            direct(66, 30, 9),
            write(1, 1, 3),
        ],
    )
}

fn reseal(bytes: &mut [u8]) {
    let blocks = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let end = (blocks.max(1) * BLOCK_BYTES).min(bytes.len());
    let crc = header_crc(&IDENTITY, &bytes[..end]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn golden_header() {
    let bytes = sample();
    #[rustfmt::skip]
    let fixed: [u8; 92] = [
        b'B', b'P', b'J', b'B', bytes[4], bytes[5], bytes[6], bytes[7],
        1, 0, 1, 0, 4, 0, 0, 0,
        b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7',
        b'8', b'9', b'a', b'b', b'c', b'd', b'e', b'f',
        3, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0,
        0x00, 0x30, 0x12, 0, 0, 0, 0, 0, 0x00, 0x20, 0x12, 0, 0, 0, 0, 0,
        0xe8, 3, 0, 0, 0, 0, 0, 0, 0xde, 3, 0, 0, 0, 0, 0, 0,
        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[..92], fixed);
    // First record: write of pages 7..10, payload block 0, three checksums and padding.
    #[rustfmt::skip]
    let record: [u8; 32] = [
        1, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[96..128], record);
    assert_eq!(bytes[128..132], crc32c(&[0; BLOCK_BYTES]).to_le_bytes());
    assert_eq!(bytes[140..144], [0; 4]);
    // The checksum pins salt, seal and every byte of the header.
    assert_eq!(
        bytes[4..8],
        GOLDEN_CRC.to_le_bytes(),
        "{:#x}",
        header_crc(&IDENTITY, &bytes[..4096])
    );
}

const GOLDEN_CRC: u32 = 0x914e_bfff;

#[test]
fn round_trip() {
    let bytes = sample();
    let view = decode(&bytes, &IDENTITY).expect("valid");
    assert_eq!(view.header, HEADER);
    assert_eq!((view.header_blocks, view.payload_blocks), (1, 4));
    assert_eq!(view.end(), HEADER.position + 5 * 4096);
    assert_eq!(view.last_lsn(), 1003);
    let records: Vec<_> = view.records().collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[2].record, direct(66, 30, 9));
    assert_eq!(records[2].crc(29), Some(0xd1ec_0000 + 29));
    assert_eq!(records[2].crc(30), None);
    assert_eq!(records[1].crc(0), None);
    assert_eq!(records[3].lsn, 1003);
    view.check_payload(&bytes[4096..]).expect("payload");
}

#[test]
fn every_damaged_payload_page_is_named() {
    let bytes = sample();
    for block in 0..4 {
        let mut payload = bytes[4096..].to_vec();
        payload[block * 4096 + 17] ^= 1;
        let view = decode(&bytes, &IDENTITY).expect("valid header");
        let error = view.check_payload(&payload).expect_err("damaged");
        assert!(
            matches!(error, BatchError::PayloadCrc { payload_block, .. } if payload_block as usize == block),
            "{error}"
        );
    }
    let view = decode(&bytes, &IDENTITY).expect("valid header");
    assert!(matches!(
        view.check_payload(&bytes[8192..]),
        Err(BatchError::Short { .. })
    ));
}

#[test]
fn every_flipped_header_bit_is_found() {
    let bytes = sample();
    for bit in 0..4096 * 8 {
        let mut damaged = bytes[..4096].to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged, &IDENTITY).is_err(), "bit {bit}");
    }
}

#[test]
fn another_salt_or_volume_is_not_ours() {
    let bytes = sample();
    let salted = Identity {
        salt: 1,
        ..IDENTITY
    };
    assert!(matches!(
        decode(&bytes, &salted),
        Err(BatchError::HeaderCrc { .. })
    ));
    let foreign = Identity {
        volume_uuid: [0; 16],
        ..IDENTITY
    };
    assert!(matches!(
        decode(&bytes, &foreign),
        Err(BatchError::ForeignVolume)
    ));
}

/// A field patched under a correct checksum, and the error it must give.
#[test]
fn malformed_fields_under_a_good_checksum() {
    let limit = |error: &BatchError| matches!(error, BatchError::Limit { .. });
    let record = |error: &BatchError| matches!(error, BatchError::Record { .. });
    let short = |error: &BatchError| matches!(error, BatchError::Short { .. });
    type Check = fn(&BatchError) -> bool;
    let cases: [(&str, usize, &[u8], Check); 15] = [
        ("magic", 0, b"X", |error| *error == BatchError::Magic),
        ("version", 10, &[2], |error| {
            matches!(error, BatchError::Version { version: 2 })
        }),
        ("no header", 8, &[0], limit),
        ("long header", 8, &[17], limit),
        ("header not there", 8, &[9], short),
        ("no records", 12, &[0], limit),
        ("many records", 12, &[129], limit),
        ("payload too long", 80, &[2, 1], limit),
        ("payload left over", 80, &[5], record),
        ("position out of range", 55, &[0xff], limit),
        ("kind", 96, &[9], record),
        ("no pages", 100, &[0], record),
        (
            "more checksums than header",
            100,
            &[0xff, 0xff, 0xff, 0x7f],
            record,
        ),
        ("page out of range", 111, &[0xff], record),
        ("payload order", 112, &[1], record),
    ];
    for (name, at, patch, expected) in cases {
        let mut bytes = sample();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        reseal(&mut bytes);
        let error = decode(&bytes, &IDENTITY).map(|_| ()).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
    }
}

#[test]
fn direct_records_must_lie_in_their_cluster() {
    let ok = direct(66, 30, 9);
    let cases = [
        (
            Record {
                page_count: 31,
                ..ok
            },
            "pages outside of the cluster",
        ),
        (
            Record {
                page_in_cluster: 3,
                page_count: 1,
                ..ok
            },
            "page is not at its place in the cluster",
        ),
        (
            Record {
                cluster: Cluster(0),
                ..ok
            },
            "no cluster",
        ),
        (
            Record {
                page_in_cluster: u32::MAX,
                ..ok
            },
            "pages outside of the cluster",
        ),
    ];
    for (record, rule) in cases {
        let bytes = build(&HEADER, &[record]);
        let error = decode(&bytes, &IDENTITY).map(|_| ()).expect_err(rule);
        assert_eq!(error, BatchError::Record { index: 0, rule });
    }
}

#[test]
fn the_largest_write_fits() {
    let bytes = build(&HEADER, &[write(0, 257, 0)]);
    assert_eq!(bytes.len() as u64, MAX_BATCH_BYTES);
    decode(&bytes, &IDENTITY)
        .expect("valid")
        .check_payload(&bytes[4096..])
        .expect("payload");
}

#[test]
fn a_header_of_several_blocks_asks_for_the_rest() {
    let records: Vec<_> = (0..100).map(|n| direct(n * 32, 32, 5)).collect();
    let bytes = build(&HEADER, &records);
    let needed_blocks = bytes.len() / BLOCK_BYTES;
    assert!(needed_blocks > 1);
    let error = decode(&bytes[..4096], &IDENTITY)
        .map(|_| ())
        .expect_err("short");
    assert_eq!(
        error,
        BatchError::Short {
            needed_blocks,
            given_blocks: 1
        }
    );
    assert_eq!(
        decode(&bytes, &IDENTITY).expect("valid").records().count(),
        100
    );
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (0..1u64 << 40, 1..8u32).prop_map(|(page, count)| write(page, count, 0)),
        (0..1u64 << 40, 1..=MAX_ZERO_PAGES).prop_map(|(page, count)| zero(page, count)),
        (0..1u64 << 40, 1..=64u32, 1..u32::MAX).prop_map(|(page, count, cluster)| {
            let room = 32 - (page % 32) as u32;
            direct(page, count.min(room), cluster)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_batch_round_trips(mut records in prop::collection::vec(any_record(), 1..30), epoch: u32) {
        let mut next = 0;
        for record in &mut records {
            if record.kind == RecordKind::Write {
                record.payload_block = next;
                next += record.page_count;
            }
        }
        let header = Header { epoch: epoch.into(), ..HEADER };
        let bytes = build(&header, &records);
        let view = decode(&bytes, &IDENTITY).expect("valid");
        prop_assert_eq!(view.header, header);
        let decoded: Vec<_> = view.records().map(|view| view.record).collect();
        prop_assert_eq!(decoded, records);
        prop_assert!(view.check_payload(&bytes[view.header_blocks * BLOCK_BYTES..]).is_ok());
    }

    #[test]
    fn any_bytes_decode_without_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 96..200),
        blocks in 0u8..20,
        sealed: bool,
    ) {
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&[blocks, 0, 1, 0]);
        bytes[16..32].copy_from_slice(&IDENTITY.volume_uuid);
        bytes[14..16].fill(0);
        bytes[82..84].fill(0);
        bytes.resize(4096 * 2, 0);
        if sealed {
            reseal(&mut bytes);
        }
        if let Ok(view) = decode(&bytes, &IDENTITY) {
            let _ = view.check_payload(&bytes[4096..]);
            prop_assert!(view.records().count() <= MAX_RECORDS);
        }
    }
}
