//! An iSCSI PDU off the wire, for both sides, during and after the login, with every digest
//! setting: its layout, and the view of its header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::iscsi::{
    AHS_MAX_BYTES, AsyncMessage, BHS_BYTES, Bhs, DataIn, DataOut, Digests, Layout, Link,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, R2t,
    Receiver, Reject, Residual, ScsiCommand, ScsiResponse, SnackRequest, TaskRequest, TaskResponse,
    TextRequest, TextResponse, digest,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Bhs::decode(bytes) else {
        assert!(bytes.len() < BHS_BYTES);
        return;
    };
    for link in links() {
        let measured = link.measure(header);
        match link.frame(header) {
            Ok(layout) => {
                assert_eq!(measured, Ok(layout));
                receive(&link, &layout, header.opcode(), bytes);
            }
            Err(error) => {
                assert!(error.reason().name().is_some(), "{error:?} has no reason");
                assert!(
                    error.is_fatal() || measured.is_ok(),
                    "{error:?} cannot be skipped"
                );
            }
        }
    }
});

fn links() -> impl Iterator<Item = Link> {
    (0..16u8).map(|bits| Link {
        receiver: if bits & 1 == 0 {
            Receiver::Target
        } else {
            Receiver::Initiator
        },
        full_feature: bits & 2 != 0,
        digests: Digests {
            header: bits & 4 != 0,
            data: bits & 8 != 0,
        },
        max_data_bytes: 262_144,
        max_ahs_bytes: AHS_MAX_BYTES as u32,
    })
}

fn receive(link: &Link, layout: &Layout, opcode: Opcode, bytes: &[u8]) {
    assert_eq!(layout.total() % 4, 0);
    assert!(layout.data <= link.max_data_bytes as usize);
    assert!(layout.ahs <= link.max_ahs_bytes as usize);
    view(opcode, bytes);
    let Some(data) = bytes.get(layout.data_offset()..layout.data_offset() + layout.data) else {
        return;
    };
    let mut pieces = digest::Crc32c::new();
    let (first, second) = data.split_at(data.len() / 2);
    pieces.update(first);
    pieces.update(second);
    pieces.update(&digest::PADDING[..layout.padding]);
    assert_eq!(pieces.value().to_le_bytes(), digest::data_digest(data));
}

/// Every opcode that `frame` lets through has a structure, and its own bytes are the header's.
fn view(opcode: Opcode, bytes: &[u8]) {
    macro_rules! views {
        ($($opcode:ident: $name:ident),* $(,)?) => {
            match opcode {
                $(Opcode::$opcode => {
                    let pdu = $name::decode(bytes).expect("48 bytes are there");
                    assert_eq!(pdu.as_wire(), &bytes[..BHS_BYTES]);
                })*
                other => panic!("{other:?} was let through"),
            }
        };
    }
    views! {
        NOP_OUT: NopOut, SCSI_COMMAND: ScsiCommand, TASK_REQUEST: TaskRequest,
        LOGIN_REQUEST: LoginRequest, TEXT_REQUEST: TextRequest, DATA_OUT: DataOut,
        LOGOUT_REQUEST: LogoutRequest, SNACK_REQUEST: SnackRequest, NOP_IN: NopIn,
        SCSI_RESPONSE: ScsiResponse, TASK_RESPONSE: TaskResponse, LOGIN_RESPONSE: LoginResponse,
        TEXT_RESPONSE: TextResponse, DATA_IN: DataIn, LOGOUT_RESPONSE: LogoutResponse, R2T: R2t,
        ASYNC_MESSAGE: AsyncMessage, REJECT: Reject,
    }
    if let (Opcode::LOGIN_REQUEST, Ok(pdu)) = (opcode, LoginRequest::decode(bytes)) {
        let form = pdu.form();
        let again = wire::iscsi::LoginFlags::decode(form.encode());
        assert_eq!((again.transit, again.current), (form.transit, form.current));
    }
    if let (Opcode::SCSI_RESPONSE, Ok(pdu)) = (opcode, ScsiResponse::decode(bytes)) {
        let _ = Residual::decode(pdu.flags, pdu.residual.get()).encode();
    }
}
