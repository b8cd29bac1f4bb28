//! A controller: its admin queue, enabled, and the I/O queues it makes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::nvme::identify::{IdentifyController, IdentifyNamespace};
use wire::nvme::register::{
    Cap, Config, ControllerStatus, offset, shutdown_request, shutdown_status,
};
use wire::text::DISCOVERY_NQN;

use crate::op::NSID;
use crate::{Command, HostError, HostOptions, IoQueue, Queue, QueueId};

/// Entries of the admin queue.
pub(crate) const ADMIN_ENTRIES: u32 = 32;

/// Makes controllers.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Host {
    /// Connects the admin queue of `subnqn`, enables the controller and identifies it.
    pub fn connect(
        address: SocketAddr,
        subnqn: &str,
        options: HostOptions,
    ) -> Result<Controller, HostError> {
        let mut controller = Self::connect_admin(address, subnqn, options)?;
        controller.enable()?;
        let identity = controller.identify_controller()?;
        same_controller(
            "Identify Controller",
            identity.cntlid.get(),
            controller.cntlid,
        )?;
        controller.identity = Some(identity);
        Ok(controller)
    }

    /// Connects the admin queue alone: the controller is not enabled.
    pub fn connect_admin(
        address: SocketAddr,
        subnqn: &str,
        options: HostOptions,
    ) -> Result<Controller, HostError> {
        let id = QueueId {
            subnqn,
            cntlid: CNTLID_DYNAMIC,
            qid: 0,
            entries: ADMIN_ENTRIES,
        };
        let (admin, response) = Queue::connect(address, id, &options)?;
        Ok(Controller {
            address,
            subnqn: subnqn.to_owned(),
            options,
            cntlid: response.cntlid,
            admin,
            identity: None,
            block_bytes: None,
        })
    }

    /// Connects the discovery controller.
    pub fn discover(address: SocketAddr, options: HostOptions) -> Result<Controller, HostError> {
        Self::connect(address, DISCOVERY_NQN, options)
    }
}

/// A controller that this host owns.
#[derive(Debug)]
pub struct Controller {
    pub(crate) address: SocketAddr,
    subnqn: String,
    options: HostOptions,
    cntlid: u16,
    pub(crate) admin: Queue,
    identity: Option<Box<IdentifyController>>,
    block_bytes: Option<usize>,
}

impl Controller {
    /// Controller identifier.
    #[must_use]
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The admin queue.
    pub fn admin(&mut self) -> &mut Queue {
        &mut self.admin
    }

    /// Identify Controller as read by [`Host::connect`].
    pub fn identity(&self) -> Result<&IdentifyController, HostError> {
        let problem = "the controller was not identified".to_owned();
        self.identity.as_deref().ok_or(HostError::Answer {
            what: "Identify Controller",
            problem,
        })
    }

    /// Connects I/O queue `qid`, 1 or more, with the host's queue depth.
    ///
    /// Ask for enough queues first: [`Self::set_queue_count`].
    pub fn io_queue(&mut self, qid: u16) -> Result<IoQueue, HostError> {
        let block_bytes = self.block_bytes()?;
        let capsule_bytes = self.identity()?.ioccsz.get() as usize * 16;
        let id = QueueId {
            subnqn: &self.subnqn,
            cntlid: self.cntlid,
            qid,
            entries: self.options.queue_depth,
        };
        let (mut queue, response) = Queue::connect(self.address, id, &self.options)?;
        same_controller("Connect", response.cntlid, self.cntlid)?;
        queue.set_capsule_data_bytes(capsule_bytes.saturating_sub(wire::nvme::Sqe::SIZE));
        Ok(IoQueue::new(queue, block_bytes))
    }

    /// Asks for `count` I/O queues and connects them, identifiers 1 to `count`.
    pub fn io_queues(&mut self, count: u16) -> Result<Vec<IoQueue>, HostError> {
        let granted = self.set_queue_count(count)?;
        enough_queues(granted, count)?;
        (1..=count).map(|qid| self.io_queue(qid)).collect()
    }

