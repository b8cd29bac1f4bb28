//! The sequence numbers of a session with one connection.
//!
//! Source: RFC 7143 section 4.2.2.

use wire::iscsi::{InitiatorNumbers, is_before};

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// CmdSN of the next command.
    pub cmd_sn: u32,
    /// StatSN that the next status has to carry.
    pub exp_stat_sn: u32,
    /// Last CmdSN that the target takes.
    pub max_cmd_sn: u32,
}

impl Numbers {
    /// True when the target takes another command.
    pub fn is_open(&self) -> bool {
        !is_before(self.max_cmd_sn, self.cmd_sn)
    }

    /// Commands that the target takes now.
    pub fn window(&self) -> u32 {
        let window = self.max_cmd_sn.wrapping_sub(self.cmd_sn).wrapping_add(1);
        if self.is_open() { window } else { 0 }
    }

    /// The numbers of a request that is not ordered.
    pub fn now(&self) -> InitiatorNumbers {
        InitiatorNumbers {
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        }
    }

    /// The numbers of the next command; takes its CmdSN.
    pub fn next(&mut self) -> InitiatorNumbers {
        let numbers = self.now();
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        numbers
    }

    /// Takes the window of a PDU. One that would close it again is of an older PDU, or senseless,
    /// and is passed over.
    pub fn see(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32) {
        let is_range = !is_before(max_cmd_sn.wrapping_add(1), exp_cmd_sn);
        if is_range && is_before(self.max_cmd_sn, max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    /// Takes the number of a status. With one connection nothing can be missing.
    pub fn take_status(&mut self, stat_sn: u32) -> Result<(), &'static str> {
        if stat_sn != self.exp_stat_sn {
            return Err("its StatSN is not the next one");
        }
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_and_never_closes_again() {
        let mut numbers = Numbers {
            cmd_sn: u32::MAX,
            exp_stat_sn: 7,
            max_cmd_sn: u32::MAX - 1,
        };
        assert_eq!((numbers.is_open(), numbers.window()), (false, 0));
        numbers.see(u32::MAX, 1);
        assert_eq!((numbers.is_open(), numbers.window()), (true, 3));
        numbers.see(u32::MAX, 0);
        numbers.see(10, 3);
        assert_eq!(numbers.window(), 3, "older, and senseless");
        for _ in 0..3 {
            numbers.next();
        }
        assert!(!numbers.is_open());
    }

    #[test]
    fn a_status_that_is_missing_is_noticed() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take_status(0), Ok(()));
        assert!(numbers.take_status(0).is_err());
        assert!(numbers.take_status(2).is_err());
        assert_eq!(numbers.take_status(1), Ok(()));
    }
}
