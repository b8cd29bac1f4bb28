//! A controller: what exists between a host's Connect on an admin queue and its end.
//!
//! Source: base 2.0 section 3.1 (controllers); NVMe-oF 1.1 section 4 (associations).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::Instant;
use reactor::sync::Notify;
use wire::nvme::{Sqe, Status};

use crate::complaints::{Complaint, Complaints};
use crate::nvmf::admin::features::Features;
use crate::nvmf::error_log::ErrorLog;
use crate::nvmf::events::{Event, Events, Report};
use crate::nvmf::fence::Fence;
use crate::nvmf::notices::{Notices, mask_bit};
use crate::nvmf::outcome::Outcome;
use crate::nvmf::port::{Aborted, CloseReason, QueuePort};
use crate::nvmf::registers::{ConfigEffect, Registers};
use crate::nvmf::subsystem::Subsystem;
use crate::nvmf::transport::Transport;
use crate::options::TargetOptions;
use crate::reservation::{Access, Identity, Listener, Notice, Participant};

/// Largest controller identifier; above are reserved values.
pub const LAST_CNTLID: u16 = 0xffef;

/// Who a host says it is. Both parts must match on every queue of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Qualified name.
    pub nqn: String,
    /// 128-bit identifier.
    pub id: [u8; 16],
}

/// What a controller gives access to.
pub enum Service {
    /// A subsystem with a namespace.
    Storage(Rc<Subsystem>),
    /// The discovery log. `reach` is the local address the host came in on.
    Discovery {
        /// Which subsystems exist.
        directory: crate::nvmf::directory::Directory,
        /// Local address of the admin connection; stands in for wildcard listeners.
        reach: std::net::SocketAddr,
    },
}

/// Limits that a controller announces, from the options.
#[derive(Clone, Copy, Debug)]
pub struct ControllerLimits {
    /// How its host reaches it.
    pub transport: Transport,
    /// I/O queues.
    pub io_queues: u16,
    /// Entries of the largest queue.
    pub entries: u16,
    /// MDTS in bytes.
    pub max_io_bytes: u32,
    /// In-capsule data in bytes.
    pub in_capsule_bytes: u32,
    /// Added to the keep alive timeout.
    pub keep_alive_grace: Duration,
}

impl ControllerLimits {
    /// The limits of a controller that is reached over `transport`.
    pub fn of(options: &TargetOptions, transport: Transport) -> Self {
        Self {
            transport,
            io_queues: options.max_io_queues,
            entries: transport.max_queue_entries(options),
            max_io_bytes: options.max_io_bytes,
            in_capsule_bytes: transport.in_capsule_bytes(options),
            keep_alive_grace: options.keep_alive_grace,
        }
    }
}

/// One controller. Lives on the core of its subsystem.
pub struct Controller {
    /// Unique in its subsystem.
    pub cntlid: u16,
    /// The host it belongs to.
    pub host: Host,
    /// What it gives access to.
    pub service: Service,
    /// Announced limits.
    pub limits: ControllerLimits,
    pub(crate) registers: Cell<Registers>,
    pub(crate) events: RefCell<Events>,
    pub(crate) error_log: RefCell<ErrorLog>,
    pub(crate) features: RefCell<Features>,
    pub(crate) namespace_changed: Cell<bool>,
    pub(crate) notices: RefCell<Notices>,
    /// Its commands in the volume.
    pub(crate) fence: Fence,
    participant: Option<Rc<Participant>>,
    kato_ms: Cell<u32>,
    last_command: Cell<Instant>,
    timer_changed: Notify,
    queues: RefCell<BTreeMap<u16, Weak<dyn QueuePort>>>,
    closed: Cell<bool>,
}

