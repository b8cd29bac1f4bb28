//! The window of command numbers of a session.
//!
//! Source: RFC 7143 section 4.2.2.1 (command numbering).

use wire::iscsi::is_before;

/// Where a command's number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is the next.
    Next,
    /// Others have to come before it.
    Early,
    /// Outside of the window: ignored without a word.
    Outside,
}

/// ExpCmdSN, and how far beyond it the initiator may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    expected: u32,
    depth: u16,
}

impl Window {
    /// Starts with the number that the leading login gave.
    pub fn new(first: u32, depth: u16) -> Self {
        Self {
            expected: first,
            depth,
        }
    }

    /// ExpCmdSN.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// MaxCmdSN, while `busy` commands of the window are being carried out. It never goes back:
    /// a command that becomes busy has moved ExpCmdSN.
    pub fn max(&self, busy: u16) -> u32 {
        let room = self.depth.saturating_sub(busy);
        self.expected.wrapping_add(u32::from(room)).wrapping_sub(1)
    }

    /// Where `number` lies.
    pub fn judge(&self, number: u32, busy: u16) -> Order {
        if number == self.expected && busy < self.depth {
            Order::Next
        } else if is_before(number, self.expected) || is_before(self.max(busy), number) {
            Order::Outside
        } else {
            Order::Early
        }
    }

    /// The next command is here.
    pub fn advance(&mut self) {
        self.expected = self.expected.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_judged_around_the_wrap() {
        let window = Window::new(u32::MAX, 4);
        let table = [
            (u32::MAX - 1, Order::Outside),
            (u32::MAX, Order::Next),
            (0, Order::Early),
            (2, Order::Early),
            (3, Order::Outside),
            (0x8000_0000, Order::Outside),
        ];
        for (number, order) in table {
            assert_eq!(window.judge(number, 0), order, "{number:#x}");
        }
        assert_eq!(window.max(0), 2);
    }

    #[test]
    fn busy_commands_close_the_window_and_it_never_goes_back() {
        let mut window = Window::new(10, 3);
        let mut highest = window.max(0);
        for busy in 1..=3 {
            window.advance();
            assert!(!is_before(window.max(busy), highest));
            highest = window.max(busy);
        }
        assert_eq!(window.max(3), window.expected() - 1, "closed");
        assert_eq!(window.judge(13, 3), Order::Outside);
        assert_eq!(window.judge(13, 2), Order::Next);
    }
}
