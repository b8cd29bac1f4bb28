//! A request to connect, here or on its way to another core. Dropping it refuses it.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::card::{CoreCard, established, setup_error};
use super::cm_id::{CmId, Parameters};
use super::event::Request;
use super::manager::Managed;
use super::pair::Pair;
use crate::card::{IncomingBackend, PairBackend, Setup};
use crate::{PairOptions, RdmaError};

/// What a request says.
#[derive(Clone)]
struct Words {
    private_data: Vec<u8>,
    peer_asks: u8,
    peer_serves: u8,
    local: SocketAddr,
    peer: SocketAddr,
}

/// A request on this core.
pub struct IncomingRequest {
    card: Rc<CoreCard>,
    words: Words,
    /// None once it was answered or taken away.
    managed: Option<Managed>,
}

/// A request on its way between cores.
pub struct Detached {
    words: Words,
    /// None once it was attached.
    id: Option<CmId>,
}

impl IncomingRequest {
    /// Takes a request from a listener of this core; none when the core is about to end.
    pub fn new(card: &Rc<CoreCard>, request: Request) -> Option<IncomingRequest> {
        let (local, peer) = request.id.addresses();
        let manager = card.manager(local).ok()?;
        Some(IncomingRequest {
            card: card.clone(),
            words: Words {
                private_data: request.private_data,
                peer_asks: request.peer_asks,
                peer_serves: request.peer_serves,
                local,
                peer,
            },
            managed: Some(manager.adopt(request.id)),
        })
    }

    /// Takes a request from another core. Errors: `Setup`.
    pub fn attach(
        card: &Rc<CoreCard>,
        mut detached: Detached,
    ) -> Result<IncomingRequest, RdmaError> {
        let address = detached.words.peer;
        let gone = || RdmaError::Gone { address };
        let id = detached.id.take().ok_or_else(gone)?;
        let managed = card.manager(detached.words.local)?.attach(id);
        let managed = managed.map_err(|error| setup_error("rdma_migrate_id", address, error))?;
        Ok(IncomingRequest {
            card: card.clone(),
            words: detached.words.clone(),
            managed: Some(managed),
        })
    }

    async fn accept(
        mut self,
        private_data: &[u8],
        options: PairOptions,
    ) -> Result<Rc<dyn PairBackend>, RdmaError> {
        let address = self.words.peer;
        let failed = |step| move |error: io::Error| setup_error(step, address, error);
        let gone = || RdmaError::Gone { address };
        let context = self
            .managed
            .as_ref()
            .and_then(|managed| managed.id().context());
        let queues = self
            .card
            .queues(context.ok_or_else(gone)?, self.words.local)?;
        let parameters = Parameters {
            private_data,
            reads_served: self.card.reads_served(&queues, self.words.peer_asks),
            reads_asked: options
                .read_depth
                .min(queues.device().limits().reads_asked)
                .min(self.words.peer_serves),
        };
        let managed = self.managed.take().ok_or_else(gone)?;
        let flush_timeout = self.card.options().flush_timeout;
        // Dropping the identifier of a request refuses it, also where this fails.
        let pair = Pair::new(managed, &queues, options, flush_timeout)
            .map_err(failed("making a queue pair"))?;
        let id = pair.pair().managed().id();
        id.accept(&parameters).map_err(failed("rdma_accept"))?;
        established(&pair, address).await?;
        Ok(Rc::new(pair))
    }
}

impl IncomingBackend for IncomingRequest {
    fn private_data(&self) -> &[u8] {
        &self.words.private_data
    }

    fn peer(&self) -> SocketAddr {
        self.words.peer
    }

    fn local(&self) -> SocketAddr {
        self.words.local
    }

    fn accept<'a>(
        self: Box<Self>,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, Rc<dyn PairBackend>> {
        Box::pin((*self).accept(private_data, options))
    }

    fn reject(mut self: Box<Self>, private_data: &[u8]) {
        if let Some(managed) = self.managed.take() {
            refuse(managed.id(), private_data);
        }
    }

    fn detach(mut self: Box<Self>) -> Box<dyn Any + Send> {
        Box::new(Detached {
            words: self.words.clone(),
            id: self.managed.take().map(Managed::detach),
        })
    }
}

impl Drop for IncomingRequest {
    fn drop(&mut self) {
        if let Some(managed) = &self.managed {
            refuse(managed.id(), &[]);
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            refuse(id, &[]);
        }
    }
}

fn refuse(id: &CmId, private_data: &[u8]) {
    if let Err(error) = id.reject(private_data) {
        tracing::debug!(%error, "a request that is refused was taken back");
    }
}
