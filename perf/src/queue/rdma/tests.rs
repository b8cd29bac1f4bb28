//! The queue in a simulated world, against a target whose answers are scripted: what it may say,
//! and what it may not.

use std::net::SocketAddr;
use std::time::Duration;

use rdma::soft::Faults;
use rdma::{CardOptions, Done as Ended, PairOptions};
use reactor::buf::{alloc, pool};
use reactor::sim::{World, WorldOptions};
use wire::nvme::{NvmOpcode, Status};

use super::*;
use crate::queue::script::{data, io};

const IO_BYTES: u32 = 4096;
const PORT: u16 = 4420;
const LIMIT: Duration = Duration::from_secs(60);

/// What the target does with each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Keeps one block: writes go to it, reads come from it.
    Keep,
    /// Fails it.
    Fail,
    /// Answers with one byte too many.
    Long,
    /// Answers another command.
    Other,
    /// Answers twice.
    Twice,
    /// Invalidates the key.
    Invalidate,
    /// Writes beyond the memory of a read.
    Beyond,
    /// Ends the connection.
    Disconnect,
}

fn card(options: CardOptions) -> Card {
    Card::soft(options, Faults::default())
}

async fn target(address: SocketAddr, script: Script) {
    let card = card(CardOptions {
        receive_entries: 16,
        receive_data_bytes: IO_BYTES,
        ..CardOptions::default()
    });
    let listener = card.listen(address).await.unwrap();
    let incoming = listener.accept().await.unwrap();
    let options = PairOptions {
        send_entries: 64,
        read_depth: 4,
    };
    let pair = incoming.accept(&[], options).await.unwrap();
    let mut block = vec![0; IO_BYTES as usize];
    while let Ok(event) = pair.next().await {
        if let Completion::Received(message) = event {
            answer(&pair, &message, script, &mut block).await;
            pair.kick();
        }
    }
}

async fn answer(pair: &QueuePair, message: &Received, script: Script, block: &mut Vec<u8>) {
    let sqe = *Sqe::decode(&message.header).unwrap();
    let (mut remote, key) = match sqe.sgl() {
        Ok(Sgl::Keyed { address, key, .. }) => (Remote { address, key }, Some(key)),
        _ => (Remote { address: 0, key: 0 }, None),
    };
    match (sqe.nvm_opcode(), &message.data) {
        (NvmOpcode::READ, _) => {
            let mut data = alloc(block.len()).await;
            data.as_mut().copy_from_slice(block);
            if script == Script::Beyond {
                remote.address += 4096;
            }
            pair.post(1, Work::Write { data, to: remote }).unwrap();
        }
        (NvmOpcode::WRITE, Some(data)) => *block = data.to_vec(),
        (NvmOpcode::WRITE, None) => *block = fetch(pair, remote).await,
        _ => {}
    }
    if script == Script::Disconnect {
        return pair.disconnect();
    }
    let status = match script {
        Script::Fail => Status::INTERNAL_ERROR,
        _ => Status::SUCCESS,
    };
    let cid = sqe.cid.get() ^ if script == Script::Other { 64 } else { 0 };
    let mut bytes = Cqe::new(cid, 0, status, 0).as_wire().to_vec();
    if script == Script::Long {
        bytes.push(0);
    }
    let invalidate = key.filter(|_| script == Script::Invalidate);
    for _ in 0..if script == Script::Twice { 2 } else { 1 } {
        let payload = Payload::Inline(Inline::new(&bytes).unwrap());
        pair.post(
            2,
            Work::Send {
                payload,
                invalidate,
            },
        )
        .unwrap();
    }
}

async fn fetch(pair: &QueuePair, from: Remote) -> Vec<u8> {
    let into = alloc(IO_BYTES as usize).await;
    pair.post(3, Work::Read { into, from }).unwrap();
    pair.kick();
    loop {
        if let Ok(Completion::Done {
            done: Ended::Read(data),
            ..
        }) = pair.next().await
        {
            return data.to_vec();
        }
    }
}

