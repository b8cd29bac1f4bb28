//! A small iSCSI initiator that waits for every answer. It says what a test wants it to say, right
//! or wrong, and judges what comes back: digests, tags, sequence numbers and residuals.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wire::iscsi::digest::{data_digest, header_digest};
use wire::iscsi::{
    BHS_BYTES, Bhs, DataIn, DataOut, Digests, Extent, InitiatorNumbers, Layout, LoginFlags,
    LoginRequest, LoginResponse, LoginStatus, LogoutReason, LogoutRequest, NO_TAG, Opcode, R2t,
    ScsiCommand, ScsiResponse, Stage, flags,
};
use zerocopy::FromBytes;

use crate::iqn;

/// Longest time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Data in one Data-Out: below what any target accepts.
const PIECE_BYTES: usize = 8192;
/// Rounds of a login.
const ROUNDS: usize = 8;
/// Logical unit 0.
pub const LUN: [u8; 8] = [0; 8];

/// What a login says.
#[derive(Clone, Debug)]
pub struct Login {
    /// InitiatorName.
    pub name: String,
    /// TargetName; without one it is a discovery session.
    pub target: Option<String>,
    /// Part of the session's identifier.
    pub isid: [u8; 6],
    /// Further keys, in order.
    pub keys: Vec<(&'static str, &'static str)>,
}

impl Login {
    /// A session with a volume, without digests, all data asked for by R2T.
    #[must_use]
    pub fn volume(name: &str) -> Self {
        Self {
            name: "iqn.2026-11.io.bedplate.test:host".to_owned(),
            target: Some(iqn(name)),
            isid: [0x80, 0, 0, 0, 0, 1],
            keys: vec![("InitialR2T", "Yes"), ("ImmediateData", "No")],
        }
    }

    /// Another initiator port.
    #[must_use]
    pub fn port(mut self, number: u16) -> Self {
        self.isid[4..].copy_from_slice(&number.to_be_bytes());
        self
    }

    /// Both digests.
    #[must_use]
    pub fn digests(mut self) -> Self {
        self.keys
            .extend([("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
        self
    }

    /// Answers to what the target offers: what it says will do, and no digest.
    fn answers(&self, text: &[u8]) -> Vec<u8> {
        let mut answers = String::new();
        for pair in text.split(|byte| *byte == 0) {
            let pair = String::from_utf8_lossy(pair);
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            if DECLARATIONS.contains(&key) || self.keys.iter().any(|(asked, _)| *asked == key) {
                continue;
            }
            let value = if key.ends_with("Digest") {
                "None"
            } else {
                value
            };
            answers += &format!("{key}={value}\0");
        }
        answers.into_bytes()
    }

    /// The text of the request, each pair ended by a zero.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = format!("InitiatorName={}\0", self.name);
        match &self.target {
            Some(target) => text += &format!("SessionType=Normal\0TargetName={target}\0"),
            None => text += "SessionType=Discovery\0",
        }
        for (key, value) in &self.keys {
            text += &format!("{key}={value}\0");
        }
        text.into_bytes()
    }
}

/// Keys that say something and want no answer.
const DECLARATIONS: [&str; 4] = [
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "MaxRecvDataSegmentLength",
];

/// Why a session did not come to be or went away.
#[derive(Debug)]
pub enum Failure {
    /// The connection failed or was closed.
    Io(io::Error),
    /// The login was refused.
    Refused(LoginStatus),
    /// The target broke the protocol.
    Protocol(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A PDU that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its basic header.
    pub header: [u8; BHS_BYTES],
    /// Its data without padding.
    pub data: Vec<u8>,
}

impl Received {
    /// Its opcode.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.view::<Bhs>().opcode()
    }

    /// The header as its own structure.
    #[must_use]
    pub fn view<T: FromBytes>(&self) -> T {
        T::read_from_bytes(&self.header).expect("headers have 48 bytes")
    }
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// SCSI status.
    pub status: u8,
    /// Sense key, and additional sense code with its qualifier, in fixed format.
    pub sense: Option<(u8, u16)>,
    /// Data that came.
    pub data: Vec<u8>,
    /// Residual flags and count.
    pub residual: (u8, u32),
}

/// A connection, and what it needs to speak in order.
#[derive(Debug)]
pub struct Initiator {
    stream: TcpStream,
    digests: Digests,
    /// CmdSN of the next command.
    pub cmd_sn: u32,
    /// StatSN that is expected next.
    pub exp_stat_sn: u32,
    /// Highest CmdSN that the target takes.
    pub max_cmd_sn: u32,
    itt: u32,
}

/// A command descriptor block of READ(16) (8Ah: WRITE(16)).
#[must_use]
pub fn read_write_16(opcode: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

impl Initiator {
    /// Opens a connection and says nothing.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            digests: Digests::default(),
            cmd_sn: 1,
            exp_stat_sn: 0,
            max_cmd_sn: 1,
            itt: 0,
        })
    }

