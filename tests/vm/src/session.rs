//! A target, a VM beside it, and the script that drives one against the other.

use std::time::Duration;

use crate::target::{Iscsi, Target, Volume};
use crate::time::pause;
use crate::{Result, Vm, paths};

/// Size of every volume: what mkfs.xfs asks for at least is 300 MB.
const VOLUME_BYTES: u64 = 384 << 20;
/// How long the guest may take to reconnect after the target is back.
const RECONNECT: Duration = Duration::from_secs(90);

/// Volumes of the test; `guest/lib.sh` tells what each is for.
const VOLUMES: [Volume; 4] = [
    Volume {
        name: "vm4k",
        block_bytes: 4096,
        allow_hosts: &[],
    },
    Volume {
        name: "vm512",
        block_bytes: 512,
        allow_hosts: &[],
    },
    Volume {
        name: "vmclosed",
        block_bytes: 4096,
        allow_hosts: &["nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"],
    },
    Volume {
        name: "vmcopy",
        block_bytes: 4096,
        allow_hosts: &[],
    },
];

/// The secrets that `guest/iscsi-lib.sh` knows.
const SECRETS: &str = "[[initiator]]\nuser = \"vm\"\nsecret = \"open-sesame-17\"\n\n\
                       [target]\nuser = \"bedplate\"\nsecret = \"sesame-answers-18\"\n";

/// Which target the guest drives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The `bedplate` binary on the machine.
    Bedplate,
    /// The kernel's own target inside the guest: tells a wrong script from a wrong target.
    Nvmet,
    /// The same for scripts about iSCSI: Debian's tgtd inside the guest.
    Tgt,
}

impl Kind {
    /// What `BEDPLATE_VM_TARGET` asks for, `nvmet` or `tgt`; else [`Kind::Bedplate`].
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var("BEDPLATE_VM_TARGET").as_deref() {
            Ok("nvmet") => Self::Nvmet,
            Ok("tgt") => Self::Tgt,
            _ => Self::Bedplate,
        }
    }
}

/// One test run: the VM with its script and the target it talks to.
#[derive(Debug)]
pub struct Session {
    // Before the target, so that the guest goes first when both are dropped.
    vm: Vm,
    target: Option<Target>,
}

impl Session {
    /// Starts the target and boots the VM on `guest/NAME.sh`; `limit` bounds the script.
    ///
    /// Logs, pool and configuration lie in `target/vm/run/NAME`. `extra` are further arguments of
    /// the script.
    ///
    /// # Errors
    /// When anything the test needs is missing, or the target does not start.
    pub fn start(name: &str, extra: &[String], limit: Duration) -> Result<Self> {
        Self::start_serving(name, extra, limit, &Iscsi::default())
    }

    /// The same with a target that serves iSCSI as well: by two portals, which the script gets
    /// told of.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub fn start_iscsi(name: &str, extra: &[String], limit: Duration, chap: bool) -> Result<Self> {
        let iscsi = Iscsi {
            portals: 2,
            secrets: chap.then_some(SECRETS),
        };
        Self::start_serving(name, extra, limit, &iscsi)
    }

    fn start_serving(name: &str, extra: &[String], limit: Duration, iscsi: &Iscsi) -> Result<Self> {
        let dir = paths::run_dir(name)?;
        let kind = Kind::from_environment();
        let target = match kind {
            Kind::Bedplate => Some(Target::start(&dir, &VOLUMES, VOLUME_BYTES, iscsi)?),
            Kind::Nvmet | Kind::Tgt => None,
        };
        let mut arguments = vec![
            format!("VOL_4K={}", VOLUMES[0].name),
            format!("VOL_512={}", VOLUMES[1].name),
            format!("VOL_CLOSED={}", VOLUMES[2].name),
            format!("VOL_COPY={}", VOLUMES[3].name),
            format!("VOL_BYTES={VOLUME_BYTES}"),
        ];
        match &target {
            Some(target) => {
                arguments.push("TARGET=bedplate".to_owned());
                arguments.push(format!("PORT={}", target.address().port()));
                for (number, portal) in (1..).zip(target.portals()) {
                    arguments.push(format!("PORTAL_{number}={}", portal.port()));
                }
            }
            None if kind == Kind::Tgt => arguments.push("TARGET=tgt".to_owned()),
            None => arguments.push("TARGET=nvmet".to_owned()),
        }
        arguments.extend_from_slice(extra);
        let vm = Vm::boot(&dir, &format!("{name}.sh"), &arguments, limit)?;
        Ok(Self { vm, target })
    }

    /// The VM.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// Kills the target, leaves it down for `down`, and starts it again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash(&mut self, down: Duration) -> Result<()> {
        let Some(target) = &mut self.target else {
            return self.bounce();
        };
        target.kill()?;
        pause(down);
        target.restart()
    }

    /// Stops the target in order, which must give exit code 0, and starts it again.
    ///
    /// # Errors
    /// When it does not stop so, or does not come back.
    pub fn restart(&mut self) -> Result<()> {
        let Some(target) = &mut self.target else {
            return self.bounce();
        };
        target.stop()?;
        target.restart()
    }

    /// Waits until the script has succeeded; then the target must stop with exit code 0 and leave a
    /// pool in which `bedplate fsck` finds nothing. The pool is removed then, the logs are kept.
    ///
    /// # Errors
    /// When any of that is not so.
    pub fn finish(mut self, limit: Duration) -> Result<()> {
        self.vm.finish(limit)?;
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        target.stop()?;
        target.fsck()?;
        target.remove_pool()
    }

    fn bounce(&mut self) -> Result<()> {
        self.vm.send("nvmet-bounce")?;
        self.vm.expect("nvmet-bounced", RECONNECT)
    }
}
