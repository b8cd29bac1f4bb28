//! Bytes written down from SPC-4, not from the encoders; and lists of strangers.

use super::*;

const PORT: &str = "iqn.2026-11.example:a,i,0x800123456789";

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = [0xee; 256];
    let mut writer = Writer::new(&mut bytes);
    write(&mut writer);
    let len = writer.len();
    bytes[..len].to_vec()
}

/// 4 bytes, 38 of name, padded to 40.
fn port_id() -> Vec<u8> {
    let mut id = vec![0x45, 0, 0, 40];
    id.extend(PORT.as_bytes());
    id.extend([0, 0]);
    id
}

/// A parameter list of 24 bytes with these flags, and what follows.
fn list(flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&0x1122_3344_5566_7788_u64.to_be_bytes());
    list[15] = 9;
    list[20] = flags;
    list.extend_from_slice(rest);
    list
}

fn with_ids(ids: &[u8]) -> Vec<u8> {
    let mut rest = (ids.len() as u32).to_be_bytes().to_vec();
    rest.extend_from_slice(ids);
    list(0x08, &rest)
}

#[test]
fn command_descriptor_blocks() {
    let cdb = [0x5e, 0x03, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0];
    let decoded = InCommand::decode(&cdb);
    assert_eq!(decoded.action, InAction::READ_FULL_STATUS);
    assert_eq!(decoded.allocation_bytes, 0x1234);
    let cdb = [0x5f, 0x05, 0x18, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0];
    let expected = OutCommand {
        action: OutAction::PREEMPT_AND_ABORT,
        scope: 1,
        kind: 8,
        list_bytes: 0x01_0203,
    };
    assert_eq!(OutCommand::decode(&cdb), expected);
}

#[test]
fn parameter_lists() {
    for (flags, expected) in [
        (0x00, (false, false, false)),
        (0x08, (true, false, false)),
        (0x04, (false, true, false)),
        (0x01, (false, false, true)),
    ] {
        let bytes = list(flags, &[]);
        let decoded = OutList::decode(&bytes).expect("24 bytes");
        assert_eq!(
            (decoded.key, decoded.action_key),
            (0x1122_3344_5566_7788, 9)
        );
        let found = (decoded.names_others, decoded.all_ports, decoded.persists);
        assert_eq!(found, expected);
        assert!(decoded.is_plain());
    }
    for len in 0..24 {
        assert!(OutList::decode(&list(0, &[])[..len]).is_err());
    }
}

#[test]
fn transport_ids_follow_one_another() {
    let mut ids = port_id();
    let device = "iqn.2026-11.example:longer-than-twenty";
    ids.extend([0x05, 0, 0, 40]);
    ids.extend(device.as_bytes());
    ids.extend([0; 2]);
    let bytes = with_ids(&ids);
    let decoded = OutList::decode(&bytes).expect("a list");
    assert!(!decoded.is_plain());
    let found: Vec<_> = decoded.transport_ids().expect("a length").collect();
    let expected = [Ok(TransportId::Port(PORT)), Ok(TransportId::Device(device))];
    assert_eq!(found, expected);
    for len in 24..bytes.len() {
        let cut = OutList::decode(&bytes[..len]).expect("a list");
        assert!(cut.transport_ids().is_err(), "{len} bytes");
    }
    // A length of zero names nobody.
    let none = with_ids(&[]);
    let none = OutList::decode(&none).expect("a list").transport_ids();
    assert_eq!(none.expect("a length").count(), 0);
}

