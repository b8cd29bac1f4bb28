//! Admin commands by name.

use std::time::Duration;

use wire::nvme::Sqe;
use wire::nvme::command::{Abort, AsyncEvent, GetFeatures, Identify};
use wire::nvme::feature::FeatureId;
use wire::nvme::identify::{Cns, Csi, IdentifyController, IdentifyNamespace};
use wire::nvme::log::LogId;

use crate::command::{NO_DATA, granted_queues};
use crate::{Cid, Command, Controller, HostError};

impl Controller {
    /// Identify: 4,096 bytes of the structure `cns`, for command set `csi`.
    pub fn identify(&mut self, cns: Cns, nsid: u32, csi: Csi) -> Result<Vec<u8>, HostError> {
        self.identify_with(
            Identify {
                cns,
                csi,
                ..Identify::default()
            },
            nsid,
        )
    }

    /// Identify with every field of the command.
    pub fn identify_with(&mut self, fields: Identify, nsid: u32) -> Result<Vec<u8>, HostError> {
        let command = Command::identify(fields, nsid);
        self.admin.call("Identify", command)?.into_data("Identify")
    }

    /// Identify Controller.
    pub fn identify_controller(&mut self) -> Result<Box<IdentifyController>, HostError> {
        let bytes = self.identify(Cns::CONTROLLER, 0, Csi::NVM)?;
        Ok(Box::new(*IdentifyController::decode(&bytes)?))
    }

    /// Identify Namespace of the NVM command set.
    pub fn identify_namespace(&mut self, nsid: u32) -> Result<Box<IdentifyNamespace>, HostError> {
        let bytes = self.identify(Cns::NAMESPACE, nsid, Csi::NVM)?;
        Ok(Box::new(*IdentifyNamespace::decode(&bytes)?))
    }

    /// Identifiers of the active namespaces.
    pub fn active_namespaces(&mut self) -> Result<Vec<u32>, HostError> {
        let bytes = self.identify(Cns::ACTIVE_NAMESPACES, 0, Csi::NVM)?;
        let ids = bytes
            .chunks_exact(4)
            .map(|id| id.try_into().map(u32::from_le_bytes).unwrap_or_default());
        Ok(ids.take_while(|id| *id != 0).collect())
    }

    /// Get Log Page: `len_bytes` (a multiple of 4) from `offset_bytes`.
    pub fn get_log(
        &mut self,
        lid: LogId,
        nsid: u32,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<Vec<u8>, HostError> {
        let command = Command::get_log(lid, nsid, offset_bytes, len_bytes);
        self.admin
            .call("Get Log Page", command)?
            .into_data("Get Log Page")
    }

    /// Get Features: completion dword 0.
    pub fn get_feature(&mut self, fid: FeatureId) -> Result<u32, HostError> {
        let sqe = GetFeatures {
            fid,
            ..GetFeatures::default()
        }
        .encode(0, 0, None);
        Ok(self
            .admin
            .call("Get Features", Command::bare(sqe))?
            .cqe
            .dw0())
    }

    /// Get Features that return a structure.
    pub fn get_feature_data(
        &mut self,
        fid: FeatureId,
        cdw11: u32,
        len_bytes: usize,
    ) -> Result<Vec<u8>, HostError> {
        let get = GetFeatures {
            fid,
            cdw11,
            ..GetFeatures::default()
        };
        let command = Command::receiving(get.encode(0, 0, Some(NO_DATA)), len_bytes);
        self.admin
            .call("Get Features", command)?
            .into_data("Get Features")
    }

    /// Set Features with a value in dword 11: completion dword 0.
    pub fn set_feature(&mut self, fid: FeatureId, value: u32) -> Result<u32, HostError> {
        let command = Command::set_feature(fid, value);
        Ok(self.admin.call("Set Features", command)?.cqe.dw0())
    }

    /// Asks for `count` I/O queues; gives how many the controller grants.
    pub fn set_queue_count(&mut self, count: u16) -> Result<u16, HostError> {
        let command = Command::queue_count(count);
        granted_queues(self.admin.call("Number of Queues", command)?.cqe.dw0())
    }

    /// Keep Alive.
    pub fn keep_alive(&mut self) -> Result<(), HostError> {
        self.admin
            .call("Keep Alive", Command::bare(Sqe::keep_alive(0)))
            .map(drop)
    }

    /// Abort; true when the controller says that it aborted the command.
    pub fn abort(&mut self, sqid: u16, cid: Cid) -> Result<bool, HostError> {
        let command = Command::abort(sqid, cid);
        let dw0 = self.admin.call("Abort", command)?.cqe.dw0();
        Ok(dw0 & Abort::NOT_ABORTED == 0)
    }

    /// Sends an Asynchronous Event Request, to wait for with [`Self::wait_event`].
    pub fn request_event(&mut self) -> Result<Cid, HostError> {
        self.admin
            .submit(Command::bare(Sqe::async_event_request(0)))
    }

    /// Waits at most `limit` for the event that answers request `cid`.
    ///
    /// Errors: `Command` when the request itself failed.
    pub fn wait_event(
        &mut self,
        cid: Cid,
        limit: Duration,
    ) -> Result<Option<AsyncEvent>, HostError> {
        match self.admin.poll_completion(limit)? {
            None => Ok(None),
            Some(done) if done.cid == cid => {
                let done = done.ok("Asynchronous Event Request")?;
                Ok(Some(AsyncEvent::decode(done.cqe.dw0())))
            }
            Some(done) => {
                let problem = format!("command {} completed while waiting for {cid}", done.cid);
                Err(HostError::Answer {
                    what: "Asynchronous Event Request",
                    problem,
                })
            }
        }
    }
}
