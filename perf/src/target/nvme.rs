//! The admin side of NVMe/TCP: finds the subsystem, identifies it, asks for queues.
//!
//! Source: base 2.0 sections 3.1.3 (properties), 5.17 (Identify), 5.27.1.5 (Number of Queues).

use std::net::SocketAddr;

use host::{Controller, DiscoveryLog, Host, HostError, HostOptions, Op};
use wire::nvme::Sqe;
use wire::nvme::identify::{IdentifyController, IdentifyNamespace};
use wire::nvme::register::Cap;
use wire::text::DISCOVERY_NQN;

use crate::cli::ConnectArgs;
use crate::error::PerfError;
use crate::queue::nvme::Opening;

use super::{FILL_DEPTH, Fill, Geometry, Name, Target};

/// A connected controller. Dropping it ends its admin queue, and with it the controller.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    nqn: String,
    controller: Controller,
    options: HostOptions,
    max_r2t: u32,
}

/// Connects to `nqn`, or to the only subsystem that discovery lists.
///
/// Errors: `Admin`; `Option` when there is not exactly one subsystem to choose.
pub fn connect(
    address: SocketAddr,
    nqn: Option<&str>,
    link: &ConnectArgs,
) -> Result<Target, PerfError> {
    let options = options(link);
    let nqn = match nqn {
        Some(nqn) => nqn.to_owned(),
        None => discover(address, &options)?,
    };
    let admin = |doing| move |source| failed(doing, address, source);
    let mut controller = Host::connect(address, &nqn, options.clone())
        .map_err(admin("connecting the admin queue"))?;
    let facts = facts(&mut controller, link.nsid).map_err(admin("identifying the namespace"))?;
    let Facts { identity, geometry } = facts;
    Ok(Target {
        address,
        name: Name::Nvme { nqn: nqn.clone() },
        model: identity.mn.as_str().to_owned(),
        serial: identity.sn.as_str().to_owned(),
        firmware: identity.fr.as_str().to_owned(),
        geometry,
        admin: super::Admin::Nvme(Box::new(Admin {
            address,
            nqn,
            controller,
            options,
            max_r2t: link.max_r2t,
        })),
    })
}

impl Admin {
    /// Asks for `count` I/O queues with `depth` commands in flight each.
    ///
    /// Errors: `Admin`; `Option` when the controller grants fewer.
    pub fn queues(&mut self, count: u16, depth: u16) -> Result<Opening, PerfError> {
        let granted = self
            .controller
            .set_queue_count(count)
            .map_err(|source| failed("asking for I/O queues", self.address, source))?;
        enough_queues(granted, count)?;
        Ok(Opening {
            address: self.address,
            subnqn: self.nqn.clone(),
            hostnqn: self.options.hostnqn.clone(),
            hostid: self.options.hostid,
            cntlid: self.controller.cntlid(),
            entries: u32::from(depth) + 1,
            header_digest: self.options.header_digest,
            data_digest: self.options.data_digest,
            max_r2t: self.max_r2t,
            timeout: self.options.timeout,
        })
    }

    /// See [`Target::fill`].
    ///
    /// Errors: `Admin`.
    pub fn fill(&mut self, geometry: &Geometry, span: u64) -> Result<(), PerfError> {
        let address = self.address;
        self.write_all(geometry, span)
            .map_err(|source| failed("filling the namespace", address, source))
    }

    fn write_all(&mut self, geometry: &Geometry, span: u64) -> Result<(), HostError> {
        let mut fill = Fill::new(geometry, span);
        let mut queues = self.controller.io_queues(1)?;
        let Some(queue) = queues.first_mut() else {
            return Ok(());
        };
        loop {
            if queue.in_flight() < FILL_DEPTH
                && let Some((lba, data)) = fill.next()
            {
                let fua = false;
                queue.submit(Op::Write { lba, data, fua })?;
            } else if queue.in_flight() > 0 {
                queue.next_completion()?.ok("Write")?;
            } else {
                return queue.flush();
            }
        }
    }
}