    /// Logical block size of the namespace in bytes.
    pub fn block_bytes(&mut self) -> Result<usize, HostError> {
        if let Some(bytes) = self.block_bytes {
            return Ok(bytes);
        }
        let namespace = self.identify_namespace(NSID)?;
        let bytes = block_bytes(&namespace)?;
        self.block_bytes = Some(bytes);
        Ok(bytes)
    }

    /// Reads a property; `eight` for the 8-byte ones.
    pub fn property_get(&mut self, offset: u32, eight: bool) -> Result<u64, HostError> {
        let command = Command::property_get(offset, eight);
        Ok(self.admin.call("Property Get", command)?.cqe.result.get())
    }

    /// Writes a 4-byte property.
    pub fn property_set(&mut self, offset: u32, value: u32) -> Result<(), HostError> {
        self.admin
            .call("Property Set", Command::property_set(offset, value))
            .map(drop)
    }

    /// CAP.
    pub fn capabilities(&mut self) -> Result<Cap, HostError> {
        self.property_get(offset::CAP, true).map(Cap)
    }

    /// CSTS.
    pub fn status(&mut self) -> Result<ControllerStatus, HostError> {
        Ok(ControllerStatus(
            self.property_get(offset::CSTS, false)? as u32
        ))
    }

    /// Sets CC.EN and waits for CSTS.RDY, within the time that CAP.TO grants.
    pub fn enable(&mut self) -> Result<(), HostError> {
        let cap = self.capabilities()?;
        let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
        self.property_set(offset::CC, config.0)?;
        let limit = Duration::from_millis(500 * cap.timeout_500ms().max(1));
        self.wait_status("enabling", limit, |status| status.rdy() == 1)
    }

    /// Normal shutdown: sets CC.SHN and waits until it is complete.
    pub fn shutdown(&mut self) -> Result<(), HostError> {
        let config = Config(self.property_get(offset::CC, false)? as u32);
        self.property_set(offset::CC, config.with_shn(shutdown_request::NORMAL).0)?;
        let limit = self.options.timeout;
        let complete = |s: ControllerStatus| s.shst() == shutdown_status::COMPLETE;
        self.wait_status("shutting down", limit, complete)
    }

    fn wait_status(
        &mut self,
        doing: &'static str,
        limit: Duration,
        reached: impl Fn(ControllerStatus) -> bool,
    ) -> Result<(), HostError> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if reached(status) {
                return Ok(());
            }
            if status.cfs() == 1 || Instant::now() >= deadline {
                return Err(stuck(doing, status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A controller that does not reach the state it was asked for.
pub(crate) fn stuck(doing: &'static str, status: ControllerStatus) -> HostError {
    let problem = format!("{doing}: stuck at {status:?}");
    HostError::Answer {
        what: "CSTS",
        problem,
    }
}

/// Errors: `Answer` when `what` names another controller than the one that Connect gave.
pub(crate) fn same_controller(
    what: &'static str,
    found: u16,
    expected: u16,
) -> Result<(), HostError> {
    if found == expected {
        return Ok(());
    }
    let problem = format!("it names controller {found}, this is {expected}");
    Err(HostError::Answer { what, problem })
}

/// Errors: `Answer` when fewer I/O queues are granted than were asked for.
pub(crate) fn enough_queues(granted: u16, count: u16) -> Result<(), HostError> {
    if granted >= count {
        return Ok(());
    }
    let problem = format!("asked for {count} I/O queues, got {granted}");
    Err(HostError::Answer {
        what: "Number of Queues",
        problem,
    })
}

pub(crate) fn block_bytes(namespace: &IdentifyNamespace) -> Result<usize, HostError> {
    let shift = namespace.format_in_use().map_or(0, |format| format.lbads);
    if (9..=16).contains(&shift) {
        return Ok(1 << shift);
    }
    let problem = format!("block shift {shift} is not possible");
    Err(HostError::Answer {
        what: "Identify Namespace",
        problem,
    })
}
