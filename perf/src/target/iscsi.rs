//! The admin side of iSCSI: finds the target, asks the unit what it is.
//!
//! Source: SPC-4 sections 6.4 (INQUIRY) and 7.8 (vital product data), SBC-3 sections 5.16 (READ
//! CAPACITY (16)) and 6.5.3 (block limits), SAM-5 section 4.7 (unit numbers).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::scsi::Cdb;
use wire::scsi::data::capacity::Capacity;

use crate::access::Random;
use crate::cli::ConnectArgs;
use crate::error::PerfError;
use crate::queue::iscsi::{Opening, Session, Wishes, cdb, targets};
use crate::queue::{Connection, Io, Kind, Link, Shape};

use super::{FILL_BYTES, FILL_DEPTH, Geometry, Name, Target};

/// Bytes of inquiry data that are asked for.
const INQUIRY_BYTES: u8 = 96;
/// Bytes of READ CAPACITY (16) data.
const CAPACITY_BYTES: u8 = 32;
/// Unit serial number, and block limits.
const SERIAL_PAGE: u8 = 0x80;
const LIMITS_PAGE: u8 = 0xb0;

/// A target with a session that was logged in to ask it.
#[derive(Debug)]
pub struct Admin {
    opening: Opening,
    /// Kept while the target is: a target that goes is noticed by its queues.
    _session: Session,
}

/// Connects to `iqn`, or to the only target that discovery lists.
///
/// Errors: `Session`; `Option` when there is not exactly one target to choose.
pub fn connect(
    address: SocketAddr,
    iqn: Option<&str>,
    lun: u16,
    link: &ConnectArgs,
) -> Result<Target, PerfError> {
    let mut opening = Opening {
        address,
        target: iqn.unwrap_or_default().to_owned(),
        lun: unit(lun),
        wishes: wishes(link),
        timeout: link.connect_timeout,
    };
    if iqn.is_none() {
        opening.target = discover(&opening)?;
    }
    let doing = |doing: &'static str| move |error: PerfError| error.on_session(doing, address);
    let mut session = Session::login(&opening, 0).map_err(doing("logging in"))?;
    let asked = ask(&mut session).map_err(doing("asking the unit what it is"))?;
    Ok(Target {
        address,
        name: Name::Iscsi {
            iqn: opening.target.clone(),
            lun,
        },
        model: asked.model,
        serial: asked.serial,
        firmware: asked.firmware,
        geometry: asked.geometry,
        admin: super::Admin::Iscsi(Box::new(Admin {
            opening,
            _session: session,
        })),
    })
}

/// The 8 bytes of a unit's number: the form that most targets have, flat beyond it.
fn unit(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let high = if lun < 256 { high } else { high | 0x40 };
    [high, low, 0, 0, 0, 0, 0, 0]
}

fn wishes(link: &ConnectArgs) -> Wishes {
    Wishes {
        initiator: link.initiator.clone(),
        isid: std::process::id(),
        header_digest: link.header_digest,
        data_digest: link.data_digest,
        initial_r2t: link.initial_r2t,
        immediate_data: !link.no_immediate_data,
        first_burst_bytes: link.first_burst as u32,
        max_burst_bytes: link.max_burst.max(link.first_burst) as u32,
        max_r2t: link.max_r2t.min(65_535),
    }
}

fn discover(opening: &Opening) -> Result<String, PerfError> {
    let names = targets(opening);
    let mut names = names.map_err(|error| error.on_session("discovery", opening.address))?;
    names.sort();
    names.dedup();
    let option = |problem: String| Err(PerfError::option("the target's name", "(none)", problem));
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => option("discovery lists no target for this initiator".to_owned()),
        many => option(format!(
            "discovery lists several, choose one of {}",
            many.join(", ")
        )),
    }
}

struct Asked {
    model: String,
    serial: String,
    firmware: String,
    geometry: Geometry,
}

fn ask(session: &mut Session) -> Result<Asked, PerfError> {
    session.wait_until_ready()?;
    let inquiry = must(
        session,
        "INQUIRY",
        cdb::inquiry(None, INQUIRY_BYTES),
        INQUIRY_BYTES,
    )?;
    let capacity = must(
        session,
        "READ CAPACITY (16)",
        cdb::read_capacity(CAPACITY_BYTES),
        CAPACITY_BYTES,
    )?;
    let text = |from: usize, to: usize| ascii(inquiry.get(from..to).unwrap_or_default());
    let geometry = geometry(session, &capacity)?;
    Ok(Asked {
        model: format!("{} {}", text(8, 16), text(16, 32)),
        serial: page(session, SERIAL_PAGE)?.map_or_else(String::new, |page| ascii(&page)),
        firmware: text(32, 36),
        geometry,
    })
}

