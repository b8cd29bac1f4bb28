//! What the kernel's io_uring can do: asked once per ring, and reported to the operator.

use std::io;

use io_uring::{Builder, IoUring, Probe, cqueue, opcode, squeue};

use crate::backend::ring::try_register;
use crate::buf::BufPool;

/// Bytes registered to see whether buffers can be: more than the usual limit on locked memory
/// (8 MiB), less than a core's real pools.
const TRIAL_POOL_BYTES: usize = 16 << 20;

/// One thing the kernel has or lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its usual name.
    pub name: &'static str,
    /// Whether it can be used here.
    pub available: bool,
    /// What it is for, or what is used instead.
    pub detail: String,
}

/// How a ring was made, for the code that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingFeatures {
    pub(crate) mode: RingMode,
    pub(crate) multishot_accept: bool,
    /// Vectors into registered buffers.
    pub(crate) fixed_vectors: bool,
}

/// From best to plainest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingMode {
    /// Completion work runs only when this thread asks for it.
    DeferTaskrun,
    /// Completion work runs at this thread's next system call.
    CoopTaskrun,
    /// Completion work interrupts this thread.
    Plain,
}

const MODES: [RingMode; 3] = [
    RingMode::DeferTaskrun,
    RingMode::CoopTaskrun,
    RingMode::Plain,
];

fn build_mode(mode: RingMode, submissions: u32, completions: u32) -> io::Result<IoUring> {
    let builder = IoUring::builder();
    finish_mode(builder, mode, submissions, completions)
}

fn finish_mode<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
    mut builder: Builder<S, C>,
    mode: RingMode,
    submissions: u32,
    completions: u32,
) -> io::Result<IoUring<S, C>> {
    builder.setup_cqsize(completions).setup_clamp().dontfork();
    match mode {
        RingMode::DeferTaskrun => {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag();
        }
        RingMode::CoopTaskrun => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        RingMode::Plain => {}
    }
    builder.build(submissions)
}

