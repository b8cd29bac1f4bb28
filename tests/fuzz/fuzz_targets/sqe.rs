//! A submission queue entry and a completion: every meaning encodes back to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::nvme::command::{
    Abort, AsyncEvent, DatasetManagement, GetFeatures, GetLogPage, Identify, ReadWrite,
    SetFeatures, Sqe, WriteZeroes,
};
use wire::nvme::feature::{NumberOfQueues, TemperatureThreshold};
use wire::nvme::{Cqe, Sgl, Status};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cqe) = Cqe::decode(bytes) {
        let status = cqe.status();
        assert_eq!(status.field(cqe.phase()), cqe.status.get());
        let _ = (
            format!("{cqe:?} {status:?}"),
            AsyncEvent::decode(cqe.dw0()).encode(),
        );
        assert_eq!(Status::new(status.sct(), status.sc()), status.code());
    }
    if let Ok(sqe) = Sqe::decode(bytes) {
        command(sqe);
        let _ = format!(
            "{sqe:?} {:?} {:?}",
            sqe.data_direction(),
            sqe.fabrics_type()
        );
    }
});

fn command(sqe: &Sqe) {
    let (cid, nsid) = (sqe.cid.get(), sqe.nsid.get());
    let data = Sgl::Transport { len_bytes: 4096 };
    if let Ok(rw) = ReadWrite::decode(sqe) {
        let again = rw.encode(sqe.nvm_opcode(), cid, nsid, Some(data));
        assert_eq!(ReadWrite::decode(&again), Ok(rw));
        assert!(rw.end_lba().is_none_or(|end| end > rw.slba));
    }
    if let Ok(zeroes) = WriteZeroes::decode(sqe) {
        assert_eq!(WriteZeroes::decode(&zeroes.encode(cid, nsid)), Ok(zeroes));
    }
    if let Ok(dsm) = DatasetManagement::decode(sqe) {
        assert_eq!(
            DatasetManagement::decode(&dsm.encode(cid, nsid, data)),
            Ok(dsm)
        );
    }
    if let Ok(identify) = Identify::decode(sqe) {
        assert_eq!(
            Identify::decode(&identify.encode(cid, nsid, data)),
            Ok(identify)
        );
    }
    if let Ok(log) = GetLogPage::decode(sqe) {
        assert_eq!(GetLogPage::decode(&log.encode(cid, nsid, data)), Ok(log));
        assert!(log.len_bytes() >= 4);
    }
    if let Ok(get) = GetFeatures::decode(sqe) {
        assert_eq!(GetFeatures::decode(&get.encode(cid, nsid, None)), Ok(get));
        let _ = (
            NumberOfQueues::decode(get.cdw11),
            TemperatureThreshold::decode(get.cdw11),
        );
    }
    if let Ok(set) = SetFeatures::decode(sqe) {
        assert_eq!(
            SetFeatures::decode(&set.encode(cid, nsid, Some(data))),
            Ok(set)
        );
    }
    if let Ok(abort) = Abort::decode(sqe) {
        assert_eq!(Abort::decode(&abort.encode(cid)), Ok(abort));
    }
}
