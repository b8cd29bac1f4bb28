//! A controller over RDMA: its admin queue, enabled, and the I/O queues it makes.

use std::net::SocketAddr;
use std::time::Duration;

use rdma::Card;
use reactor::time::sleep;
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::fabrics::discovery::{DiscoveryEntry, DiscoveryHeader};
use wire::nvme::Sqe;
use wire::nvme::command::{Abort, Identify};
use wire::nvme::identify::{Cns, Csi, IdentifyController, IdentifyNamespace, sgls};
use wire::nvme::log::LogId;
use wire::nvme::register::{
    Cap, Config, ControllerStatus, offset, shutdown_request, shutdown_status,
};
use wire::rdma::ADMIN_CAPSULE_DATA_BYTES;
use wire::text::DISCOVERY_NQN;

use super::{IoQueue, Options, Queue};
use crate::command::granted_queues;
use crate::controller::{ADMIN_ENTRIES, block_bytes, enough_queues, same_controller};
use crate::discovery::ATTEMPTS;
use crate::op::NSID;
use crate::{Cid, Command, DiscoveryLog, HostError, QueueId};

/// Distance of two looks at the controller's status.
const STATUS_INTERVAL: Duration = Duration::from_millis(2);

/// A controller that this host owns.
#[derive(Debug)]
pub struct Controller {
    address: SocketAddr,
    subnqn: String,
    options: Options,
    cntlid: u16,
    admin: Queue,
    identity: Option<Box<IdentifyController>>,
    block_bytes: Option<usize>,
}

impl Controller {
    /// Connects the admin queue of `subnqn`, enables the controller and identifies it.
    pub async fn connect(
        card: &Card,
        address: SocketAddr,
        subnqn: &str,
        options: Options,
    ) -> Result<Self, HostError> {
        let mut controller = Self::connect_admin(card, address, subnqn, options).await?;
        controller.enable().await?;
        let identity = controller.identify_controller().await?;
        same_controller(
            "Identify Controller",
            identity.cntlid.get(),
            controller.cntlid,
        )?;
        check_sgls(&identity)?;
        controller.identity = Some(identity);
        Ok(controller)
    }

