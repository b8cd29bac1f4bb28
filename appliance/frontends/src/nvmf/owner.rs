//! Who a queue belongs to: a controller of this core, or one of another.

use std::rc::Rc;

use reactor::{CoreId, Instant};
use volume::VolumeInfo;
use wire::nvme::{Sqe, Status};

use crate::nvmf::admin::AdminContext;
use crate::nvmf::away::Away;
use crate::nvmf::controller::Controller;
use crate::nvmf::io::IoContext;
use crate::nvmf::subsystem::Subsystem;
use crate::nvmf::transport::Transport;

/// The controller of a connection's queue, as far as this core has it.
pub(crate) enum Owner {
    /// It lives on this core.
    Here(Rc<Controller>),
    /// It lives elsewhere; commands go there.
    Away(Rc<Away>),
}

impl Owner {
    /// The controller; none when it lives elsewhere.
    #[inline]
    pub fn here(&self) -> Option<&Rc<Controller>> {
        match self {
            Self::Here(controller) => Some(controller),
            Self::Away(_) => None,
        }
    }

    /// The way home; none when this is home.
    #[inline]
    pub fn away(&self) -> Option<&Rc<Away>> {
        match self {
            Self::Here(_) => None,
            Self::Away(away) => Some(away),
        }
    }

    /// The subsystem, when it lives here and this is no discovery controller.
    #[inline]
    pub fn subsystem(&self) -> Option<&Rc<Subsystem>> {
        self.here().and_then(|controller| controller.subsystem())
    }

    /// Qualified name of the host.
    pub fn host_nqn(&self) -> &str {
        match self {
            Self::Here(controller) => &controller.host.nqn,
            Self::Away(away) => &away.about.host_nqn,
        }
    }

    /// Qualified name of the subsystem; none for discovery.
    pub fn subsystem_nqn(&self) -> Option<&str> {
        match self {
            Self::Here(controller) => controller.subsystem().map(|s| s.nqn.as_str()),
            Self::Away(away) => Some(&away.about.subsystem_nqn),
        }
    }

    /// Identifier of the controller.
    pub fn cntlid(&self) -> u16 {
        match self {
            Self::Here(controller) => controller.cntlid,
            Self::Away(away) => away.about.cntlid,
        }
    }

    /// The core of the controller, seen from core `here`.
    pub fn home(&self, here: CoreId) -> CoreId {
        self.away().map_or(here, |away| away.about.home)
    }

    /// Any command restarts the keep alive timer.
    #[inline]
    pub fn command_arrived(&self, now: Instant) {
        match self {
            Self::Here(controller) => controller.command_arrived(now),
            Self::Away(away) => away.command_arrived(now),
        }
    }

    /// Notes a failed command in the error log, which a host that reads it from then on sees.
    pub fn record_error(&self, qid: u16, sqe: &Sqe, status: Status) {
        match self {
            Self::Here(controller) => controller.record_error(qid, sqe, status),
            Self::Away(away) => away.record_error(sqe, status),
        }
    }

    /// What an admin command is checked against. Elsewhere the home core checks again whether the
    /// controller is ready. Discovery controllers are never elsewhere.
    pub fn admin_context(&self, transport: Transport) -> AdminContext {
        let (is_ready, is_discovery, max_io_bytes) = match self {
            Self::Here(controller) => (
                controller.registers.get().ready(),
                controller.is_discovery(),
                controller.limits.max_io_bytes,
            ),
            Self::Away(away) => (true, false, away.about.max_io_bytes),
        };
        AdminContext {
            is_ready,
            is_discovery,
            max_io_bytes,
            transport,
        }
    }

    /// What an I/O command is checked against. Elsewhere the home core checks again whether the
    /// controller is ready and the namespace there: only it knows.
    #[inline]
    pub fn io_context(
        &self,
        capsule_bytes: u32,
        transport: Transport,
    ) -> Result<IoContext<'_>, Status> {
        let (namespace, max_io_bytes): (Option<&VolumeInfo>, u32) = match self {
            Self::Here(controller) => {
                if !controller.registers.get().ready() {
                    return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
                }
                let subsystem = controller.subsystem().ok_or(Status::INTERNAL_ERROR)?;
                let namespace = subsystem.is_live().then_some(&subsystem.info);
                (namespace, controller.limits.max_io_bytes)
            }
            Self::Away(away) => (Some(&away.about.info), away.about.max_io_bytes),
        };
        Ok(IoContext {
            namespace,
            max_io_bytes,
            capsule_bytes,
            transport,
        })
    }
}