fn geometry(session: &mut Session, capacity: &[u8]) -> Result<Geometry, PerfError> {
    let capacity = Capacity::decode(capacity);
    let capacity = capacity.filter(|capacity| {
        capacity.block_bytes.is_power_of_two() && (512..=65_536).contains(&capacity.block_bytes)
    });
    let Some(capacity) = capacity else {
        return Err(PerfError::Unit {
            problem: "its block size is not one of 512 bytes to 64 KiB",
        });
    };
    // MAXIMUM TRANSFER LENGTH in blocks; 0 or no page is no limit.
    let limits = page(session, LIMITS_PAGE)?;
    let most = limits.and_then(|page| page.get(4..8).and_then(|b| b.first_chunk().copied()));
    let most = most.map_or(0, u32::from_be_bytes);
    let bytes = u64::from(most) * u64::from(capacity.block_bytes);
    Ok(Geometry {
        block_bytes: capacity.block_bytes,
        blocks: capacity.block_count,
        capsule_bytes: session.settled().unasked(u32::MAX).1,
        max_transfer_bytes: (most > 0).then_some(bytes),
        queue_entries: session.window().saturating_add(1),
    })
}

/// Runs a command that has to succeed.
fn must(
    session: &mut Session,
    doing: &'static str,
    cdb: Cdb,
    most: u8,
) -> Result<Vec<u8>, PerfError> {
    let (status, data) = session.command(cdb, most.into())?;
    if status.is_success() {
        return Ok(data);
    }
    Err(PerfError::Scsi { doing, status })
}

/// What follows the header of a vital product data page; `None` when the unit has no such page.
fn page(session: &mut Session, page: u8) -> Result<Option<Vec<u8>>, PerfError> {
    let most = 255;
    let (status, data) = session.command(cdb::inquiry(Some(page), most), most.into())?;
    let has_it = status.is_success() && data.get(1) == Some(&page);
    Ok(has_it.then(|| data.get(4..).unwrap_or_default().to_vec()))
}

fn ascii(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = text.chars().filter(|c| !c.is_control());
    shown.collect::<String>().trim().to_owned()
}

impl Admin {
    /// What the load threads open their sessions by.
    pub fn opening(&self) -> Opening {
        self.opening.clone()
    }

    /// See [`Target::fill`].
    ///
    /// Errors: `Session`.
    pub fn fill(&mut self, geometry: &Geometry, span: u64) -> Result<(), PerfError> {
        self.write_all(geometry, span)
            .map_err(|error| error.on_session("filling the unit", self.opening.address))
    }

    /// Writes in units of the largest size that the span is a multiple of.
    fn write_all(&self, geometry: &Geometry, span: u64) -> Result<(), PerfError> {
        let block_bytes = u64::from(geometry.block_bytes);
        let end = (span / block_bytes).min(geometry.blocks) * block_bytes;
        let most = geometry.max_transfer_bytes.unwrap_or(FILL_BYTES);
        let mut io_bytes = block_bytes;
        while end.is_multiple_of(io_bytes * 2) && io_bytes * 2 <= FILL_BYTES.min(most) {
            io_bytes *= 2;
        }
        let depth = FILL_DEPTH.min(geometry.queue_entries.saturating_sub(1).max(1) as usize);
        let shape = Shape {
            depth: depth as u16,
            block_bytes: geometry.block_bytes,
            io_bytes: io_bytes as u32,
            capsule_bytes: 0,
            nsid: 0,
            keep_data: true,
        };
        let mut filling = Filling {
            queue: Connection::iscsi(&self.opening, 1, shape, Vec::new())?,
            random: Random::new(span, 0),
            timeout: self.opening.timeout,
        };
        for unit in 0..end / io_bytes {
            filling.wait(|queue| queue.has_room())?;
            filling.submit(Kind::Write, unit)?;
        }
        filling.wait(|queue| queue.in_flight() == 0 && queue.has_room())?;
        filling.submit(Kind::Flush, 0)?;
        filling.wait(|queue| queue.in_flight() == 0)
    }
}

/// A queue that is written through.
struct Filling {
    queue: Connection,
    random: Random,
    timeout: Duration,
}

impl Filling {
    fn submit(&mut self, kind: Kind, unit: u64) -> Result<(), PerfError> {
        let io = Io {
            kind,
            unit,
            fua: false,
            intended_ns: 0,
            issued_ns: 0,
        };
        let random = &mut self.random;
        self.queue.submit(io, 0, |data| {
            for word in data.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
        })
    }

    /// Sends and receives until `until` holds.
    ///
    /// Errors: `Timeout` when nothing came for too long; `Command` when a write failed.
    fn wait(&mut self, until: impl Fn(&Connection) -> bool) -> Result<(), PerfError> {
        let mut done = Vec::new();
        let mut progress = Instant::now();
        while !until(&self.queue) {
            self.queue.send()?;
            if self.queue.receive(&mut done)? {
                progress = Instant::now();
            } else {
                // Filling is no measurement: another process may have the core meanwhile.
                std::thread::yield_now();
            }
            if let Some(failed) = done.iter().find(|done| !done.status.is_success()) {
                return Err(PerfError::Command {
                    what: format!("{:?} of unit {}", failed.io.kind, failed.io.unit),
                    status: failed.status,
                });
            }
            done.clear();
            if progress.elapsed() > self.timeout {
                return Err(PerfError::Timeout {
                    in_flight: self.queue.in_flight(),
                    after_ms: self.timeout.as_millis() as u64,
                    oldest: "a write".to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_unit_number_is_flat() {
        assert_eq!(unit(7)[..2], [0, 7]);
        assert_eq!(unit(255)[..2], [0, 255]);
        assert_eq!(unit(256)[..2], [0x41, 0]);
        assert_eq!(unit(16_383)[..2], [0x7f, 0xff]);
    }
}