    /// Connects the admin queue alone: the controller is not enabled.
    pub async fn connect_admin(
        card: &Card,
        address: SocketAddr,
        subnqn: &str,
        options: Options,
    ) -> Result<Self, HostError> {
        let id = QueueId {
            subnqn,
            cntlid: CNTLID_DYNAMIC,
            qid: 0,
            entries: ADMIN_ENTRIES,
        };
        let capsule_data_bytes = ADMIN_CAPSULE_DATA_BYTES as usize;
        let (admin, response) =
            Queue::connect(card, address, id, capsule_data_bytes, &options).await?;
        Ok(Self {
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
    pub async fn discover(
        card: &Card,
        address: SocketAddr,
        options: Options,
    ) -> Result<Self, HostError> {
        Self::connect(card, address, DISCOVERY_NQN, options).await
    }

    /// Controller identifier.
    #[must_use]
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The admin queue.
    pub fn admin(&mut self) -> &mut Queue {
        &mut self.admin
    }

    /// Identify Controller as read by [`Self::connect`].
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
    pub async fn io_queue(&mut self, qid: u16) -> Result<IoQueue, HostError> {
        let block_bytes = self.block_bytes().await?;
        let id = QueueId {
            subnqn: &self.subnqn,
            cntlid: self.cntlid,
            qid,
            entries: self.options.host.queue_depth,
        };
        let capsule = capsule_data_bytes(self.identity()?);
        let (card, address) = (self.admin.card(), self.address);
        let (queue, response) = Queue::connect(card, address, id, capsule, &self.options).await?;
        same_controller("Connect", response.cntlid, self.cntlid)?;
        Ok(IoQueue::new(queue, block_bytes))
    }

    /// Asks for `count` I/O queues and connects them, identifiers 1 to `count`.
    pub async fn io_queues(&mut self, count: u16) -> Result<Vec<IoQueue>, HostError> {
        let granted = self.set_queue_count(count).await?;
        enough_queues(granted, count)?;
        let mut queues = Vec::new();
        for qid in 1..=count {
            queues.push(self.io_queue(qid).await?);
        }
        Ok(queues)
    }

    /// Asks for `count` I/O queues; gives how many the controller grants.
    pub async fn set_queue_count(&mut self, count: u16) -> Result<u16, HostError> {
        let command = Command::queue_count(count);
        granted_queues(
            self.admin
                .call("Number of Queues", command)
                .await?
                .cqe
                .dw0(),
        )
    }

    /// Logical block size of the namespace in bytes.
    pub async fn block_bytes(&mut self) -> Result<usize, HostError> {
        if let Some(bytes) = self.block_bytes {
            return Ok(bytes);
        }
        let namespace = self.identify_namespace(NSID).await?;
        let bytes = block_bytes(&namespace)?;
        self.block_bytes = Some(bytes);
        Ok(bytes)
    }

    /// Identify: 4,096 bytes of the structure `cns` of the NVM command set.
    pub async fn identify(&mut self, cns: Cns, nsid: u32) -> Result<Vec<u8>, HostError> {
        let fields = Identify {
            cns,
            csi: Csi::NVM,
            ..Identify::default()
        };
        let done = self
            .admin
            .call("Identify", Command::identify(fields, nsid))
            .await?;
        done.into_data("Identify")
    }

    /// Identify Controller.
    pub async fn identify_controller(&mut self) -> Result<Box<IdentifyController>, HostError> {
        let bytes = self.identify(Cns::CONTROLLER, 0).await?;
        Ok(Box::new(*IdentifyController::decode(&bytes)?))
    }

    /// Identify Namespace of the NVM command set.
    pub async fn identify_namespace(
        &mut self,
        nsid: u32,
    ) -> Result<Box<IdentifyNamespace>, HostError> {
        let bytes = self.identify(Cns::NAMESPACE, nsid).await?;
        Ok(Box::new(*IdentifyNamespace::decode(&bytes)?))
    }

    /// Get Log Page: `len_bytes` (a multiple of 4) from `offset_bytes`.
    pub async fn get_log(
        &mut self,
        lid: LogId,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<Vec<u8>, HostError> {
        let command = Command::get_log(lid, 0, offset_bytes, len_bytes);
        let done = self.admin.call("Get Log Page", command).await?;
        done.into_data("Get Log Page")
    }

    /// Reads the discovery log: header, entries, header again, until the generation stays the same.
    pub async fn discovery_log(&mut self) -> Result<DiscoveryLog, HostError> {
        for _ in 0..ATTEMPTS {
            let (generation, count) = self.discovery_header().await?;
            let mut entries = Vec::new();
            for index in 0..count {
                let offset = (DiscoveryHeader::SIZE as u64) + index * DiscoveryEntry::SIZE as u64;
                let entry = self.get_log(LogId::DISCOVERY, offset, DiscoveryEntry::SIZE);
                entries.push(*DiscoveryEntry::decode(&entry.await?)?);
            }
            if self.discovery_header().await?.0 == generation {
                return Ok(DiscoveryLog {
                    generation,
                    entries,
                });
            }
        }
        Err(crate::discovery::restless())
    }

    async fn discovery_header(&mut self) -> Result<(u64, u64), HostError> {
        let bytes = self.get_log(LogId::DISCOVERY, 0, DiscoveryHeader::SIZE);
        crate::discovery::header(&bytes.await?)
    }

    /// Keep Alive.
    pub async fn keep_alive(&mut self) -> Result<(), HostError> {
        let command = Command::bare(Sqe::keep_alive(0));
        self.admin.call("Keep Alive", command).await.map(drop)
    }

    /// Abort; true when the controller says that it aborted the command.
    pub async fn abort(&mut self, sqid: u16, cid: Cid) -> Result<bool, HostError> {
        let done = self.admin.call("Abort", Command::abort(sqid, cid)).await?;
        Ok(done.cqe.dw0() & Abort::NOT_ABORTED == 0)
    }

    /// Reads a property; `eight` for the 8-byte ones.
    pub async fn property_get(&mut self, offset: u32, eight: bool) -> Result<u64, HostError> {
        let command = Command::property_get(offset, eight);
        let done = self.admin.call("Property Get", command).await?;
        Ok(done.cqe.result.get())
    }

    /// Writes a 4-byte property.
    pub async fn property_set(&mut self, offset: u32, value: u32) -> Result<(), HostError> {
        let command = Command::property_set(offset, value);
        self.admin.call("Property Set", command).await.map(drop)
    }

    /// CAP.
    pub async fn capabilities(&mut self) -> Result<Cap, HostError> {
        self.property_get(offset::CAP, true).await.map(Cap)
    }

    /// CSTS.
    pub async fn status(&mut self) -> Result<ControllerStatus, HostError> {
        let status = self.property_get(offset::CSTS, false).await?;
        Ok(ControllerStatus(status as u32))
    }

    /// Sets CC.EN and waits for CSTS.RDY, within the time that CAP.TO grants.
    pub async fn enable(&mut self) -> Result<(), HostError> {
        let cap = self.capabilities().await?;
        let config = Config::default().with_en(1).with_iosqes(6).with_iocqes(4);
        self.property_set(offset::CC, config.0).await?;
        let limit = Duration::from_millis(500 * cap.timeout_500ms().max(1));
        let ready = |status: ControllerStatus| status.rdy() == 1;
        self.wait_status("enabling", limit, ready).await
    }

    /// Normal shutdown: sets CC.SHN and waits until it is complete.
    pub async fn shutdown(&mut self) -> Result<(), HostError> {
        let config = Config(self.property_get(offset::CC, false).await? as u32);
        let config = config.with_shn(shutdown_request::NORMAL);
        self.property_set(offset::CC, config.0).await?;
        let limit = self.options.host.timeout;
        let complete = |s: ControllerStatus| s.shst() == shutdown_status::COMPLETE;
        self.wait_status("shutting down", limit, complete).await
    }

    async fn wait_status(
        &mut self,
        doing: &'static str,
        limit: Duration,
        reached: impl Fn(ControllerStatus) -> bool,
    ) -> Result<(), HostError> {
        let deadline = reactor::now() + limit;
        loop {
            let status = self.status().await?;
            if reached(status) {
                return Ok(());
            }
            if status.cfs() == 1 || reactor::now() >= deadline {
                return Err(crate::controller::stuck(doing, status));
            }
            sleep(STATUS_INTERVAL).await;
        }
    }
}

/// In-capsule data of an I/O queue; none when the controller takes no offsets into the capsule.
#[must_use]
pub fn capsule_data_bytes(identity: &IdentifyController) -> usize {
    if identity.sgls.get() & sgls::OFFSET_ADDRESS == 0 {
        return 0;
    }
    let capsule = identity.ioccsz.get() as usize * 16;
    capsule.saturating_sub(Sqe::SIZE)
}

/// Errors: `Answer` for what the transport demands of a controller and this one does not have.
fn check_sgls(identity: &IdentifyController) -> Result<(), HostError> {
    let problem = if identity.sgls.get() & sgls::KEYED == 0 {
        format!("no keyed descriptors: SGLS {:#x}", identity.sgls.get())
    } else if identity.icdoff.get() != 0 {
        format!("ICDOFF {}, where 0 is the only one", identity.icdoff.get())
    } else {
        return Ok(());
    };
    Err(HostError::Answer {
        what: "Identify Controller",
        problem,
    })
}
