//! An iSCSI initiator on the reactor: for simulated worlds, and for real sockets on a core of its own.
//!
//! It judges its peer: numbers that do not fit, data out of order or flags that are wrong end a test.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use reactor::net::TcpStream;
use wire::iscsi::digest::{check_data, check_header, data_digest, header_digest};
use wire::iscsi::text::{Pairs, is_yes, number};
use wire::iscsi::{
    AHS_MAX_BYTES, BHS_BYTES, Bhs, DataIn, DataOut, Digests, Extent, InitiatorNumbers, Layout,
    Link, LoginFlags, LoginRequest, LoginResponse, LoginStatus, LogoutReason, LogoutRequest,
    LogoutResponse, NO_TAG, NopOut, Opcode, R2t, Receiver, Residual, ScsiCommand, ScsiResponse,
    Stage, TaskFunction, TaskRequest, TaskResponse, TextRequest, flags,
};
use zerocopy::big_endian::U32;

use super::sim_host::{recv_exact, send_all};

pub const INITIATOR: &str = "iqn.2026-11.org.example:host";

/// What a login asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub initiator: String,
    /// None asks for a discovery session.
    pub target: Option<String>,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub cid: u16,
    pub cmd_sn: u32,
    pub digests: bool,
    pub max_recv_data_bytes: u32,
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_outstanding_r2t: u16,
    pub max_connections: u16,
}

impl Wish {
    /// The target of the tests' volume.
    pub fn new() -> Self {
        Self {
            initiator: INITIATOR.to_owned(),
            target: Some(frontends::iscsi::volume_iqn(super::VOLUME)),
            isid: [0x80, 0, 0, 0, 0, 1],
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            digests: false,
            max_recv_data_bytes: 256 << 10,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 64 << 10,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 8,
            max_connections: 4,
        }
    }

    fn text(&self) -> Vec<u8> {
        let yes = |on: bool| if on { "Yes" } else { "No" };
        let digest = if self.digests { "CRC32C" } else { "None" };
        let mut pairs = vec![("InitiatorName", self.initiator.clone())];
        match &self.target {
            Some(target) => {
                pairs.push(("TargetName", target.clone()));
                pairs.push(("SessionType", "Normal".to_owned()));
            }
            None => pairs.push(("SessionType", "Discovery".to_owned())),
        }
        pairs.push(("HeaderDigest", digest.to_owned()));
        pairs.push(("DataDigest", digest.to_owned()));
        let own = self.max_recv_data_bytes.to_string();
        pairs.push(("MaxRecvDataSegmentLength", own));
        if self.target.is_some() && self.tsih == 0 {
            let numbers = [
                ("MaxBurstLength", self.max_burst_bytes),
                ("FirstBurstLength", self.first_burst_bytes),
                ("MaxOutstandingR2T", self.max_outstanding_r2t.into()),
                ("MaxConnections", self.max_connections.into()),
            ];
            pairs.extend(numbers.map(|(key, value)| (key, value.to_string())));
            pairs.push(("InitialR2T", yes(self.initial_r2t).to_owned()));
            pairs.push(("ImmediateData", yes(self.immediate_data).to_owned()));
            pairs.push(("ErrorRecoveryLevel", "0".to_owned()));
        }
        let text: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}\0")).collect();
        text.concat().into_bytes()
    }
}

/// What the target agreed to.
#[derive(Clone, Debug)]
pub struct Terms {
    pub max_send_data_bytes: usize,
    pub max_burst_bytes: usize,
    pub first_burst_bytes: usize,
    pub initial_r2t: bool,
    pub immediate_data: bool,
}