/// Errors: `Option` when fewer queues are granted than were asked for.
pub fn enough_queues(granted: u16, count: u16) -> Result<(), PerfError> {
    if granted >= count {
        return Ok(());
    }
    let problem = format!("the controller grants {granted}");
    Err(PerfError::option("--queues", count, problem))
}

/// Who this host is.
pub fn options(link: &ConnectArgs) -> HostOptions {
    HostOptions {
        hostnqn: link.hostnqn.clone(),
        hostid: *b"bedplate-perf-id",
        header_digest: link.header_digest,
        data_digest: link.data_digest,
        timeout: link.connect_timeout,
        ..HostOptions::default()
    }
}

/// What the admin side could not do.
pub fn failed(doing: &'static str, address: SocketAddr, source: HostError) -> PerfError {
    PerfError::Admin {
        doing,
        address: address.to_string(),
        source,
    }
}

fn discover(address: SocketAddr, options: &HostOptions) -> Result<String, PerfError> {
    let mut controller = Host::discover(address, options.clone())
        .map_err(|source| failed("connecting to discovery", address, source))?;
    let log = controller
        .discovery_log()
        .map_err(|source| failed("reading the discovery log", address, source))?;
    only_subsystem(&log)
}

/// The subsystem that a discovery log lists.
///
/// Errors: `Option` when it is not exactly one.
pub fn only_subsystem(log: &DiscoveryLog) -> Result<String, PerfError> {
    let mut names = log.subsystems();
    names.retain(|name| name != DISCOVERY_NQN);
    names.sort();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(PerfError::option(
            "--nqn",
            "(not given)",
            "discovery lists no subsystem for this host",
        )),
        many => {
            let problem = format!("discovery lists several, choose one of {}", many.join(", "));
            Err(PerfError::option("--nqn", "(not given)", problem))
        }
    }
}

fn facts(controller: &mut Controller, nsid: u32) -> Result<Facts, HostError> {
    let capabilities = controller.capabilities()?;
    let namespace = controller.identify_namespace(nsid)?;
    Facts::new(controller.identity()?, capabilities, &namespace)
}

/// What a controller says of itself and of the namespace.
pub struct Facts {
    /// Of itself.
    pub identity: Box<IdentifyController>,
    /// What both allow, over TCP.
    pub geometry: Geometry,
}

impl Facts {
    /// Errors: `Answer` for a namespace that is none, or that this program cannot use.
    pub fn new(
        identity: &IdentifyController,
        capabilities: Cap,
        namespace: &IdentifyNamespace,
    ) -> Result<Self, HostError> {
        let shift = namespace.format_in_use().map_or(0, |format| format.lbads);
        let answer = |problem: &str| HostError::Answer {
            what: "Identify Namespace",
            problem: problem.to_owned(),
        };
        if namespace.nsze.get() == 0 {
            return Err(answer("no such namespace: try another --nsid"));
        }
        if !(9..=16).contains(&shift) {
            return Err(answer("its block size is not one of 512 bytes to 64 KiB"));
        }
        let page_shift = 12 + capabilities.mpsmin() as u32;
        let geometry = Geometry {
            block_bytes: 1 << shift,
            blocks: namespace.nsze.get(),
            capsule_bytes: capsule_bytes(identity),
            max_transfer_bytes: match identity.mdts {
                0 => None,
                mdts => 1u64.checked_shl(page_shift + u32::from(mdts)),
            },
            queue_entries: capabilities.mqes() as u32 + 1,
        };
        let identity = Box::new(*identity);
        Ok(Self { identity, geometry })
    }
}

/// In-capsule data of I/O queues; none when it would not start right after the command.
fn capsule_bytes(identity: &IdentifyController) -> u32 {
    if identity.icdoff.get() != 0 {
        return 0;
    }
    let capsule = identity.ioccsz.get().saturating_mul(16);
    capsule.saturating_sub(Sqe::SIZE as u32)
}
