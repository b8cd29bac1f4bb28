//! Connections that go from core to core, whatever carries them.

use std::rc::Rc;

use crate::nvmf::controller::Controller;
use crate::nvmf::directory::CoreTarget;
use crate::nvmf::target::Target;

/// Where a connection shall go.
#[derive(Clone)]
pub(crate) enum Destination {
    /// To the core of its controller.
    Home,
    /// Away from there.
    Core(CoreTarget),
}

/// A connection on its way to another core, in a message.
pub(crate) trait Traveller: Send {
    /// It is there: goes on.
    fn arrive(self: Box<Self>, target: &Target);
    /// The other core takes no more. A connection that cannot stay where it is ends.
    fn turned_back(self: Box<Self>) {}
}

/// A connection on its way to the core of its controller, which it had left.
pub(crate) trait Returning: Send {
    /// It is there. `answer_abort` takes what became of Aborts that it had not heard of.
    fn come_home(
        self: Box<Self>,
        target: &Target,
        controller: &Rc<Controller>,
        answer_abort: &dyn Fn(u8, bool),
    );
}