#[test]
fn impossible_transport_ids_are_refused() {
    let good = port_id();
    assert!(TransportId::decode(&good).is_ok());
    type Case = (&'static str, fn(&mut Vec<u8>));
    let cases: [Case; 12] = [
        ("another protocol", |id| id[0] = 0x46),
        ("a reserved bit", |id| id[0] |= 0x10),
        ("a reserved format", |id| id[0] = 0x85),
        ("a port said to be a device", |id| id[0] = 0x05),
        ("a length of no multiple of 4", |id| id[3] = 39),
        ("a length below 20", |id| id[3] = 16),
        ("a length beyond the end", |id| id[3] = 44),
        ("no zero at the end", |id| id[42..].fill(b'0')),
        ("something behind the zero", |id| id[43] = b'x'),
        ("no name", |id| id[4..].fill(0)),
        ("a control character", |id| id[10] = 7),
        ("an ISID that is none", |id| id[41] = b'g'),
    ];
    for (what, change) in cases {
        let mut id = good.clone();
        change(&mut id);
        assert!(TransportId::decode(&id).is_err(), "{what}");
    }
    let mut bytes = with_ids(&[&good[..], &[0x46, 0, 0, 20]].concat());
    let decoded = OutList::decode(&bytes).expect("a list");
    let ids: Vec<_> = decoded.transport_ids().expect("a length").collect();
    assert!(matches!(ids[..], [Ok(_), Err(_)]), "{ids:?}");
    bytes.push(0);
    let longer = OutList::decode(&bytes).expect("a list");
    assert!(longer.transport_ids().is_err());
}

#[test]
fn register_and_move() {
    let id = port_id();
    let mut bytes = vec![0; 24];
    bytes[7] = 5;
    bytes[15] = 6;
    bytes[17] = 0b11;
    bytes[19] = 2;
    bytes[23] = id.len() as u8;
    bytes.extend(&id);
    let expected = MoveList {
        key: 5,
        action_key: 6,
        unregisters: true,
        persists: true,
        target_port: 2,
        transport_id: TransportId::Port(PORT),
    };
    assert_eq!(MoveList::decode(&bytes), Ok(expected));
    for len in 0..bytes.len() {
        assert!(MoveList::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut two = bytes.clone();
    two.extend(&id);
    two[23] *= 2;
    assert!(MoveList::decode(&two).is_err(), "one, not two");
}

#[test]
fn keys_and_reservation() {
    let none = written(|writer| read_keys(writer, 0x0102, [].into_iter()));
    assert_eq!(none, [0, 0, 1, 2, 0, 0, 0, 0]);
    let two = written(|writer| read_keys(writer, 1, [7, u64::MAX].into_iter()));
    assert_eq!(two[..8], [0, 0, 0, 1, 0, 0, 0, 16]);
    assert_eq!(
        two[8..],
        [
            0, 0, 0, 0, 0, 0, 0, 7, 255, 255, 255, 255, 255, 255, 255, 255
        ]
    );
    let free = written(|writer| read_reservation(writer, 3, None));
    assert_eq!(free, [0, 0, 0, 3, 0, 0, 0, 0]);
    let held = written(|writer| read_reservation(writer, 3, Some((0x0a0b, 8))));
    let expected = [
        0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 10, 11, 0, 0, 0, 0, 0, 8, 0, 0,
    ];
    assert_eq!(held, expected);
}

#[test]
fn capabilities() {
    let off = written(|writer| report_capabilities(writer, false));
    assert_eq!(off, [0, 8, 0b1101, 0x80, 0xea, 0x01, 0, 0]);
    let on = written(|writer| report_capabilities(writer, true));
    assert_eq!(on, [0, 8, 0b1101, 0x81, 0xea, 0x01, 0, 0]);
}

#[test]
fn full_status() {
    let holder = FullStatus {
        key: 0x0506,
        held_kind: Some(5),
        target_port: 3,
        transport_id: TransportId::of_name(PORT),
    };
    let other = FullStatus {
        held_kind: None,
        transport_id: TransportId::of_name("iqn.short"),
        ..holder
    };
    let bytes = written(|writer| read_full_status(writer, 4, [holder, other].into_iter()));
    let mut expected = vec![0, 0, 0, 4, 0, 0, 0, 68 + 48];
    expected.extend([0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 3]);
    expected.extend([0, 0, 0, 44]);
    expected.extend(port_id());
    expected.extend([0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    expected.extend([0, 0, 0, 24, 0x05, 0, 0, 20]);
    expected.extend(b"iqn.short");
    expected.extend([0; 11]);
    assert_eq!(bytes, expected);
}