/// What a queue gets for `kinds`, each sent when the one before is done.
fn run(script: Script, shape: Shape, kinds: &'static [Kind]) -> Result<Vec<Done>, PerfError> {
    let mut world = World::new(3, WorldOptions::default());
    let address = SocketAddr::new(world.node("target"), PORT);
    world.start("target", 1, move |_| target(address, script));
    world.run_for(Duration::from_millis(1));
    let result = world.run_once("host", LIMIT, move || async move {
        let card = card(CardOptions {
            receive_entries: 16,
            receive_data_bytes: 0,
            exposes_memory: true,
            ..CardOptions::default()
        });
        let before = pool().in_use_bytes();
        let options = PairOptions {
            send_entries: send_entries(shape.depth),
            read_depth: 4,
        };
        let (pair, _) = card.connect(address, &[], options).await.unwrap();
        let mut queue = Rdma::new(&card, pair, shape, data(64 << 10)).unwrap();
        let result = submit_all(&mut queue, kinds).await;
        queue.close(Duration::from_secs(5)).await;
        reactor::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(card.stats().queue_pairs, 0);
        assert_eq!(pool().in_use_bytes(), before, "every buffer is given back");
        result
    });
    result.unwrap()
}

async fn submit_all(queue: &mut Rdma, kinds: &[Kind]) -> Result<Vec<Done>, PerfError> {
    let mut done = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let content = data(IO_BYTES);
        queue.submit(io(*kind), 7, |to| to.copy_from_slice(&content))?;
        queue.send()?;
        while done.len() <= index {
            queue.wait().await;
            queue.receive(&mut done)?;
        }
        if *kind == Kind::Read && queue.shape.keep_data {
            let cid = done[index].cid;
            assert!(queue.buffer(cid) == content, "what was written is read");
        }
    }
    // What else comes.
    reactor::time::sleep(Duration::from_millis(5)).await;
    queue.receive(&mut done)?;
    Ok(done)
}

fn shape(capsule_bytes: u32, keep_data: bool) -> Shape {
    Shape {
        depth: 4,
        block_bytes: 512,
        io_bytes: IO_BYTES,
        capsule_bytes,
        nsid: 1,
        keep_data,
    }
}

const ALL: &[Kind] = &[
    Kind::Write,
    Kind::Read,
    Kind::Flush,
    Kind::Write,
    Kind::Read,
];

#[test]
fn what_is_written_is_read_and_every_buffer_is_given_back() {
    for capsule_bytes in [0, IO_BYTES] {
        for keep_data in [false, true] {
            let done = run(Script::Keep, shape(capsule_bytes, keep_data), ALL).unwrap();
            assert_eq!(done.len(), ALL.len());
            assert!(done.iter().all(|one| one.status.is_success()));
        }
    }
}

#[test]
fn a_failed_command_is_a_result() {
    for keep_data in [false, true] {
        let done = run(
            Script::Fail,
            shape(0, keep_data),
            &[Kind::Write, Kind::Flush],
        )
        .unwrap();
        let labels: Vec<String> = done.iter().map(|one| one.status.label()).collect();
        assert_eq!(labels, ["INTERNAL_ERROR", "INTERNAL_ERROR"]);
    }
}

#[test]
fn what_breaks_the_rules_ends_the_queue() {
    for (script, kind, problem) in [
        (Script::Long, Kind::Flush, "another length than 16 bytes"),
        (Script::Other, Kind::Flush, "no such command is in flight"),
        (Script::Twice, Kind::Flush, "no such command is in flight"),
        (Script::Invalidate, Kind::Read, "although nobody asked"),
        (Script::Disconnect, Kind::Flush, "the peer disconnected"),
        (Script::Beyond, Kind::Read, "the connection failed"),
    ] {
        let kinds: &[Kind] = match kind {
            Kind::Read => &[Kind::Read],
            Kind::Write | Kind::Flush => &[Kind::Flush],
        };
        let error = run(script, shape(0, true), kinds).unwrap_err().to_string();
        assert!(error.contains(problem), "{script:?}: {error}");
    }
}