/// Makes the best ring the kernel has.
///
/// `Unsupported` when it lacks what there is no substitute for: waiting with a time limit,
/// completions that are never dropped, and vectors that are read at submission.
pub(crate) fn build_ring(
    submissions: u32,
    completions: u32,
) -> io::Result<(IoUring, RingFeatures)> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for mode in MODES {
        match build_mode(mode, submissions, completions) {
            Ok(ring) => {
                let params = ring.params();
                let is_enough = params.is_feature_ext_arg()
                    && params.is_feature_nodrop()
                    && params.is_feature_submit_stable();
                if !is_enough {
                    return Err(io::Error::from(io::ErrorKind::Unsupported));
                }
                let features = RingFeatures {
                    mode,
                    multishot_accept: has_multishot_accept(&ring),
                    fixed_vectors: has_fixed_vectors(&ring),
                };
                return Ok((ring, features));
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Makes a ring whose completions are found by looking at the devices. It takes only reads and
/// writes of devices that can be polled; `EOPNOTSUPP` answers others.
pub(crate) fn build_polled_ring(
    submissions: u32,
    completions: u32,
) -> io::Result<(IoUring, RingFeatures)> {
    let mut builder = IoUring::builder();
    builder.setup_iopoll();
    // The other modes are about interrupts and signals, of which there are none here.
    let mode = RingMode::Plain;
    let ring = finish_mode(builder, mode, submissions, completions)?;
    let features = RingFeatures {
        mode,
        multishot_accept: false,
        fixed_vectors: has_fixed_vectors(&ring),
    };
    Ok((ring, features))
}

/// Makes a ring for commands of NVMe, whose entries are larger. It came with Linux 5.19.
pub(crate) fn build_command_ring(
    submissions: u32,
    completions: u32,
) -> io::Result<(IoUring<squeue::Entry128, cqueue::Entry32>, RingFeatures)> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for mode in MODES {
        let builder = IoUring::<squeue::Entry128, cqueue::Entry32>::builder();
        match finish_mode(builder, mode, submissions, completions) {
            Ok(ring) => {
                let features = RingFeatures {
                    mode,
                    multishot_accept: false,
                    fixed_vectors: false,
                };
                return Ok((ring, features));
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Multishot accept is a flag of an old operation, so it cannot be asked for; it came with the
/// release (5.19) that brought the operation `Socket`.
fn has_multishot_accept(ring: &IoUring) -> bool {
    supports(ring, &[opcode::Socket::CODE])
}

fn has_fixed_vectors(ring: &IoUring) -> bool {
    supports(ring, &[opcode::ReadvFixed::CODE, opcode::WritevFixed::CODE])
}

fn supports(ring: &IoUring, codes: &[u8]) -> bool {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.is_ok() && codes.iter().all(|&code| probe.is_supported(code))
}

/// Asks this machine's kernel, with small rings that are closed again.
pub fn probe() -> Vec<Feature> {
    let modes = MODES.map(|mode| build_mode(mode, 8, 16));
    let best = modes.iter().find_map(|ring| ring.as_ref().ok());
    let mut features = vec![
        feature(
            "io_uring",
            best.is_some(),
            "required",
            "nothing replaces it: see the error",
        ),
        feature(
            "SINGLE_ISSUER + DEFER_TASKRUN",
            modes[0].is_ok(),
            "completions are processed when the core asks",
            "COOP_TASKRUN is used",
        ),
        feature(
            "COOP_TASKRUN",
            modes[1].is_ok(),
            "the fallback of DEFER_TASKRUN",
            "completions interrupt the core",
        ),
    ];
    if let Some(ring) = best {
        features.extend(probe_ring(ring));
    } else if let Some(Err(error)) = modes.into_iter().last() {
        features[0].detail = format!("required; the kernel answers: {error}");
    }
    features.push(huge_pages());
    features
}

fn probe_ring(ring: &IoUring) -> Vec<Feature> {
    let params = ring.params();
    let has = |codes: &[u8]| supports(ring, codes);
    let required = [
        (
            "EXT_ARG",
            params.is_feature_ext_arg(),
            "waiting with a time limit",
        ),
        (
            "NODROP",
            params.is_feature_nodrop(),
            "completions are never dropped",
        ),
        (
            "SUBMIT_STABLE",
            params.is_feature_submit_stable(),
            "vectors are read at submission",
        ),
        (
            "READ, READV, WRITE, WRITEV, FSYNC",
            has(&[
                opcode::Read::CODE,
                opcode::Readv::CODE,
                opcode::Write::CODE,
                opcode::Writev::CODE,
                opcode::Fsync::CODE,
            ]),
            "file I/O",
        ),
        (
            "POLL_ADD, ASYNC_CANCEL, ACCEPT, CONNECT",
            has(&[
                opcode::PollAdd::CODE,
                opcode::AsyncCancel::CODE,
                opcode::Accept::CODE,
                opcode::Connect::CODE,
            ]),
            "quiet sockets",
        ),
    ];
    let mut features: Vec<Feature> = required
        .into_iter()
        .map(|(name, available, what)| feature(name, available, what, "required"))
        .collect();
    features.extend([
        feature(
            "multishot ACCEPT",
            has_multishot_accept(ring),
            "one entry accepts many connections",
            "one entry per connection",
        ),
        feature(
            "FALLOCATE",
            has(&[opcode::Fallocate::CODE]),
            "discard",
            "discard is refused as unsupported",
        ),
        feature(
            "registered files",
            ring.submitter().register_files_sparse(8).is_ok(),
            "no descriptor lookup per file operation",
            "plain descriptors are used",
        ),
        registered_buffers(ring),
        feature(
            "IOPOLL",
            build_polled_ring(8, 16).is_ok(),
            "block devices whose driver has queues for polling are polled",
            "devices interrupt the core",
        ),
        feature(
            "SQE128, CQE32, URING_CMD",
            build_command_ring(8, 16).is_ok() && has(&[opcode::UringCmd80::CODE]),
            "NVMe namespaces opened as /dev/ngXnY get commands past the block layer",
            "their block devices are used",
        ),
        feature(
            "READV_FIXED, WRITEV_FIXED",
            has_fixed_vectors(ring),
            "lists of registered buffers skip pinning as well",
            "only single buffers are used as registered ones",
        ),
    ]);
    features
}

fn registered_buffers(ring: &IoUring) -> Feature {
    let trial = BufPool::new(TRIAL_POOL_BYTES, "trial").and_then(|pool| try_register(ring, pool));
    Feature {
        name: "registered buffers",
        available: trial.is_ok(),
        detail: match trial {
            Ok(()) => String::from("no pinning of pages per file operation"),
            Err(error) => format!("each operation pins its own: raise memlock (answer: {error})"),
        },
    }
}

fn feature(name: &'static str, available: bool, with: &str, without: &str) -> Feature {
    let detail = if available { with } else { without };
    Feature {
        name,
        available,
        detail: detail.to_owned(),
    }
}

fn huge_pages() -> Feature {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let free = text.trim().parse::<u64>().unwrap_or(0);
    Feature {
        name: "huge pages",
        available: free > 0,
        detail: if free > 0 {
            format!("{free} free pages of 2 MiB for buffer pools")
        } else {
            String::from("ordinary pages are used for buffer pools")
        },
    }
}
