//! In the simulator: connections break at every state, hosts crash and vanish, connections move
//! between cores. What was acknowledged stays, nothing old comes back, nothing is left over.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use frontends::{Directory, SubsystemOptions, Target, TargetOptions, volume_nqn};
use reactor::buf::BufPool;
use reactor::net::TcpStream;
use reactor::sim::{Crash, World, WorldOptions};
use reactor::time::{sleep, timeout};
use wire::fabrics::connect::{CNTLID_DYNAMIC, ConnectCommand, ConnectData};
use wire::fabrics::property::PropertySet;
use wire::nvme::command::ReadWrite;
use wire::nvme::register::{Config, PropertySize, offset};
use wire::nvme::{Cqe, NvmOpcode, Sgl, Sqe};
use wire::tcp::digest::{crc32c, header_digest};
use wire::tcp::{
    CapsuleCmd, CapsuleResp, CommonHeader, Framing, H2cData, IcReq, Layout, Link, PduType, R2t,
    Receiver, icreq,
};

const PORT: u16 = 4420;
const SECOND: Duration = Duration::from_secs(1);
const BLOCK: usize = 4096;
/// Blocks of one write: small ones go in the capsule, large ones by R2T.
const SIZES: [usize; 3] = [1, 2, 4];

/// A host's queue in the simulator.
struct Queue {
    stream: TcpStream,
    link: Link,
    framing: Framing,
}

async fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_send(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn recv_exact(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match stream.try_recv(&mut bytes[done..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused(what: &str, cqe: &Cqe) -> io::Error {
    io::Error::other(format!("{what}: {:?}", cqe.status()))
}

impl Queue {
    /// Connects, shakes hands with both digests, and connects queue `qid`.
    async fn open(server: SocketAddr, qid: u16, cntlid: u16) -> io::Result<(Self, u16)> {
        let stream = TcpStream::connect(server).await?;
        let mut queue = Self {
            stream,
            link: Link::new(Receiver::Host),
            framing: Framing::default(),
        };
        let request = IcReq::new(0, icreq::dgst::HEADER | icreq::dgst::DATA, 0);
        send_all(&queue.stream, request.as_wire()).await?;
        queue.receive().await?;
        queue.framing = Framing {
            header_digest: true,
            data_digest: true,
            pda: 0,
        };
        queue.link = Link {
            receiver: Receiver::Host,
            ready: true,
            framing: queue.framing,
            max_capsule_data_bytes: 0,
            max_data_bytes: u32::MAX,
        };
        let kato_ms = if qid == 0 { 2000 } else { 0 };
        let command = ConnectCommand::new(1, qid, 16, kato_ms).expect("a size");
        let (nqn, host) = (volume_nqn("memory"), "nqn.2014-08.org.example:host");
        let data = ConnectData::new([7; 16], cntlid, &nqn, host).expect("names");
        let (cqe, _) = queue.run(command.to_sqe(), data.as_wire(), &[]).await?;
        if !cqe.status().is_success() {
            return Err(refused("connect", &cqe));
        }
        Ok((queue, cqe.dw0() as u16))
    }

    async fn enable(&mut self) -> io::Result<()> {
        let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
        let set = PropertySet::new(2, PropertySize::FOUR, offset::CC, u64::from(config.0));
        self.run(set.to_sqe(), &[], &[]).await.map(|_| ())
    }

    async fn receive(&mut self) -> io::Result<(PduType, Vec<u8>, Vec<u8>)> {
        let mut head = [0; CommonHeader::SIZE];
        recv_exact(&self.stream, &mut head).await?;
        let common = *CommonHeader::decode(&head).expect("8 bytes");
        let layout = self
            .link
            .frame(&common)
            .expect("the target frames its PDUs");
        let mut bytes = head.to_vec();
        bytes.resize(layout.total(), 0);
        recv_exact(&self.stream, &mut bytes[head.len()..]).await?;
        let data = bytes[layout.data_offset()..][..layout.data].to_vec();
        assert_ne!(
            common.kind,
            PduType::C2H_TERM_REQ,
            "this host breaks no rule"
        );
        Ok((common.kind, bytes[..layout.header].to_vec(), data))
    }

    async fn send(&mut self, header: &[u8], layout: &Layout, data: &[u8]) -> io::Result<()> {
        let mut bytes = header.to_vec();
        if layout.header_digest != 0 {
            bytes.extend_from_slice(&header_digest(header));
        }
        bytes.resize(layout.data_offset(), 0);
        bytes.extend_from_slice(data);
        if layout.data_digest != 0 {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        send_all(&self.stream, &bytes).await
    }

    /// Runs one command; `data` answers its R2T.
    async fn run(&mut self, sqe: Sqe, capsule: &[u8], data: &[u8]) -> io::Result<(Cqe, Vec<u8>)> {
        let (pdu, layout) = CapsuleCmd::new(sqe, capsule.len(), &self.framing).expect("it fits");
        self.send(pdu.as_wire(), &layout, capsule).await?;
        let mut read = Vec::new();
        loop {
            let (kind, header, bytes) = self.receive().await?;
            match kind {
                PduType::R2T => {
                    let r2t = *R2t::decode(&header).expect("a whole R2T");
                    let (cid, ttag) = (r2t.cccid.get(), r2t.ttag.get());
                    let span = (0, data.len() as u32);
                    let (pdu, layout) =
                        H2cData::new(cid, ttag, span, true, &self.framing).expect("it fits");
                    self.send(pdu.as_wire(), &layout, data).await?;
                }
                PduType::C2H_DATA => read.extend_from_slice(&bytes),
                _ => {
                    let response = CapsuleResp::decode(&header).expect("a response");
                    return Ok((response.cqe, read));
                }
            }
        }
    }

    async fn write(&mut self, lba: u64, value: u64, blocks: usize) -> io::Result<()> {
        let data = block_data(value, blocks);
        let len_bytes = data.len() as u32;
        let fields = ReadWrite::new(lba, blocks as u32).expect("a count");
        let (cqe, _) = if data.len() <= 8192 {
            let sgl = Sgl::InCapsule {
                offset: 0,
                len_bytes,
            };
            self.run(fields.encode(NvmOpcode::WRITE, 3, 1, Some(sgl)), &data, &[])
                .await?
        } else {
            let sgl = Sgl::Transport { len_bytes };
            self.run(fields.encode(NvmOpcode::WRITE, 3, 1, Some(sgl)), &[], &data)
                .await?
        };
        if cqe.status().is_success() {
            Ok(())
        } else {
            Err(refused("write", &cqe))
        }
    }

    /// The value in all blocks of the range.
    async fn read(&mut self, lba: u64, blocks: usize) -> io::Result<u64> {
        let fields = ReadWrite::new(lba, blocks as u32).expect("a count");
        let sgl = Sgl::Transport {
            len_bytes: (blocks * BLOCK) as u32,
        };
        let sqe = fields.encode(NvmOpcode::READ, 4, 1, Some(sgl));
        let (cqe, data) = self.run(sqe, &[], &[]).await?;
        if !cqe.status().is_success() {
            return Err(refused("read", &cqe));
        }
        let value = u64::from_le_bytes(data[..8].try_into().expect("8 bytes"));
        assert!(
            data == block_data(value, blocks),
            "a read returns one write, whole"
        );
        Ok(value)
    }
}

fn block_data(value: u64, blocks: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(blocks * BLOCK / 8)
}

/// What one slot of the volume may hold: the last acknowledged value, or the one under way.
#[derive(Clone, Copy, Default)]
struct Known {
    acked: u64,
    tried: u64,
}

#[derive(Default)]
struct Progress {
    slots: RefCell<[Known; SIZES.len()]>,
    sessions: Cell<u64>,
    writes: Cell<u64>,
}

/// One session: connect, check what is there, then write and read until something breaks.
async fn session(server: SocketAddr, progress: &Progress) -> io::Result<()> {
    let (mut admin, cntlid) = Queue::open(server, 0, CNTLID_DYNAMIC).await?;
    admin.enable().await?;
    let (mut io, _) = Queue::open(server, 1, cntlid).await?;
    progress.sessions.set(progress.sessions.get() + 1);
    loop {
        for (slot, blocks) in SIZES.into_iter().enumerate() {
            let lba = slot as u64 * 100;
            let known = progress.slots.borrow()[slot];
            let found = io.read(lba, blocks).await?;
            assert!(
                found == known.acked || found == known.tried,
                "slot {slot} holds {found}, acknowledged was {}, under way {}",
                known.acked,
                known.tried
            );
            let value = known.tried + 1;
            progress.slots.borrow_mut()[slot] = Known {
                acked: found,
                tried: value,
            };
            io.write(lba, value, blocks).await?;
            progress.slots.borrow_mut()[slot] = Known {
                acked: value,
                tried: value,
            };
            progress.writes.set(progress.writes.get() + 1);
        }
        admin.run(Sqe::keep_alive(5), &[], &[]).await?;
    }
}

async fn host(server: SocketAddr, progress: Rc<Progress>) {
    loop {
        // An end that the host cannot see (a half-open connection) shows as silence.
        let _ = timeout(4 * SECOND, session(server, &progress)).await;
        sleep(Duration::from_millis(5)).await;
    }
}

type Shared = Rc<RefCell<Vec<(Target, BufPool)>>>;

fn options(directory: Directory) -> TargetOptions {
    TargetOptions {
        connect_timeout: 2 * SECOND,
        stall_timeout: 2 * SECOND,
        keep_alive_grace: SECOND,
        directory,
        ..TargetOptions::default()
    }
}

/// Core 0 listens; the volume lives on the last core.
fn start_target(world: &mut World, cores: usize) -> (SocketAddr, Shared) {
    let address: IpAddr = world.node("target");
    let shared = Shared::default();
    let targets = shared.clone();
    world.start_with("target", cores, move || {
        let directory = Directory::new();
        let targets = targets.clone();
        move |core| {
            let (directory, targets) = (directory.clone(), targets.clone());
            async move {
                let target = Target::new(options(directory)).expect("good options");
                targets
                    .borrow_mut()
                    .push((target.clone(), reactor::buf::pool()));
                if core + 1 == cores {
                    let volume = volume::testing::memory_volume(1000, 4096);
                    target
                        .add_volume(volume, SubsystemOptions::default())
                        .expect("the first");
                }
                if core == 0 {
                    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
                    target.listen(any).await.expect("the port is free");
                }
                sleep(100_000 * SECOND).await;
            }
        }
    });
    (SocketAddr::new(address, PORT), shared)
}

/// Breaks connections `breaks` times, then lets everything settle and counts what is left.
fn run_world(seed: u64, cores: usize, breaks: u32) -> u64 {
    let mut options = WorldOptions::default();
    // Spinning costs the simulator turns and finds nothing here.
    options.core.spin = reactor::Spin::For(Duration::from_micros(3));
    let mut world = World::new(seed, options);
    let (server, targets) = start_target(&mut world, cores);
    let progress = Rc::new(Progress::default());
    let shared = progress.clone();
    world.start("host", 1, move |_| host(server, shared.clone()));
    let mut random = seed | 1;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for _ in 0..breaks {
        // From the first SYN to some commands into the session.
        world.run_for(Duration::from_micros(below(20_000)));
        match below(8) {
            0 => {
                world.crash("host", Crash::Kill);
                world.restart("host");
            }
            1 => {
                world.partition("host", "target");
                world.run_for(Duration::from_millis(below(6000)));
                world.heal("host", "target");
            }
            _ => {
                world.drop_connection("host", "target");
            }
        }
    }
    let before = progress.writes.get();
    world.run_until(60 * SECOND, |_| progress.writes.get() >= before + 20);
    assert!(progress.sessions.get() > 1, "connections broke");
    world.crash("host", Crash::Kill);
    let idle = |_: &World| {
        targets
            .borrow()
            .iter()
            .all(|(target, pool)| target.connections().is_empty() && pool.in_use_bytes() == 0)
    };
    world.run_until(60 * SECOND, idle);
    progress.writes.get()
}

#[test]
fn connections_that_break_at_every_state_leave_nothing_behind() {
    for seed in 1..=5 {
        run_world(seed, 1, 25);
    }
}

#[test]
fn connections_move_to_the_core_of_their_volume() {
    for seed in 1..=3 {
        run_world(seed, 2, 20);
    }
}