    /// Opens a connection and logs in. The first command takes the unit attention that a new
    /// nexus finds.
    pub fn login(address: SocketAddr, login: &Login) -> Result<Self, Failure> {
        let mut this = Self::open(address)?;
        let status = this.negotiate(login)?;
        if status != LoginStatus::SUCCESS {
            return Err(Failure::Refused(status));
        }
        this.digests = Digests {
            header: login.keys.contains(&("HeaderDigest", "CRC32C")),
            data: login.keys.contains(&("DataDigest", "CRC32C")),
        };
        Ok(this)
    }

    /// Goes through the operational stage, the only one without authentication.
    fn negotiate(&mut self, login: &Login) -> Result<LoginStatus, Failure> {
        let mut text = login.text();
        let form = LoginFlags {
            transit: true,
            continues: false,
            current: Stage::OPERATIONAL,
            next: Stage::FULL_FEATURE,
        };
        for _ in 0..ROUNDS {
            let ids = (0, 1);
            let request = LoginRequest::new(login.isid, ids, 0, form, text.len(), self.numbers());
            self.send(request.as_wire(), &text)?;
            let answer = self.receive()?;
            if answer.opcode() != Opcode::LOGIN_RESPONSE {
                return Err(Failure::Protocol(format!("{answer:?} in a login")));
            }
            let response: LoginResponse = answer.view();
            let status = LoginStatus::from_bytes(response.status_class, response.status_detail);
            self.exp_stat_sn = response.stat_sn.get().wrapping_add(1);
            if status != LoginStatus::SUCCESS {
                return Ok(status);
            }
            if response.flags & flags::TRANSIT != 0 {
                return Ok(status);
            }
            text = login.answers(&answer.data);
        }
        Err(Failure::Protocol("the login does not end".to_owned()))
    }

    /// The numbers of the next request.
    #[must_use]
    pub fn numbers(&self) -> InitiatorNumbers {
        InitiatorNumbers {
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        }
    }

    /// A tag of a new task.
    pub fn tag(&mut self) -> u32 {
        self.itt += 1;
        self.itt
    }

    /// Sends a PDU with padding and digests.
    pub fn send(&mut self, header: &[u8], data: &[u8]) -> io::Result<()> {
        let bytes = self.frame(header, data);
        self.send_bytes(&bytes)
    }

    /// A PDU with padding and digests.
    #[must_use]
    pub fn frame(&self, header: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        if self.digests.header {
            bytes.extend(header_digest(header));
        }
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if self.digests.data && !data.is_empty() {
            bytes.extend(data_digest(data));
        }
        bytes
    }

    /// How long to wait for anything from now on.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for a PDU and checks its digests and its StatSN.
    pub fn receive(&mut self) -> Result<Received, Failure> {
        let mut header = [0; BHS_BYTES];
        self.stream.read_exact(&mut header)?;
        let bhs = Bhs::read_from_bytes(&header).expect("48 bytes");
        let layout = Layout::to_send(bhs.ahs_bytes(), bhs.data_bytes(), self.digests);
        let mut rest = vec![0; layout.total() - BHS_BYTES];
        self.stream.read_exact(&mut rest)?;
        let (digest, rest) = rest.split_at(layout.header_digest);
        check("header", digest, header_digest(&header))?;
        let (data, rest) = rest.split_at(layout.data);
        check("data", &rest[layout.padding..], data_digest(data))?;
        let data = data.to_vec();
        Ok(Received { header, data })
    }

    /// Reads until the target closes the connection; PDUs before that are thrown away.
    pub fn wait_closed(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 65536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a SCSI command without data and gives its tag; it takes a place in the order.
    pub fn submit(&mut self, cdb: [u8; 16], direction: u8, expected: u32) -> io::Result<u32> {
        let itt = self.tag();
        let command = ScsiCommand::new(itt, LUN, cdb, direction, expected, self.numbers());
        self.send(command.as_wire(), &[])?;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        Ok(itt)
    }

    /// Reads `blocks` blocks.
    pub fn read(&mut self, lba: u64, blocks: u32, block_bytes: u32) -> Result<Done, Failure> {
        let cdb = read_write_16(0x88, lba, blocks);
        let itt = self.submit(cdb, flags::READ, blocks * block_bytes)?;
        self.finish(itt, &[])
    }

    /// Writes whole blocks.
    pub fn write(&mut self, lba: u64, data: &[u8], block_bytes: u32) -> Result<Done, Failure> {
        let len_bytes = u32::try_from(data.len()).expect("fits");
        let cdb = read_write_16(0x8a, lba, len_bytes / block_bytes);
        let itt = self.submit(cdb, flags::WRITE, len_bytes)?;
        self.finish(itt, data)
    }

    /// A command without data.
    pub fn bare(&mut self, opcode: u8) -> Result<Done, Failure> {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        let itt = self.submit(cdb, 0, 0)?;
        self.finish(itt, &[])
    }

    /// TEST UNIT READY until no unit attention is left.
    pub fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..16 {
            if self.bare(0)?.status == 0 {
                return Ok(());
            }
        }
        Err(Failure::Protocol("the unit does not get ready".to_owned()))
    }

