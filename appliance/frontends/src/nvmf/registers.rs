//! Controller registers (properties) and what writing CC does.
//!
//! Source: base 2.0 sections 3.1.3 (properties), 3.5 (initialization), 3.6 (shutdown), 6.5, 6.6.

use wire::nvme::Status;
use wire::nvme::register::{Cap, Config, ControllerStatus, Version, offset};
use wire::nvme::register::{shutdown_request, shutdown_status};

/// What the connection layer must do after CC was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigEffect {
    /// Nothing.
    None,
    /// The controller was enabled.
    Enabled,
    /// The controller was reset: I/O queues and waiting events go.
    Reset,
    /// The host asked for shutdown: write back, then call [`Registers::shutdown_complete`].
    Shutdown,
}

/// The registers of one controller.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    cap: Cap,
    cc: Config,
    csts: ControllerStatus,
    discovery: bool,
}

/// The base specification followed.
pub const VERSION: Version = Version::V2_0;

/// CAP.CSS: NVM (bit 0) and command sets chosen by CSI (bit 6).
const COMMAND_SETS: u64 = 0x41;
/// CC.CSS for the NVM command set and for all supported ones.
const CONFIG_SETS: [u32; 2] = [0, 6];
/// log2 of the size of a submission and of a completion entry.
const IOSQES: u32 = 6;
const IOCQES: u32 = 4;

impl Registers {
    /// After reset. `entries` is the size of the largest queue.
    pub fn new(entries: u16, discovery: bool) -> Self {
        let cap = Cap::default()
            .with_mqes(u64::from(entries.saturating_sub(1)))
            .with_cqr(1)
            .with_timeout_500ms(30)
            .with_css(COMMAND_SETS)
            .with_crms(1);
        Self {
            cap,
            cc: Config::default(),
            csts: ControllerStatus::default(),
            discovery,
        }
    }

    /// True when commands other than fabrics commands are taken.
    pub fn ready(&self) -> bool {
        self.csts.rdy() == 1
    }

    /// True from a shutdown request until the next reset.
    pub fn shutting_down(&self) -> bool {
        self.csts.shst() != shutdown_status::NONE
    }

    /// Property Get. Errors: Invalid Field for unknown offsets and wrong sizes.
    pub fn get(&self, offset: u32, size_bytes: usize) -> Result<u64, Status> {
        let (value, size) = match offset {
            offset::CAP => (self.cap.0, 8),
            offset::VS => (u64::from(VERSION.0), 4),
            offset::CC => (u64::from(self.cc.0), 4),
            offset::CSTS => (u64::from(self.csts.0), 4),
            // CRTO: ready with media within CAP.TO.
            offset::CRTO => (self.cap.timeout_500ms(), 4),
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        if size == size_bytes {
            Ok(value)
        } else {
            Err(Status::INVALID_FIELD.with_dnr())
        }
    }

    /// Property Set. Only CC can be written.
    pub fn set(
        &mut self,
        offset: u32,
        size_bytes: usize,
        value: u64,
    ) -> Result<ConfigEffect, Status> {
        match (offset, size_bytes, u32::try_from(value)) {
            (offset::CC, 4, Ok(value)) => Ok(self.set_config(Config(value))),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    /// The data is safe: the host may cut the power.
    pub fn shutdown_complete(&mut self) {
        if self.shutting_down() {
            self.csts = self.csts.with_shst(shutdown_status::COMPLETE);
        }
    }

    fn set_config(&mut self, new: Config) -> ConfigEffect {
        let old = core::mem::replace(&mut self.cc, new);
        if new.en() == 0 && old.en() == 1 {
            self.csts = ControllerStatus::default();
            return ConfigEffect::Reset;
        }
        if new.en() == 1 && old.en() == 0 {
            return self.enable(new);
        }
        let shutdown = new.shn() != shutdown_request::NONE;
        if shutdown && !self.shutting_down() {
            self.csts = self.csts.with_shst(shutdown_status::IN_PROGRESS);
            return ConfigEffect::Shutdown;
        }
        ConfigEffect::None
    }

    fn enable(&mut self, config: Config) -> ConfigEffect {
        // A discovery controller has no I/O queues, so their entry sizes mean nothing there.
        let sizes = self.discovery || (config.iosqes() == IOSQES && config.iocqes() == IOCQES);
        let known = CONFIG_SETS.contains(&config.css()) && config.mps() == 0 && config.ams() == 0;
        if sizes && known {
            self.csts = ControllerStatus::default().with_rdy(1);
            ConfigEffect::Enabled
        } else {
            self.csts = ControllerStatus::default().with_cfs(1);
            ConfigEffect::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cc(en: u32, shn: u32) -> u64 {
        let config = Config::default().with_en(en).with_shn(shn);
        u64::from(config.with_iosqes(IOSQES).with_iocqes(IOCQES).0)
    }

    #[test]
    fn enable_shutdown_reset() {
        let mut registers = Registers::new(128, false);
        let mut write = |value| {
            registers
                .set(offset::CC, 4, value)
                .expect("CC can be written")
        };
        assert_eq!(write(cc(1, 0)), ConfigEffect::Enabled);
        assert_eq!(write(cc(1, 0)), ConfigEffect::None, "it is enabled already");
        assert_eq!(write(cc(1, 1)), ConfigEffect::Shutdown);
        assert_eq!(
            write(cc(1, 1)),
            ConfigEffect::None,
            "it is shutting down already"
        );
        assert!(registers.shutting_down());
        registers.shutdown_complete();
        assert_eq!(registers.get(offset::CSTS, 4), Ok(0b1001));
        assert_eq!(registers.set(offset::CC, 4, 0), Ok(ConfigEffect::Reset));
        assert_eq!(registers.get(offset::CSTS, 4), Ok(0));
    }

    #[test]
    fn values_that_do_not_work_are_fatal() {
        for wrong in [
            Config::default().with_en(1).with_iosqes(6),
            Config::default()
                .with_en(1)
                .with_iosqes(6)
                .with_iocqes(4)
                .with_css(1),
            Config::default()
                .with_en(1)
                .with_iosqes(6)
                .with_iocqes(4)
                .with_mps(1),
            Config::default()
                .with_en(1)
                .with_iosqes(6)
                .with_iocqes(4)
                .with_ams(1),
        ] {
            let mut registers = Registers::new(128, false);
            assert_eq!(
                registers.set(offset::CC, 4, wrong.0.into()),
                Ok(ConfigEffect::None)
            );
            assert_eq!(registers.get(offset::CSTS, 4), Ok(2), "{wrong:?}");
            assert!(!registers.ready());
        }
    }

    #[test]
    fn sizes_and_offsets_are_checked() {
        let mut registers = Registers::new(128, true);
        let refused = Err(Status::INVALID_FIELD.with_dnr());
        assert_eq!(registers.get(offset::CAP, 4), refused);
        assert_eq!(registers.get(offset::VS, 8), refused);
        assert_eq!(registers.get(0x1000, 4), refused);
        assert_eq!(registers.set(offset::CC, 8, 1).map(|_| 0), refused);
        assert_eq!(registers.set(offset::CC, 4, 1 << 32).map(|_| 0), refused);
        assert_eq!(registers.set(offset::CSTS, 4, 0).map(|_| 0), refused);
    }
}
