//! The steps of a session: login, single commands, discovery.
//!
//! Source: RFC 7143 sections 6.3 (login), 11.10 and appendix C (SendTargets).

use wire::iscsi::text::{Pairs, TextWriter};
use wire::iscsi::{
    Bhs, DataIn, Link, LoginFlags, LoginRequest, LoginResponse, NO_TAG, Opcode, ScsiCommand,
    ScsiResponse, Stage, TextRequest, TextResponse, flags,
};
use wire::scsi::Cdb;

use super::login::{self, RECEIVE_MAX_BYTES, Wishes};
use super::session::{Received, Session};
use super::{Opening, cdb, digests, refuse};
use crate::error::PerfError;
use crate::queue::Status;

/// Most round trips of a login or of a text, and most PDUs around one answer.
const ROUNDS_MAX: usize = 64;
/// Most text of one answer.
const TEXT_MAX_BYTES: usize = 1 << 20;
/// Most unit attentions that a unit may have for a new session.
const ATTENTIONS_MAX: usize = 32;

impl Session {
    /// Logs in to the target of `opening` as its session number `number`.
    ///
    /// Errors: `Login`, `Negotiation`, and what ends a connection.
    pub fn login(opening: &Opening, number: u16) -> Result<Self, PerfError> {
        let mut session = Self::connect(opening, number)?;
        session.negotiate(&opening.wishes, Some(&opening.target))?;
        Ok(session)
    }

    /// Both stages of a login.
    fn negotiate(&mut self, wishes: &Wishes, target: Option<&str>) -> Result<(), PerfError> {
        let mut buffer = [0; 1024];
        let mut text = TextWriter::new(&mut buffer);
        let full = |_| PerfError::option("--initiator", &wishes.initiator, "the name is too long");
        login::names(&mut text, &wishes.initiator, target).map_err(full)?;
        let names = text.bytes().to_vec();
        let answer = self.stage(Stage::SECURITY, Stage::OPERATIONAL, &names)?;
        for pair in Pairs::new(&answer) {
            login::check_method(pair?)?;
        }
        let mut text = TextWriter::new(&mut buffer);
        login::offer(&mut text, wishes, target.is_none()).map_err(full)?;
        let offer = text.bytes().to_vec();
        let answer = self.stage(Stage::OPERATIONAL, Stage::FULL_FEATURE, &offer)?;
        for pair in Pairs::new(&answer) {
            self.settled.take(pair?, wishes)?;
        }
        self.settled.check(wishes)?;
        self.link = Link {
            full_feature: true,
            digests: digests(wishes),
            max_data_bytes: RECEIVE_MAX_BYTES,
            ..self.link
        };
        Ok(())
    }

    /// Sends the text of a stage until the target goes on to `next`; gives all its text.
    fn stage(&mut self, current: Stage, next: Stage, text: &[u8]) -> Result<Vec<u8>, PerfError> {
        let (mut text, mut answer) = (text, Vec::new());
        // Nothing is decided while the target's text goes on.
        let mut transit = true;
        for _ in 0..ROUNDS_MAX {
            let form = LoginFlags {
                transit,
                continues: false,
                current,
                next,
            };
            let numbers = self.numbers.now();
            let pdu = LoginRequest::new(self.isid, (0, 0), 0, form, text.len(), numbers);
            self.send(pdu.as_wire(), text)?;
            let came = self.receive("waiting for the answer to the login")?;
            let response = LoginResponse::decode(&came.header)?;
            if Bhs::decode(&came.header)?.opcode() != Opcode::LOGIN_RESPONSE {
                return Err(refuse(Opcode::LOGIN_RESPONSE, 0, "another PDU came"));
            }
            if response.status().class() != 0 {
                return Err(PerfError::Login {
                    status: response.status(),
                    address: moved_to(&came.data),
                });
            }
            let stat_sn = response.stat_sn.get();
            self.numbers.exp_stat_sn = stat_sn.wrapping_add(1);
            self.numbers.max_cmd_sn = response.max_cmd_sn.get();
            answer.extend(came.data);
            let form = response.form();
            if form.transit && form.next == next {
                return Ok(answer);
            }
            if form.current != current || form.transit {
                return Err(refuse(
                    Opcode::LOGIN_RESPONSE,
                    0,
                    "goes on to another stage",
                ));
            }
            (text, transit) = (&[], !form.continues);
        }
        Err(refuse(Opcode::LOGIN_RESPONSE, 0, "the login has no end"))
    }