    /// Serves the target's R2Ts with `data` and takes its data until the command's end.
    pub fn finish(&mut self, itt: u32, data: &[u8]) -> Result<Done, Failure> {
        let mut done = Done::default();
        let mut parts = 0;
        loop {
            let pdu = self.receive()?;
            match pdu.opcode() {
                Opcode::R2T => self.answer_r2t(&pdu.view(), itt, data)?,
                Opcode::DATA_IN => {
                    let header: DataIn = pdu.view();
                    expect("DataSN", header.data_sn.get(), parts)?;
                    expect(
                        "offset",
                        header.buffer_offset.get() as usize,
                        done.data.len(),
                    )?;
                    parts += 1;
                    done.data.extend(&pdu.data);
                    if header.flags & flags::STATUS != 0 {
                        done.status = header.status;
                        done.residual = residual(header.flags, header.residual.get());
                        self.count(header.stat_sn.get(), header.max_cmd_sn.get())?;
                        return Ok(done);
                    }
                }
                Opcode::SCSI_RESPONSE => {
                    let header: ScsiResponse = pdu.view();
                    expect("tag", header.itt.get(), itt)?;
                    done.status = header.status;
                    done.sense = fixed_sense(&pdu.data);
                    done.residual = residual(header.flags, header.residual.get());
                    self.count(header.stat_sn.get(), header.max_cmd_sn.get())?;
                    return Ok(done);
                }
                _ => self.other(&pdu)?,
            }
        }
    }

    fn answer_r2t(&mut self, r2t: &R2t, itt: u32, data: &[u8]) -> Result<(), Failure> {
        expect("tag of an R2T", r2t.itt.get(), itt)?;
        let (start, len) = (
            r2t.buffer_offset.get() as usize,
            r2t.desired_len.get() as usize,
        );
        let Some(wanted) = data.get(start..start + len) else {
            return Err(Failure::Protocol(format!("R2T for {start}+{len}")));
        };
        let pieces = wanted.chunks(PIECE_BYTES).count();
        for (index, piece) in wanted.chunks(PIECE_BYTES).enumerate() {
            let extent = Extent {
                sn: index as u32,
                offset: (start + index * PIECE_BYTES) as u32,
                len_bytes: piece.len() as u32,
            };
            let last = index + 1 == pieces;
            let header = DataOut::new(itt, r2t.ttt.get(), LUN, extent, last, self.exp_stat_sn);
            self.send(header.as_wire(), piece)?;
        }
        Ok(())
    }

    /// PDUs that may come at any time.
    fn other(&mut self, pdu: &Received) -> Result<(), Failure> {
        match pdu.opcode() {
            Opcode::NOP_IN => {
                let header: wire::iscsi::NopIn = pdu.view();
                let ttt = header.ttt.get();
                if ttt != NO_TAG {
                    let pong = wire::iscsi::NopOut::new(NO_TAG, ttt, LUN, 0, self.numbers());
                    self.send(pong.as_wire(), &[])?;
                }
                Ok(())
            }
            opcode => Err(Failure::Protocol(format!("{opcode:?} came"))),
        }
    }

    fn count(&mut self, stat_sn: u32, max_cmd_sn: u32) -> Result<(), Failure> {
        expect("StatSN", stat_sn, self.exp_stat_sn)?;
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        self.max_cmd_sn = max_cmd_sn;
        Ok(())
    }

    /// Ends the session; the connection is closed from this side.
    pub fn logout(mut self) -> Result<(), Failure> {
        let itt = self.tag();
        let request = LogoutRequest::new(itt, LogoutReason::CLOSE_SESSION, 1, self.numbers());
        self.send(request.as_wire(), &[])?;
        loop {
            let pdu = self.receive()?;
            if pdu.opcode() == Opcode::LOGOUT_RESPONSE {
                let header: wire::iscsi::LogoutResponse = pdu.view();
                return expect("response to a logout", header.response, 0);
            }
            self.other(&pdu)?;
        }
    }
}

fn check(what: &str, received: &[u8], computed: [u8; 4]) -> Result<(), Failure> {
    if received.is_empty() || received == computed {
        return Ok(());
    }
    Err(Failure::Protocol(format!("wrong {what} digest")))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure::Protocol(format!(
        "{what} {found:?} where {wanted:?} is due"
    )))
}

fn residual(flag_bits: u8, count: u32) -> (u8, u32) {
    (flag_bits & (flags::OVERFLOW | flags::UNDERFLOW), count)
}

/// Key and code of fixed format sense data behind its length.
fn fixed_sense(data: &[u8]) -> Option<(u8, u16)> {
    let sense = data.get(2..)?;
    (*sense.first()? & 0x7e == 0x70).then_some(())?;
    let code = u16::from_be_bytes([*sense.get(12)?, *sense.get(13)?]);
    Some((sense.get(2)? & 0x0f, code))
}
