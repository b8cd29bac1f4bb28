//! Fabrics commands: Connect, Property Get and Set, Disconnect.
//!
//! Source: base 2.0 section 6; NVMe-oF 1.1 section 3.

use std::net::SocketAddr;
use std::rc::Rc;

use wire::fabrics::FabricsType;
use wire::fabrics::connect::{
    CNTLID_DYNAMIC, ConnectCommand, ConnectData, ConnectResponse, InvalidParameter, cattr,
};
use wire::fabrics::disconnect::Disconnect;
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::{Sqe, Status};
use wire::text::DISCOVERY_NQN;

use crate::nvmf::admin::features::checked_kato_ms;
use crate::nvmf::controller::{Controller, ControllerLimits, Host, Service};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::plan::{Length, Transfer, check_flags, from_host};
use crate::nvmf::subsystem::Subsystem;
use crate::nvmf::target::Target;
use crate::nvmf::transport::Transport;

/// A checked Connect, ready to be carried out on the core of its subsystem.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// What the connection came over.
    pub transport: Transport,
    /// 0 for an admin queue.
    pub qid: u16,
    /// Entries of the queue.
    pub entries: u16,
    /// The host does without SQHD.
    pub no_flow_control: bool,
    /// Keep alive timeout in milliseconds.
    pub kato_ms: u32,
    /// Which controller; FFFFh for a new one.
    pub cntlid: u16,
    /// Who connects.
    pub host: Host,
    /// To which subsystem.
    pub subsystem_nqn: String,
}

/// What a successful Connect gives to its connection.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The controller the queue belongs to.
    pub controller: Rc<Controller>,
    /// 0 for the admin queue.
    pub qid: u16,
}

impl Connected {
    /// Completion dword 0.
    pub fn result(&self) -> u64 {
        let response = ConnectResponse {
            cntlid: self.controller.cntlid,
            authreq: 0,
        };
        u64::from(response.encode())
    }
}

/// Which data a fabrics command has.
pub fn plan(sqe: &Sqe, capsule_bytes: u32, transport: Transport) -> Result<Transfer, Status> {
    check_flags(sqe)?;
    match sqe.fabrics_type() {
        Some(FabricsType::CONNECT) => {
            let need_bytes = ConnectData::SIZE as u64;
            from_host(sqe, need_bytes, capsule_bytes, Length::Exact, transport)
        }
        Some(FabricsType::PROPERTY_GET | FabricsType::PROPERTY_SET | FabricsType::DISCONNECT) => {
            Ok(Transfer::None)
        }
        _ => Err(Status::INVALID_OPCODE.with_dnr()),
    }
}

fn invalid(parameter: InvalidParameter) -> Outcome {
    Outcome {
        status: Status::CONNECT_INVALID_PARAMETERS.with_dnr(),
        result: u64::from(parameter.encode()),
        data: None,
    }
}

/// Checks command and data of a Connect as far as that is possible without the subsystem.
/// `mqes` is the largest queue in entries, `transport` what the connection came over.
pub fn check_connect(
    sqe: &Sqe,
    data: &[u8],
    mqes: u16,
    transport: Transport,
) -> Result<ConnectRequest, Outcome> {
    let command = ConnectCommand::from_sqe(sqe)
        .map_err(|_| Outcome::failure(Status::INVALID_FIELD.with_dnr()))?;
    let data = ConnectData::decode(data)
        .map_err(|_| Outcome::failure(Status::SGL_DATA_LENGTH_INVALID.with_dnr()))?;
    if command.recfmt.get() != 0 {
        return Err(Outcome::failure(
            Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr(),
        ));
    }
    let sqsize = command.sqsize.get();
    if sqsize == 0 || sqsize >= mqes {
        return Err(invalid(InvalidParameter::SQSIZE));
    }
    let kato_ms =
        checked_kato_ms(command.kato_ms.get()).map_err(|_| invalid(InvalidParameter::KATO))?;
    let host_nqn = data
        .host_nqn()
        .map_err(|_| invalid(InvalidParameter::HOSTNQN))?;
    let subsystem_nqn = data
        .subsystem_nqn()
        .map_err(|_| invalid(InvalidParameter::SUBNQN))?;
    Ok(ConnectRequest {
        transport,
        qid: command.qid.get(),
        entries: sqsize + 1,
        no_flow_control: command.cattr & cattr::DISABLE_SQ_FLOW_CONTROL != 0,
        kato_ms,
        cntlid: data.cntlid.get(),
        host: Host {
            nqn: host_nqn.to_owned(),
            id: data.hostid,
        },
        subsystem_nqn: subsystem_nqn.to_owned(),
    })
}

