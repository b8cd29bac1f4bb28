//! A PDU off the wire, for both sides, before and after the handshake, with every digest setting.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::tcp::{
    CommonHeader, Framing, Grant, Layout, Link, Pdu, PduError, Receiver, TermFrame, digest, icreq,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = CommonHeader::decode(bytes) else {
        assert!(bytes.len() < CommonHeader::SIZE);
        return;
    };
    for link in links() {
        match link.frame(header) {
            Ok(layout) => receive(&link, &layout, bytes),
            Err(error) => terminate(&link, &error, bytes),
        }
    }
});

fn links() -> impl Iterator<Item = Link> {
    (0..32u8).map(|bits| Link {
        receiver: if bits & 1 == 0 {
            Receiver::Controller
        } else {
            Receiver::Host
        },
        ready: bits & 2 != 0,
        framing: Framing {
            header_digest: bits & 4 != 0,
            data_digest: bits & 8 != 0,
            pda: if bits & 16 == 0 { 0 } else { 15 },
        },
        max_capsule_data_bytes: 8192,
        max_data_bytes: 131_072,
    })
}

fn receive(link: &Link, layout: &Layout, bytes: &[u8]) {
    let header = CommonHeader::decode(bytes).expect("it was decoded before");
    assert_eq!(
        layout.total(),
        header.plen.get() as usize,
        "the parts add up to PLEN"
    );
    assert!(layout.data <= link.max_data_bytes as usize);
    let Ok(pdu) = Pdu::parse(bytes, layout) else {
        return;
    };
    match pdu {
        Pdu::H2cData(pdu) => {
            let mut grant = Grant {
                cccid: pdu.cccid.get(),
                ttag: pdu.ttag.get(),
                next_offset: pdu.datao.get(),
                remaining_bytes: 8,
            };
            if let Ok(done) = grant.accept(pdu) {
                assert_eq!(done, grant.remaining_bytes == 0);
            }
        }
        Pdu::IcResp(pdu) => {
            let _ = pdu.check(&wire::tcp::IcReq::new(0, icreq::dgst::HEADER, 0));
        }
        _ => {}
    }
    if let Some(data) = bytes.get(layout.data_offset()..layout.data_offset() + layout.data) {
        let mut pieces = digest::Crc32c::new();
        let (first, second) = data.split_at(data.len() / 2);
        pieces.update(first);
        pieces.update(second);
        assert_eq!(pieces.value(), digest::crc32c(data));
    }
}

fn terminate(link: &Link, error: &PduError, bytes: &[u8]) {
    assert!(
        error.status().name().is_some(),
        "{error:?} maps to no status"
    );
    let frame = TermFrame::new(link.receiver, error, bytes);
    let other = match link.receiver {
        Receiver::Controller => Receiver::Host,
        Receiver::Host => Receiver::Controller,
    };
    let header = CommonHeader::decode(frame.as_wire()).expect("24 bytes at least");
    let layout = Link::new(other)
        .frame(header)
        .expect("our own termination is valid");
    assert_eq!(layout.total(), frame.as_wire().len());
}
