//! Fabrics commands and the data of Connect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::fabrics::connect::{ConnectCommand, ConnectData};
use wire::fabrics::disconnect::Disconnect;
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::Sqe;
use wire::text::{NQN_MAX_BYTES, check_nqn};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sqe) = Sqe::decode(bytes) {
        let matched = [
            ConnectCommand::from_sqe(sqe).is_ok_and(|command| command.to_sqe() == *sqe),
            PropertyGet::from_sqe(sqe).is_ok_and(|command| command.to_sqe() == *sqe),
            PropertySet::from_sqe(sqe).is_ok_and(|command| command.to_sqe() == *sqe),
            Disconnect::from_sqe(sqe).is_ok_and(|command| command.to_sqe() == *sqe),
        ];
        assert!(
            matched.iter().filter(|hit| **hit).count() <= 1,
            "one entry, two commands"
        );
        if let Ok(get) = PropertyGet::from_sqe(sqe) {
            assert!(matches!(get.size_bytes(), Ok(4 | 8) | Err(_)));
        }
    }
    let Ok(data) = ConnectData::decode(bytes) else {
        return;
    };
    let names = (data.subsystem_nqn(), data.host_nqn());
    for name in [names.0, names.1].into_iter().flatten() {
        assert!(name.len() <= NQN_MAX_BYTES && check_nqn(name).is_ok());
    }
    if let (Ok(sub), Ok(host)) = names {
        let again = ConnectData::new(data.hostid, data.cntlid.get(), sub, host);
        let again = again.expect("checked names build");
        assert_eq!((again.subsystem_nqn(), again.host_nqn()), names);
    }
    let _ = format!("{data:?}");
});
