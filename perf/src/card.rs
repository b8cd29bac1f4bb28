//! Which RDMA card is used, and how large things are on it.

use std::fmt;

use clap::ValueEnum;
use rdma::soft::Faults;
use rdma::verbs::Registry;
use rdma::{Card, CardOptions};
use reactor::Spin;
use reactor::cores::CoreConfig;

use crate::error::PerfError;

/// Memory of a core that does little.
const POOL_BYTES: usize = 64 << 20;
/// Memory of a core for what this program has no use of: the least there is.
const ENGINE_POOL_BYTES: usize = 4 << 20;
/// Part of a pool that the buffers of one size have at least is an 8th, larger ones that lend a
/// hand included.
const POOL_PARTS: usize = 8;

/// Which card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CardKind {
    /// A real one, or soft RoCE of the kernel, through the verbs library.
    #[default]
    Verbs,
    /// A simulated one over TCP, to try options without any device. It speaks to its like only.
    Soft,
}

impl CardKind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verbs => "verbs",
            Self::Soft => "soft",
        }
    }

    /// What the cards of all cores have in common.
    ///
    /// Errors: `Rdma` when the verbs library is not there.
    pub fn open(self) -> Result<Cards, PerfError> {
        Ok(match self {
            Self::Verbs => Cards::Verbs(Registry::new()?),
            Self::Soft => Cards::Soft,
        })
    }
}

/// Makes the cards of this process' cores.
#[derive(Clone)]
pub enum Cards {
    /// Real ones.
    Verbs(Registry),
    /// Simulated ones.
    Soft,
}

impl Cards {
    /// The card of the calling core.
    ///
    /// Errors: `Rdma`.
    pub fn card(&self, options: CardOptions) -> Result<Card, PerfError> {
        Ok(match self {
            Self::Verbs(registry) => Card::verbs(registry.clone(), options)?,
            Self::Soft => Card::soft(options, Faults::default()),
        })
    }
}

impl fmt::Debug for Cards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verbs(_) => "Verbs",
            Self::Soft => "Soft",
        })
    }
}

/// A core with `buffer_bytes` bytes of buffers of one size.
pub fn core(name: String, cpu: Option<usize>, spin: Spin, buffer_bytes: usize) -> CoreConfig {
    CoreConfig {
        cpu,
        spin,
        io_pool_bytes: POOL_BYTES + buffer_bytes * POOL_PARTS,
        engine_pool_bytes: ENGINE_POOL_BYTES,
        name,
    }
}
