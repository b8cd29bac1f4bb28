//! Text requests: SendTargets, and the length of data segments.
//!
//! Source: RFC 7143 sections 11.10 and 11.11, appendix C (discovery).

use std::cell::RefCell;
use std::net::SocketAddr;

use wire::iscsi::{Bhs, TextRequest};

use super::connection::Connection;
use super::login::{TargetEntry, TargetScope, TextExchange, TextReply, TextStep};
use crate::nvmf::discovery::reachable;

/// The exchange of a connection.
pub(super) type TextState = RefCell<TextExchange>;

/// Takes a text request, which is here in full.
pub(super) fn request(connection: &Connection, header: &Bhs, text: &[u8]) {
    let request: TextRequest = zerocopy::transmute!(*header);
    let limit_bytes = connection.peer_segment_bytes.get();
    let mut exchange = connection.text.borrow_mut();
    let reply = match exchange.receive(&request, text, limit_bytes) {
        TextStep::Reply(reply) => reply,
        TextStep::Targets(scope) => exchange.targets(&targets(connection, &scope), limit_bytes),
        TextStep::Rejected(reason) => return connection.reject(reason, header),
    };
    drop(exchange);
    send(connection, &request, &reply);
}

fn send(connection: &Connection, request: &TextRequest, reply: &TextReply) {
    if let Some(len_bytes) = reply.max_send_data_bytes {
        connection.peer_segment_bytes.set(len_bytes);
    }
    let header = reply.header(request, connection.response_numbers());
    connection.outbox.small(header.as_wire(), &reply.text);
}

/// The targets of a scope that the initiator may see, with all their portals.
fn targets(connection: &Connection, scope: &TargetScope) -> Vec<TargetEntry> {
    let session = &connection.session;
    let directory = &session.options().directory;
    let portals = directory.portals();
    let addresses: Vec<(SocketAddr, u16)> = portals
        .iter()
        .filter_map(|portal| Some((reachable(portal.address, connection.local)?, portal.tag)))
        .collect();
    let names = directory.visible_to(&session.identity.initiator);
    let is_meant = |name: &String| match scope {
        TargetScope::All => true,
        TargetScope::Named(named) => named == name,
    };
    names
        .into_iter()
        .filter(is_meant)
        .map(|name| TargetEntry {
            name,
            addresses: addresses.clone(),
        })
        .collect()
}