impl Controller {
    /// A controller after reset, without queues.
    pub fn new(
        cntlid: u16,
        host: Host,
        service: Service,
        limits: ControllerLimits,
        kato_ms: u32,
    ) -> Rc<Self> {
        let discovery = matches!(service, Service::Discovery { .. });
        Rc::new_cyclic(|this: &Weak<Self>| Self {
            participant: attach(&service, &host, this),
            cntlid,
            host,
            service,
            limits,
            registers: Cell::new(Registers::new(limits.entries, discovery)),
            events: RefCell::new(Events::new(discovery)),
            error_log: RefCell::new(ErrorLog::new(limits.transport)),
            features: RefCell::new(Features::new(limits.io_queues)),
            namespace_changed: Cell::new(false),
            notices: RefCell::default(),
            fence: Fence::default(),
            kato_ms: Cell::new(kato_ms),
            last_command: Cell::new(reactor::now()),
            timer_changed: Notify::new(),
            queues: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    /// The subsystem; none for a discovery controller.
    pub fn subsystem(&self) -> Option<&Rc<Subsystem>> {
        match &self.service {
            Service::Storage(subsystem) => Some(subsystem),
            Service::Discovery { .. } => None,
        }
    }

    /// True for a discovery controller.
    pub fn is_discovery(&self) -> bool {
        matches!(self.service, Service::Discovery { .. })
    }

    /// Its part in the reservations of the volume; none for a discovery controller.
    pub fn participant(&self) -> Option<&Rc<Participant>> {
        self.participant.as_ref()
    }

    /// Whether the reservations allow its host this access now. Cost: one comparison.
    #[inline]
    pub(crate) fn check(&self, access: Access) -> Result<(), Status> {
        match &self.participant {
            Some(participant) => participant
                .check(access)
                .map_err(|_| Status::RESERVATION_CONFLICT.with_dnr()),
            None => Ok(()),
        }
    }

    /// Any command restarts the keep alive timer (CTRATT.TBKAS).
    #[inline]
    pub fn command_arrived(&self, now: Instant) {
        self.last_command.set(now);
    }

    /// A connection on another core had a command at `then`.
    pub(crate) fn heard(&self, then: Instant) {
        self.last_command.set(self.last_command.get().max(then));
    }

    /// True once the controller is gone: its admin queue closed.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Enters a queue. Errors: the identifier is in use.
    pub fn add_queue(&self, qid: u16, port: Weak<dyn QueuePort>) -> Result<(), Status> {
        let mut queues = self.queues.borrow_mut();
        if queues.contains_key(&qid) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        queues.insert(qid, port);
        Ok(())
    }

    /// True when a queue with this identifier is connected.
    pub fn has_queue(&self, qid: u16) -> bool {
        self.queues.borrow().contains_key(&qid)
    }

    /// Takes a queue out. The admin queue takes the controller with it.
    pub fn remove_queue(&self, qid: u16) {
        self.queues.borrow_mut().remove(&qid);
        if qid == 0 {
            self.close(CloseReason::AdminQueueGone);
        }
    }

    /// Another port speaks for the queue from now on: its connection moved to another core, or back.
    pub(crate) fn replace_queue(&self, qid: u16, port: Weak<dyn QueuePort>) {
        self.queues.borrow_mut().insert(qid, port);
    }

    /// True when every queue has read what its host had sent at `since`. Every one is asked, since
    /// the answer of another core takes its time.
    pub fn is_drained(&self, since: Instant) -> bool {
        let ports = self.ports(|_| true);
        let undrained = ports.iter().filter(|port| !port.is_drained(since));
        undrained.count() == 0
    }

    /// Hears what connections on other cores have said so far.
    pub fn catch_up(&self) {
        for port in self.ports(|qid| qid != 0) {
            port.catch_up();
        }
    }

    /// I/O queues there are now.
    pub fn io_queue_count(&self) -> usize {
        self.queues.borrow().keys().filter(|qid| **qid != 0).count()
    }

    /// Ends every connection of the controller and takes it out of its subsystem.
    pub fn close(&self, reason: CloseReason) {
        if self.closed.replace(true) {
            return;
        }
        if let Some(subsystem) = self.subsystem() {
            subsystem.forget_controller(self.cntlid);
        }
        self.timer_changed.notify_all();
        for port in self.ports(|_| true) {
            port.close(reason);
        }
    }

    /// Aborts a command on one of the queues, if it is not done yet.
    pub fn abort(&self, qid: u16, cid: u16) -> Aborted {
        let port = self.queues.borrow().get(&qid).and_then(Weak::upgrade);
        port.map_or(Aborted::Known(false), |port| port.abort(cid))
    }

    /// Completes a waiting event request on the admin queue.
    pub fn deliver(&self, report: Option<Report>) {
        let Some(report) = report else { return };
        let port = self.queues.borrow().get(&0).and_then(Weak::upgrade);
        if let Some(port) = port {
            port.post(report.cid, Outcome::with_result(u64::from(report.dw0)));
        }
    }

    /// The namespace came, went or changed.
    pub fn namespace_changed(&self) {
        self.namespace_changed.set(true);
        self.raise(Event::NamespaceChanged);
    }

    /// The discovery log changed.
    pub fn discovery_changed(&self) {
        self.raise(Event::DiscoveryChanged);
    }

    /// Tells the host that there is something to read.
    pub(crate) fn raise(&self, event: Event) {
        let report = self.events.borrow_mut().raise(event);
        self.deliver(report);
    }

    /// Notes a failed command in the error log. Cost: no allocation.
    pub fn record_error(&self, qid: u16, sqe: &Sqe, status: Status) {
        self.error_log.borrow_mut().record(qid, sqe, status);
    }

    /// Counts failed commands of which the error log gets no entry.
    pub(crate) fn skip_errors(&self, count: u64) {
        self.error_log.borrow_mut().skip(count);
    }

    /// Carries out what a write to CC asked for.
    pub(crate) fn apply(self: &Rc<Self>, effect: ConfigEffect) {
        match effect {
            ConfigEffect::None | ConfigEffect::Enabled => {}
            ConfigEffect::Reset => self.reset(),
            ConfigEffect::Shutdown => self.start_shutdown(),
        }
    }

    fn reset(&self) {
        let waiting = self.events.borrow().waiting();
        let admin = self.queues.borrow().get(&0).and_then(Weak::upgrade);
        if let Some(admin) = admin {
            for cid in waiting {
                // It is known here that they wait: nobody has to be asked.
                let _ = admin.abort(cid);
            }
        }
        self.events.borrow_mut().reset();
        *self.features.borrow_mut() = Features::new(self.limits.io_queues);
        self.namespace_changed.set(false);
        self.notices.take();
        for port in self.ports(|qid| qid != 0) {
            port.close(CloseReason::ControllerReset);
        }
    }

    /// Writes the volatile cache back, then reports that the shutdown is complete.
    fn start_shutdown(self: &Rc<Self>) {
        let volume = self.subsystem().and_then(|subsystem| subsystem.volume());
        let Some(volume) = volume else {
            return self.finish_shutdown();
        };
        let controller = Rc::clone(self);
        // Detached on purpose: it ends with the flush, whatever happens to the controller.
        drop(reactor::spawn(async move {
            let flush = volume::Request::new(volume::Command::Flush);
            if let Err(error) = volume.execute(flush).await {
                tracing::warn!(volume = %volume.info().name, %error, "flush at shutdown failed");
            }
            controller.finish_shutdown();
        }));
    }

    fn finish_shutdown(&self) {
        let mut registers = self.registers.get();
        registers.shutdown_complete();
        self.registers.set(registers);
    }

    fn ports(&self, wanted: impl Fn(u16) -> bool) -> Vec<Rc<dyn QueuePort>> {
        let queues = self.queues.borrow();
        let chosen = queues.iter().filter(|(qid, _)| wanted(**qid));
        chosen.filter_map(|(_, port)| port.upgrade()).collect()
    }
}

/// A controller that gives access to a volume takes part in its reservations as its host.
fn attach(service: &Service, host: &Host, this: &Weak<Controller>) -> Option<Rc<Participant>> {
    let Service::Storage(subsystem) = service else {
        return None;
    };
    let identity = Identity::Nvme { host_id: host.id };
    let listener: Weak<dyn Listener> = this.clone();
    Some(subsystem.reservations.attach(identity, listener))
}

/// What other hosts do to the reservations of this one. Source: base 2.0 section 8.19.
impl Listener for Controller {
    fn notify(&self, notice: Notice) {
        let mask = self.features.borrow().notification_mask;
        if mask & mask_bit(notice) == 0 {
            self.notices.borrow_mut().add(notice);
            self.raise(Event::ReservationLog);
        }
    }

    fn abort_tasks(&self) {
        self.fence.close();
    }

    /// Commands in the volume are not cut off but waited for, since a write that is cut off may
    /// still happen, unseen and late. Those whose data has not come yet find the reservation
    /// against them. Dropped connections are no exception: what they had in the volume is counted.
    fn is_settled(&self) -> bool {
        self.fence.is_settled()
    }
}

/// Keep alive. Source: base 2.0 section 3.9.
impl Controller {
    /// The timeout in milliseconds; 0 is none.
    pub fn kato_ms(&self) -> u32 {
        self.kato_ms.get()
    }

    /// Changes the timeout and restarts the timer.
    pub fn set_kato_ms(&self, kato_ms: u32) {
        self.kato_ms.set(kato_ms);
        self.last_command.set(reactor::now());
        self.timer_changed.notify_all();
    }

    /// Watches the timer until the controller is closed; closes it when the host is silent for
    /// the timeout plus the grace of the options. Without this a host that vanished would hold
    /// its controller and buffers for ever.
    pub(crate) async fn watch_keep_alive(self: Rc<Self>, complaints: Rc<Complaints>) {
        while !self.closed.get() {
            let Some(deadline) = self.keep_alive_deadline() else {
                self.timer_changed.notified().await;
                continue;
            };
            let now = reactor::now();
            if now >= deadline {
                complaints.about(Complaint::KeepAlive, || {
                    tracing::warn!(
                        host = %self.host.nqn, cntlid = self.cntlid, kato_ms = self.kato_ms.get(),
                        "keep alive expired: the controller is closed"
                    );
                });
                return self.close(CloseReason::KeepAliveExpired);
            }
            let wait = deadline.duration_since(now);
            let _ = reactor::time::timeout(wait, self.timer_changed.notified()).await;
        }
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        let kato_ms = self.kato_ms.get();
        let timeout = Duration::from_millis(u64::from(kato_ms)) + self.limits.keep_alive_grace;
        (kato_ms != 0).then(|| self.last_heard() + timeout)
    }

    /// When the last command came, on whichever core.
    fn last_heard(&self) -> Instant {
        let ports = self.ports(|_| true);
        let away = ports.iter().filter_map(|port| port.last_command()).max();
        away.map_or(self.last_command.get(), |away| {
            away.max(self.last_command.get())
        })
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("cntlid", &self.cntlid)
            .field("host", &self.host.nqn)
            .finish_non_exhaustive()
    }
}