/// Carries out a Connect on this core. `reach` is the local address of the connection.
///
/// Waits for commands of closed connections of the subsystem when an I/O queue connects, see
/// [`Subsystem::wait_orphans`]. Cancel: nothing happened.
pub async fn connect(
    target: &Target,
    request: &ConnectRequest,
    reach: SocketAddr,
) -> Result<Connected, Outcome> {
    if request.subsystem_nqn == DISCOVERY_NQN {
        return connect_discovery(target, request, reach);
    }
    let subsystem = target
        .subsystem(&request.subsystem_nqn)
        .ok_or_else(|| invalid(InvalidParameter::SUBNQN))?;
    if !subsystem.hosts.allows(&request.host.nqn) {
        return Err(Outcome::failure(Status::CONNECT_INVALID_HOST.with_dnr()));
    }
    if request.qid == 0 {
        return connect_admin(target, &subsystem, request);
    }
    subsystem.wait_orphans(&request.host, request.cntlid).await;
    connect_io(&subsystem, request)
}

fn connect_discovery(
    target: &Target,
    request: &ConnectRequest,
    reach: SocketAddr,
) -> Result<Connected, Outcome> {
    if request.qid != 0 {
        return Err(invalid(InvalidParameter::QID));
    }
    if request.cntlid != CNTLID_DYNAMIC {
        return Err(invalid(InvalidParameter::CNTLID));
    }
    let directory = target.options().directory.clone();
    let cntlid = directory.discovery_cntlid();
    let service = Service::Discovery { directory, reach };
    let controller = new_controller(target, cntlid, service, request);
    target.watch_discovery(&controller);
    Ok(Connected { controller, qid: 0 })
}

fn connect_admin(
    target: &Target,
    subsystem: &Rc<Subsystem>,
    request: &ConnectRequest,
) -> Result<Connected, Outcome> {
    if request.cntlid != CNTLID_DYNAMIC {
        return Err(invalid(InvalidParameter::CNTLID));
    }
    let cntlid = subsystem
        .allocate_cntlid()
        .ok_or_else(|| Outcome::failure(Status::CONNECT_CONTROLLER_BUSY))?;
    let controller = new_controller(
        target,
        cntlid,
        Service::Storage(Rc::clone(subsystem)),
        request,
    );
    subsystem.add_controller(Rc::clone(&controller));
    Ok(Connected { controller, qid: 0 })
}

fn new_controller(
    target: &Target,
    cntlid: u16,
    service: Service,
    request: &ConnectRequest,
) -> Rc<Controller> {
    let limits = ControllerLimits::of(target.options(), request.transport);
    let host = request.host.clone();
    let controller = Controller::new(cntlid, host, service, limits, request.kato_ms);
    let complaints = Rc::clone(target.complaints());
    let watch = Rc::clone(&controller).watch_keep_alive(complaints);
    drop(reactor::spawn(watch));
    controller
}

fn connect_io(subsystem: &Subsystem, request: &ConnectRequest) -> Result<Connected, Outcome> {
    let controller = subsystem
        .controller(request.cntlid)
        .filter(|controller| !controller.is_closed())
        .ok_or_else(|| invalid(InvalidParameter::CNTLID))?;
    check_association(&controller, request)?;
    let registers = controller.registers.get();
    if !registers.ready() || registers.shutting_down() {
        return Err(Outcome::failure(Status::COMMAND_SEQUENCE_ERROR.with_dnr()));
    }
    if request.qid > controller.features.borrow().granted_queues() {
        return Err(invalid(InvalidParameter::QID));
    }
    if controller.has_queue(request.qid) {
        return Err(Outcome::failure(Status::COMMAND_SEQUENCE_ERROR.with_dnr()));
    }
    Ok(Connected {
        controller,
        qid: request.qid,
    })
}

/// True for Property Get and Property Set: the fabrics commands that need the controller.
pub fn is_property(sqe: &Sqe) -> bool {
    let kind = sqe.fabrics_type();
    matches!(
        kind,
        Some(FabricsType::PROPERTY_GET | FabricsType::PROPERTY_SET)
    )
}

/// Property Get or Property Set, on the admin queue.
pub fn property(controller: &Rc<Controller>, sqe: &Sqe) -> Outcome {
    match sqe.fabrics_type() {
        Some(FabricsType::PROPERTY_GET) => property_get(controller, sqe),
        Some(FabricsType::PROPERTY_SET) => property_set(controller, sqe),
        _ => Status::INVALID_OPCODE.with_dnr().into(),
    }
}

