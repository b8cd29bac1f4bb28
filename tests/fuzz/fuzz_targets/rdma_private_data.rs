//! Private data of the RDMA connection manager, as each side may get it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::rdma::{CmAccept, CmReject, CmRequest, CmStatus, RECFMT};

fuzz_target!(|bytes: &[u8]| {
    match CmRequest::check(bytes) {
        Ok(request) => {
            assert_eq!(request.as_wire(), &bytes[..CmRequest::SIZE]);
            assert!(request.send_entries() >= 2 && request.receive_entries() >= 1);
            assert_eq!(request.recfmt.get(), RECFMT);
            assert!(request.controller().is_none() || request.qid.get() != 0);
            let _ = format!("{request:?}");
        }
        Err(error) => {
            assert!(error.status().name().is_some(), "{error:?} has no status");
            assert!(bytes.len() < CmRequest::SIZE || error.status() != CmStatus::INVALID_LENGTH);
        }
    }
    if let Ok(accept) = CmAccept::check(bytes) {
        assert_eq!(accept.as_wire(), &bytes[..CmAccept::SIZE]);
    }
    if let Ok(reject) = CmReject::check(bytes) {
        assert_eq!(CmReject::new(reject.status()).as_wire(), reject.as_wire());
    }
});