/// A PDU that came in; its digests were good.
#[derive(Clone, Debug)]
pub struct Pdu {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

impl Pdu {
    pub fn opcode(&self) -> Opcode {
        self.bhs.opcode()
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Done {
    pub status: u8,
    /// Sense key, additional code and qualifier.
    pub sense: Option<(u8, u16)>,
    pub data: Vec<u8>,
    pub residual: Residual,
    pub r2t_count: usize,
}

impl Done {
    pub fn is_good(&self) -> bool {
        self.status == 0
    }
}

/// One connection of a session.
pub struct Initiator {
    pub stream: TcpStream,
    pub link: Link,
    pub terms: Terms,
    pub wish: Wish,
    pub tsih: u16,
    pub cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub exp_cmd_sn: u32,
    pub exp_stat_sn: u32,
    next_itt: u32,
    waiting: VecDeque<Pdu>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoLogin {
    Io,
    Refused(LoginStatus),
}

impl From<io::Error> for NoLogin {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl Initiator {
    /// Connects and logs in, in one step.
    pub async fn login(server: SocketAddr, wish: Wish) -> Result<Self, NoLogin> {
        let stream = TcpStream::connect(server).await?;
        let mut one = Self {
            stream,
            link: Link::new(Receiver::Initiator),
            terms: Terms {
                max_send_data_bytes: 8192,
                max_burst_bytes: wish.max_burst_bytes as usize,
                first_burst_bytes: wish.first_burst_bytes as usize,
                initial_r2t: wish.initial_r2t,
                immediate_data: wish.immediate_data,
            },
            tsih: wish.tsih,
            cmd_sn: wish.cmd_sn,
            max_cmd_sn: 0,
            exp_cmd_sn: 0,
            exp_stat_sn: 0,
            // Connections of one session share the space of tags.
            next_itt: u32::from(wish.cid) << 16,
            waiting: VecDeque::new(),
            wish,
        };
        one.negotiate().await?;
        Ok(one)
    }

    /// The first request of a login.
    pub fn login_request(wish: &Wish) -> (LoginRequest, Vec<u8>) {
        let text = wish.text();
        let form = LoginFlags {
            transit: true,
            continues: false,
            current: Stage::OPERATIONAL,
            next: Stage::FULL_FEATURE,
        };
        let numbers = InitiatorNumbers {
            cmd_sn: wish.cmd_sn,
            exp_stat_sn: 0,
        };
        let session = (wish.tsih, wish.cid);
        let header = LoginRequest::new(wish.isid, session, 0, form, text.len(), numbers);
        (header, text)
    }

    async fn negotiate(&mut self) -> Result<(), NoLogin> {
        let mut wish = self.wish.clone();
        let mut text = None;
        for _ in 0..8 {
            let (mut header, first) = Self::login_request(&wish);
            header.exp_stat_sn = U32::new(self.exp_stat_sn);
            let sent = text.take().unwrap_or(first);
            header.data_len = wire::iscsi::pdu::data_len(sent.len());
            self.send(header.as_wire(), &sent).await?;
            let pdu = self.receive_any().await?;
            let response: LoginResponse = zerocopy::transmute!(pdu.bhs);
            assert_eq!(pdu.opcode(), Opcode::LOGIN_RESPONSE);
            if response.status() != LoginStatus::SUCCESS {
                return Err(NoLogin::Refused(response.status()));
            }
            self.exp_stat_sn = response.stat_sn.get().wrapping_add(1);
            self.read_terms(&pdu.data);
            if response.form().transit {
                self.tsih = response.tsih.get();
                self.max_cmd_sn = response.max_cmd_sn.get();
                self.exp_cmd_sn = response.exp_cmd_sn.get();
                self.link.full_feature = true;
                self.link.max_ahs_bytes = AHS_MAX_BYTES as u32;
                self.link.max_data_bytes = self.wish.max_recv_data_bytes;
                return Ok(());
            }
            wish = self.wish.clone();
            text = Some(answers(&self.wish.text(), &pdu.data));
        }
        Err(NoLogin::Io)
    }

    fn read_terms(&mut self, text: &[u8]) {
        for pair in Pairs::new(text) {
            let pair = pair.expect("the target's text is well-formed");
            let value = || number(pair.value).expect("a number") as usize;
            match pair.key {
                "HeaderDigest" => self.link.digests.header = pair.value == "CRC32C",
                "DataDigest" => self.link.digests.data = pair.value == "CRC32C",
                "MaxRecvDataSegmentLength" => self.terms.max_send_data_bytes = value(),
                "MaxBurstLength" => self.terms.max_burst_bytes = value(),
                "FirstBurstLength" => self.terms.first_burst_bytes = value(),
                "InitialR2T" => self.terms.initial_r2t = is_yes(pair.value).expect("a choice"),
                "ImmediateData" => {
                    self.terms.immediate_data = is_yes(pair.value).expect("a choice");
                }
                _ => {}
            }
        }
    }

    fn digests(&self) -> Digests {
        if self.link.full_feature {
            self.link.digests
        } else {
            Digests::default()
        }
    }

    /// Sends one PDU.
    pub async fn send(&mut self, header: &[u8], data: &[u8]) -> io::Result<()> {
        let bytes = self.framed(header, data);
        send_all(&self.stream, &bytes).await
    }

    /// One PDU as bytes.
    pub fn framed(&self, header: &[u8], data: &[u8]) -> Vec<u8> {
        let digests = self.digests();
        let mut bytes = header.to_vec();
        if digests.header {
            bytes.extend_from_slice(&header_digest(header));
        }
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if digests.data && !data.is_empty() {
            bytes.extend_from_slice(&data_digest(data));
        }
        bytes
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        send_all(&self.stream, bytes).await
    }

    /// The next PDU, whichever it is; pings are answered on the way.
    pub async fn receive_any(&mut self) -> io::Result<Pdu> {
        loop {
            let pdu = self.receive_pdu().await?;
            let is_ping = pdu.opcode() == Opcode::NOP_IN && pdu.bhs.itt.get() == NO_TAG;
            if !is_ping {
                return Ok(pdu);
            }
            let [a, b, c, d, ..] = pdu.bhs.specific20;
            let ttt = u32::from_be_bytes([a, b, c, d]);
            if ttt != NO_TAG {
                let pong = NopOut::new(NO_TAG, ttt, pdu.bhs.lun, 0, self.numbers());
                self.send(pong.as_wire(), &[]).await?;
            }
        }
    }

    /// The next PDU, pings too.
    pub async fn receive_pdu(&mut self) -> io::Result<Pdu> {
        let mut header = [0; BHS_BYTES];
        recv_exact(&self.stream, &mut header).await?;
        let bhs = *Bhs::decode(&header).expect("48 bytes");
        let mut link = self.link;
        link.digests = self.digests();
        let layout: Layout = link.frame(&bhs).expect("the target frames its PDUs");
        let mut rest = vec![0; layout.total() - BHS_BYTES];
        recv_exact(&self.stream, &mut rest).await?;
        let (digest, rest) = rest.split_at(layout.header_digest);
        if let Ok(received) = digest.try_into() {
            check_header(&header, received).expect("a good header digest");
        }
        let data = rest[..layout.data].to_vec();
        if layout.data_digest != 0 {
            let (padded, received) = rest.split_at(layout.data + layout.padding);
            let crc = wire::tcp::digest::crc32c(padded);
            check_data(crc, received.try_into().expect("4 bytes")).expect("a good data digest");
        }
        if self.link.full_feature {
            self.note_numbers(&bhs);
        }
        Ok(Pdu { bhs, data })
    }

    /// Numbers of a target only go forward; responses are counted without a gap.
    fn note_numbers(&mut self, bhs: &Bhs) {
        let word = |at: usize| {
            let bytes = &bhs.specific20[at..at + 4];
            u32::from_be_bytes(bytes.try_into().expect("4 bytes"))
        };
        let (stat_sn, exp, max) = (word(4), word(8), word(12));
        if !wire::iscsi::is_before(exp, self.exp_cmd_sn) {
            self.exp_cmd_sn = exp;
        }
        if !wire::iscsi::is_before(max, self.max_cmd_sn) {
            self.max_cmd_sn = max;
        }
        let has_status = match bhs.opcode() {
            Opcode::DATA_IN => bhs.flags & flags::STATUS != 0,
            Opcode::R2T => false,
            Opcode::NOP_IN => bhs.itt.get() != NO_TAG,
            _ => true,
        };
        if has_status {
            assert_eq!(stat_sn, self.exp_stat_sn, "{:?}", bhs.opcode());
            self.exp_stat_sn = stat_sn.wrapping_add(1);
        }
    }

    /// Numbers of an immediate request.
    pub fn numbers(&self) -> InitiatorNumbers {
        InitiatorNumbers {
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        }
    }

    /// Numbers of the next request that is not immediate.
    pub fn next_numbers(&mut self) -> InitiatorNumbers {
        let numbers = self.numbers();
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        numbers
    }

    pub fn new_itt(&mut self) -> u32 {
        self.next_itt += 1;
        self.next_itt
    }

    /// Sends a command with as much of its data as may come unasked.
    pub async fn start(&mut self, cdb: [u8; 16], room: u32, data: &[u8]) -> io::Result<u32> {
        let direction = match (room, data.len()) {
            (0, 0) => 0,
            (_, 0) => flags::READ,
            _ => flags::WRITE,
        };
        let expected = room.max(data.len() as u32);
        let itt = self.new_itt();
        let numbers = self.next_numbers();
        let command = ScsiCommand::new(itt, [0; 8], cdb, direction, expected, numbers);
        self.start_with(command, data).await?;
        Ok(itt)
    }

    /// Sends a command whose header is as it is, but for what says which data follows.
    pub async fn start_with(&mut self, mut command: ScsiCommand, data: &[u8]) -> io::Result<()> {
        let first = data.len().min(self.terms.first_burst_bytes);
        let immediate = if self.terms.immediate_data {
            first.min(self.terms.max_send_data_bytes)
        } else {
            0
        };
        let unsolicited = if self.terms.initial_r2t {
            immediate
        } else {
            first
        };
        command.data_len = wire::iscsi::pdu::data_len(immediate);
        if unsolicited > immediate {
            command.flags &= !wire::iscsi::pdu::FINAL;
        }
        self.send(command.as_wire(), &data[..immediate]).await?;
        let itt = command.itt.get();
        self.send_data(itt, NO_TAG, immediate, &data[..unsolicited])
            .await
    }

    /// Sends a sequence of Data-Out PDUs: `data` from `from` on.
    pub async fn send_data(
        &mut self,
        itt: u32,
        ttt: u32,
        from: usize,
        data: &[u8],
    ) -> io::Result<()> {
        let (mut offset, mut sn) = (from, 0);
        while offset < data.len() {
            let len = (data.len() - offset).min(self.terms.max_send_data_bytes);
            let extent = Extent {
                sn,
                offset: offset as u32,
                len_bytes: len as u32,
            };
            let last = offset + len == data.len();
            let pdu = DataOut::new(itt, ttt, [0; 8], extent, last, self.exp_stat_sn);
            self.send(pdu.as_wire(), &data[offset..offset + len])
                .await?;
            offset += len;
            sn += 1;
        }
        Ok(())
    }

    /// Waits for the end of a command; `data` answers its R2Ts. What comes for others is kept.
    pub async fn finish(&mut self, itt: u32, data: &[u8]) -> io::Result<Done> {
        let mut read = Vec::new();
        let mut counts = (0, 0);
        loop {
            let pdu = self.receive_for(itt).await?;
            match pdu.opcode() {
                Opcode::R2T => {
                    let r2t: R2t = zerocopy::transmute!(pdu.bhs);
                    assert_eq!(r2t.r2t_sn.get(), counts.1, "R2Ts are counted");
                    counts.1 += 1;
                    let start = r2t.buffer_offset.get() as usize;
                    let end = start + r2t.desired_len.get() as usize;
                    assert!(end - start <= self.terms.max_burst_bytes);
                    self.send_data(itt, r2t.ttt.get(), start, &data[..end])
                        .await?;
                }
                Opcode::DATA_IN => {
                    let pdu_in: DataIn = zerocopy::transmute!(pdu.bhs);
                    assert_eq!(pdu_in.data_sn.get(), counts.0, "Data-In PDUs are counted");
                    assert_eq!(pdu_in.buffer_offset.get() as usize, read.len());
                    counts.0 += 1;
                    read.extend_from_slice(&pdu.data);
                    let burst = self.terms.max_burst_bytes;
                    if read.len().is_multiple_of(burst) {
                        assert!(pdu.bhs.is_final(), "a burst is at its end");
                    }
                    if pdu_in.flags & flags::STATUS != 0 {
                        return Ok(Done {
                            status: pdu_in.status,
                            sense: None,
                            data: read,
                            residual: Residual::decode(pdu_in.flags, pdu_in.residual.get()),
                            r2t_count: counts.1 as usize,
                        });
                    }
                }
                Opcode::SCSI_RESPONSE => {
                    let response: ScsiResponse = zerocopy::transmute!(pdu.bhs);
                    assert_eq!(response.exp_data_sn.get(), counts.0 + counts.1);
                    return Ok(Done {
                        status: response.status,
                        sense: sense_of(&pdu.data),
                        data: read,
                        residual: Residual::decode(response.flags, response.residual.get()),
                        r2t_count: counts.1 as usize,
                    });
                }
                other => panic!("{other:?} is no answer of a command"),
            }
        }
    }

    /// The next PDU with this tag; Rejects have none and are kept like others.
    pub async fn receive_for(&mut self, itt: u32) -> io::Result<Pdu> {
        let kept = self.waiting.iter().position(|pdu| pdu.bhs.itt.get() == itt);
        if let Some(at) = kept {
            return Ok(self.waiting.remove(at).expect("it is there"));
        }
        loop {
            let pdu = self.receive_any().await?;
            if pdu.bhs.itt.get() == itt {
                return Ok(pdu);
            }
            self.waiting.push_back(pdu);
        }
    }

    /// A PDU of this kind that came while something else was waited for, or comes next.
    pub async fn receive_kind(&mut self, opcode: Opcode) -> io::Result<Pdu> {
        let kept = self.waiting.iter().position(|pdu| pdu.opcode() == opcode);
        if let Some(at) = kept {
            return Ok(self.waiting.remove(at).expect("it is there"));
        }
        loop {
            let pdu = self.receive_any().await?;
            if pdu.opcode() == opcode {
                return Ok(pdu);
            }
            self.waiting.push_back(pdu);
        }
    }

    pub async fn run(&mut self, cdb: [u8; 16], room: u32, data: &[u8]) -> io::Result<Done> {
        let itt = self.start(cdb, room, data).await?;
        self.finish(itt, data).await
    }

    /// TEST UNIT READY until the unit attentions are over.
    pub async fn settle(&mut self) -> io::Result<()> {
        let mut last = None;
        for _ in 0..10 {
            let done = self.run([0; 16], 0, &[]).await?;
            if done.is_good() {
                return Ok(());
            }
            last = Some(done);
        }
        Err(io::Error::other(format!(
            "the unit does not get ready: {last:?}"
        )))
    }

    /// Writes whole blocks.
    pub async fn write(&mut self, lba: u32, data: &[u8], block: usize) -> io::Result<()> {
        let cdb = write10(lba, (data.len() / block) as u16);
        good(self.run(cdb, 0, data).await?)
    }

    /// Reads whole blocks.
    pub async fn read(&mut self, lba: u32, count: u16, block: usize) -> io::Result<Vec<u8>> {
        let room = u32::from(count) * block as u32;
        let done = self.run(read10(lba, count), room, &[]).await?;
        let data = done.data.clone();
        good(done)?;
        Ok(data)
    }

    /// Asks for a task management function and waits for what came of it.
    pub async fn manage(
        &mut self,
        function: TaskFunction,
        task: u32,
        cmd_sn: u32,
    ) -> io::Result<u8> {
        let itt = self.new_itt();
        let numbers = self.numbers();
        let pdu = TaskRequest::new(itt, [0; 8], function, task, cmd_sn, numbers);
        self.send(pdu.as_wire(), &[]).await?;
        let answer: TaskResponse = zerocopy::transmute!(self.receive_for(itt).await?.bhs);
        Ok(answer.response)
    }

    pub async fn logout(&mut self, reason: LogoutReason, cid: u16) -> io::Result<u8> {
        let itt = self.new_itt();
        let pdu = LogoutRequest::new(itt, reason, cid, self.numbers());
        self.send(pdu.as_wire(), &[]).await?;
        let answer: LogoutResponse = zerocopy::transmute!(self.receive_for(itt).await?.bhs);
        Ok(answer.response)
    }

    /// Sends a text request; the answers of all PDUs, put together.
    pub async fn text(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        let itt = self.new_itt();
        let (mut ttt, mut sent, mut all) = (NO_TAG, text, Vec::new());
        loop {
            let numbers = self.next_numbers();
            let pdu = TextRequest::new(itt, ttt, sent.len(), numbers);
            self.send(pdu.as_wire(), sent).await?;
            let answer = self.receive_for(itt).await?;
            assert_eq!(answer.opcode(), Opcode::TEXT_RESPONSE);
            all.extend_from_slice(&answer.data);
            if answer.bhs.is_final() {
                return Ok(all);
            }
            let [a, b, c, d, ..] = answer.bhs.specific20;
            (ttt, sent) = (u32::from_be_bytes([a, b, c, d]), &[]);
        }
    }

    /// Whether the target has closed the connection, after what it still had to say.
    pub async fn is_closed(&mut self) -> bool {
        loop {
            match self.receive_pdu().await {
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// Agrees to what the target offered by itself.
fn answers(own: &[u8], text: &[u8]) -> Vec<u8> {
    let declared = [
        "TargetPortalGroupTag",
        "TargetAlias",
        "MaxRecvDataSegmentLength",
    ];
    let pairs = |text| Pairs::new(text).map(|pair| pair.expect("a well-formed text"));
    let offered = pairs(text).filter(|pair| {
        let is_answer = pairs(own).any(|other| other.key == pair.key);
        !is_answer && !declared.contains(&pair.key)
    });
    let texts: Vec<String> = offered
        .map(|pair| format!("{}={}\0", pair.key, pair.value))
        .collect();
    texts.concat().into_bytes()
}

fn sense_of(segment: &[u8]) -> Option<(u8, u16)> {
    let len = u16::from_be_bytes(*segment.first_chunk()?) as usize;
    let sense = segment.get(2..2 + len)?;
    match sense[0] & 0x7f {
        0x70 => Some((sense[2] & 0x0f, u16::from_be_bytes([sense[12], sense[13]]))),
        0x72 => Some((sense[1] & 0x0f, u16::from_be_bytes([sense[2], sense[3]]))),
        _ => None,
    }
}

fn good(done: Done) -> io::Result<()> {
    match done.status {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("{done:?}"))),
    }
}

fn transfer(opcode: u8, lba: u32, count: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&count.to_be_bytes());
    cdb
}

pub fn read10(lba: u32, count: u16) -> [u8; 16] {
    transfer(0x28, lba, count)
}

pub fn write10(lba: u32, count: u16) -> [u8; 16] {
    transfer(0x2a, lba, count)
}