/// An I/O queue comes from the host of its controller, over the transport of its admin queue: what
/// the controller announced holds for that one alone. Source: base 2.0 section 2.3 (association).
fn check_association(controller: &Controller, request: &ConnectRequest) -> Result<(), Outcome> {
    if controller.host.nqn != request.host.nqn {
        return Err(invalid(InvalidParameter::HOSTNQN));
    }
    if controller.host.id != request.host.id {
        return Err(invalid(InvalidParameter::HOSTID));
    }
    if controller.limits.transport != request.transport {
        return Err(invalid(InvalidParameter::CNTLID));
    }
    Ok(())
}

/// Property Get, on the admin queue.
fn property_get(controller: &Controller, sqe: &Sqe) -> Outcome {
    let Ok(command) = PropertyGet::from_sqe(sqe) else {
        return invalid_field();
    };
    let Ok(size_bytes) = command.size_bytes() else {
        return invalid_field();
    };
    controller
        .registers
        .get()
        .get(command.offset.get(), size_bytes)
        .map_or_else(Outcome::failure, Outcome::with_result)
}

/// Property Set, on the admin queue.
fn property_set(controller: &Rc<Controller>, sqe: &Sqe) -> Outcome {
    let Ok(command) = PropertySet::from_sqe(sqe) else {
        return invalid_field();
    };
    let Ok(size_bytes) = command.size_bytes() else {
        return invalid_field();
    };
    let mut registers = controller.registers.get();
    match registers.set(command.offset.get(), size_bytes, command.value.get()) {
        Ok(effect) => {
            controller.registers.set(registers);
            controller.apply(effect);
            Outcome::success()
        }
        Err(status) => Outcome::failure(status),
    }
}

/// Checks a Disconnect: it ends an I/O queue, never the admin queue.
pub fn disconnect(qid: u16, sqe: &Sqe) -> Outcome {
    let Ok(command) = Disconnect::from_sqe(sqe) else {
        return invalid_field();
    };
    if command.recfmt.get() != 0 {
        return Outcome::failure(Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr());
    }
    if qid == 0 {
        return Outcome::failure(Status::DISCONNECT_INVALID_QUEUE_TYPE.with_dnr());
    }
    Outcome::success()
}

fn invalid_field() -> Outcome {
    Outcome::failure(Status::INVALID_FIELD.with_dnr())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reactor::sim::{World, WorldOptions};

    use super::*;
    use crate::nvmf::directory::Directory;
    use crate::options::TargetOptions;

    fn request(transport: Transport) -> ConnectRequest {
        ConnectRequest {
            transport,
            qid: 1,
            entries: 32,
            no_flow_control: false,
            kato_ms: 0,
            cntlid: 1,
            host: Host {
                nqn: "nqn.x:host".to_owned(),
                id: [7; 16],
            },
            subsystem_nqn: String::new(),
        }
    }

    fn controller(transport: Transport) -> Rc<Controller> {
        let service = Service::Discovery {
            directory: Directory::new(),
            reach: SocketAddr::from(([10, 0, 0, 1], 4420)),
        };
        let limits = ControllerLimits::of(&TargetOptions::default(), transport);
        Controller::new(1, request(transport).host, service, limits, 0)
    }

    /// Each refusal with the parameter it names, as completion dword 0 has it.
    fn refused() -> Vec<Option<u64>> {
        let controller = controller(Transport::Rdma);
        let same = request(Transport::Rdma);
        let mut other_name = same.clone();
        other_name.host.nqn.push('2');
        let mut other_id = same.clone();
        other_id.host.id[0] = 8;
        let requests = [same, other_name, other_id, request(Transport::Tcp)];
        let check = |request: &ConnectRequest| check_association(&controller, request).err();
        let outcomes = requests.iter().map(check);
        outcomes.map(|outcome| outcome.map(|o| o.result)).collect()
    }

    #[test]
    fn an_io_queue_comes_from_its_controllers_host_over_its_transport() {
        let mut world = World::new(1, WorldOptions::default());
        let refused = world.run_once("target", Duration::from_secs(1), || async { refused() });
        let named = |parameter: InvalidParameter| Some(u64::from(parameter.encode()));
        let expected = vec![
            None,
            named(InvalidParameter::HOSTNQN),
            named(InvalidParameter::HOSTID),
            named(InvalidParameter::CNTLID),
        ];
        assert_eq!(refused, Some(expected));
    }
}
