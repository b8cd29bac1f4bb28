//! The tasks that serve the queues of a core: polled while anything is going on, armed and waiting in
//! the ring while nothing is.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use reactor::mailbox::{self, Receiver};
use reactor::readiness::Descriptor;
use reactor::time::sleep;
use reactor::{Instant, Spin};

use super::news::News;
use super::queues::Queues;

/// News of a device that wait for a core: a few for each of its pairs at once.
const NEWS_WAITING: usize = 16 << 10;
/// Pause before trying again what should not have failed.
const PAUSE: Duration = Duration::from_millis(10);

/// Starts the tasks. They end when the queues are over. Errors: what the system says.
pub fn start(queues: &Rc<Queues>) -> io::Result<()> {
    let completions = Descriptor::new(queues.completions().descriptor()?);
    let news = Descriptor::new(queues.device().news_descriptor()?);
    let (sender, receiver) = mailbox::channel(NEWS_WAITING);
    queues.device().tell(sender);
    reactor::spawn(poll(queues.clone(), completions));
    reactor::spawn(watch(queues.clone(), news));
    reactor::spawn(hear(queues.clone(), receiver));
    reactor::spawn(refill(queues.clone()));
    Ok(())
}

/// Takes completions: once a turn while hot, else when the armed queue says that there are some.
async fn poll(queues: Rc<Queues>, descriptor: Descriptor) {
    let mut last = reactor::now();
    queues.receives().set_quiet(false);
    while !queues.is_over() {
        if queues.take_completions() > 0 {
            last = reactor::now();
        }
        queues.receives().post();
        if is_hot(last) {
            reactor::next_turn().await;
            continue;
        }
        if let Err(error) = queues.arm() {
            tracing::error!(%error, "a completion queue cannot be armed: it is polled");
            sleep(PAUSE).await;
            continue;
        }
        // What came before the arming gives no event.
        if queues.take_completions() == 0 {
            queues.receives().set_quiet(true);
            wait(&queues, &descriptor).await;
            queues.receives().set_quiet(false);
            if queues.completions().take_events() == 0 {
                // A device that was taken away says for ever that there is something.
                sleep(PAUSE).await;
            }
        }
        last = reactor::now();
    }
}

fn is_hot(last: Instant) -> bool {
    match reactor::spin() {
        Spin::Always => true,
        Spin::For(window) => reactor::now().saturating_duration_since(last) < window,
    }
}

/// Takes news of the device and spreads them to all cores.
async fn watch(queues: Rc<Queues>, descriptor: Descriptor) {
    while !queues.is_over() {
        if queues.device().spread_news() == 0 {
            // Another core was faster, or the device was taken away.
            sleep(PAUSE).await;
        }
        wait(&queues, &descriptor).await;
    }
}

/// Acts on news of the device.
async fn hear(queues: Rc<Queues>, mut receiver: Receiver<News>) {
    while let Some(Some(news)) = net::first(receiver.recv(), queues.over()).await {
        queues.hear(news);
    }
}

/// Gives receives memory that had none.
async fn refill(queues: Rc<Queues>) {
    net::first(queues.receives().refill(), queues.over()).await;
}

/// Waits until the descriptor has something, or the queues are over.
async fn wait(queues: &Queues, descriptor: &Descriptor) {
    if let Some(Err(error)) = net::first(descriptor.readable(), queues.over()).await {
        tracing::error!(%error, "a descriptor of an RDMA device cannot be waited for");
        sleep(PAUSE).await;
    }
}