    /// Runs one command that brings at most `most` bytes.
    ///
    /// Errors: what ends a connection; the status is given back.
    pub fn command(&mut self, cdb: Cdb, most: u32) -> Result<(Status, Vec<u8>), PerfError> {
        self.tag += 1;
        let direction = if most > 0 { flags::READ } else { 0 };
        let numbers = self.numbers.next();
        let pdu = ScsiCommand::new(self.tag, self.lun, cdb, direction, most, numbers);
        self.send(pdu.as_wire(), &[])?;
        let mut data = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let came = self.receive("waiting for the answer to a command")?;
            match Bhs::decode(&came.header)?.opcode() {
                Opcode::DATA_IN => {
                    let pdu = DataIn::decode(&came.header)?;
                    self.check_tag(Opcode::DATA_IN, pdu.itt.get())?;
                    data.extend(came.data);
                    if data.len() > most as usize {
                        return Err(refuse(Opcode::DATA_IN, self.tag, "more than was asked for"));
                    }
                    if pdu.flags & flags::STATUS != 0 {
                        self.take_status(Opcode::DATA_IN, pdu.stat_sn.get())?;
                        return Ok((Status::scsi(pdu.status, &[]), data));
                    }
                }
                Opcode::SCSI_RESPONSE => {
                    let pdu = ScsiResponse::decode(&came.header)?;
                    self.check_tag(Opcode::SCSI_RESPONSE, pdu.itt.get())?;
                    self.take_status(Opcode::SCSI_RESPONSE, pdu.stat_sn.get())?;
                    let sense = came.data.get(2..).unwrap_or_default();
                    return Ok((Status::scsi(pdu.status, sense), data));
                }
                _ => self.other(&came)?,
            }
        }
        Err(refuse(
            Opcode::SCSI_RESPONSE,
            self.tag,
            "the answer has no end",
        ))
    }

    /// Asks the unit until it has told all that happened to it before this session.
    ///
    /// Errors: `Scsi` when it cannot be used.
    pub fn wait_until_ready(&mut self) -> Result<(), PerfError> {
        let mut found = Status::scsi(0, &[]);
        for _ in 0..ATTENTIONS_MAX {
            (found, _) = self.command(cdb::TEST_UNIT_READY, 0)?;
            if found.is_success() {
                return Ok(());
            }
            if !found.is_attention() {
                break;
            }
        }
        Err(PerfError::Scsi {
            doing: "TEST UNIT READY",
            status: found,
        })
    }

    fn check_tag(&self, opcode: Opcode, itt: u32) -> Result<(), PerfError> {
        if itt == self.tag {
            return Ok(());
        }
        Err(refuse(opcode, itt, "no such command is in flight"))
    }

    fn take_status(&mut self, opcode: Opcode, stat_sn: u32) -> Result<(), PerfError> {
        let taken = self.numbers.take_status(stat_sn);
        taken.map_err(|problem| refuse(opcode, self.tag, problem))
    }

    fn send_targets(&mut self) -> Result<Vec<u8>, PerfError> {
        let (mut text, mut ttt, mut answer) = (&b"SendTargets=All\0"[..], NO_TAG, Vec::new());
        for _ in 0..ROUNDS_MAX {
            let numbers = self.numbers.next();
            let pdu = TextRequest::new(0, ttt, text.len(), numbers);
            self.send(pdu.as_wire(), text)?;
            let came = self.text_response()?;
            let response = TextResponse::decode(&came.header)?;
            self.take_status(Opcode::TEXT_RESPONSE, response.stat_sn.get())?;
            answer.extend(came.data);
            if Bhs::decode(&came.header)?.is_final() {
                return Ok(answer);
            }
            if answer.len() > TEXT_MAX_BYTES {
                break;
            }
            (text, ttt) = (&[], response.ttt.get());
        }
        Err(refuse(Opcode::TEXT_RESPONSE, 0, "the text has no end"))
    }

    fn text_response(&mut self) -> Result<Received, PerfError> {
        for _ in 0..ROUNDS_MAX {
            let came = self.receive("waiting for the list of targets")?;
            if Bhs::decode(&came.header)?.opcode() == Opcode::TEXT_RESPONSE {
                return Ok(came);
            }
            self.other(&came)?;
        }
        Err(refuse(Opcode::TEXT_RESPONSE, 0, "no answer came"))
    }
}

/// TargetAddress of a redirection.
fn moved_to(text: &[u8]) -> String {
    let found = Pairs::new(text).flatten();
    let mut found = found.filter(|pair| pair.key == "TargetAddress");
    found
        .next()
        .map_or_else(String::new, |pair| format!(" {}", pair.value))
}

/// The names of the targets that discovery lists for this initiator.
///
/// Errors: as [`Session::login`].
pub fn targets(opening: &Opening) -> Result<Vec<String>, PerfError> {
    let mut session = Session::connect(opening, 0)?;
    // Digests are for the load; targets settle them by target.
    let wishes = Wishes {
        header_digest: false,
        data_digest: false,
        ..opening.wishes.clone()
    };
    session.negotiate(&wishes, None)?;
    let text = session.send_targets()?;
    let mut names = Vec::new();
    for pair in Pairs::new(&text) {
        let pair = pair?;
        if pair.key == "TargetName" {
            names.push(pair.value.to_owned());
        }
    }
    Ok(names)
}
