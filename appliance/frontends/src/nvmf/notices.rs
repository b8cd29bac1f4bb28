//! Reservation Notification log pages of one controller, oldest first.
//!
//! Source: base 2.0 sections 5.16.1.24 (the log page) and 8.19.1 (notifications).

use std::collections::VecDeque;

use wire::nvme::reservation::{NotificationType, ReservationNotification};
use zerocopy::little_endian::{U32, U64};

use crate::nvmf::io::NSID;
use crate::reservation::Notice;

/// Pages that wait to be read. Older ones are lost then, which hosts see by the page number.
const PAGES_MAX: usize = 32;

/// The pages that wait.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pages: VecDeque<(u64, NotificationType)>,
    count: u64,
}

impl Notices {
    /// Adds a page.
    pub fn add(&mut self, notice: Notice) {
        if self.pages.len() >= PAGES_MAX {
            self.pages.pop_front();
        }
        // 0 is no number of a page.
        self.count = self.count.wrapping_add(1).max(1);
        self.pages.push_back((self.count, type_of(notice)));
    }

    /// The oldest page, or an empty one.
    pub fn page(&self) -> ReservationNotification {
        let Some(&(count, kind)) = self.pages.front() else {
            return ReservationNotification::zeroed();
        };
        ReservationNotification {
            count: U64::new(count),
            kind,
            available: (self.pages.len() - 1) as u8,
            nsid: U32::new(NSID),
            ..ReservationNotification::zeroed()
        }
    }

    /// The host has read the oldest page. True when there are more.
    pub fn was_read(&mut self) -> bool {
        self.pages.pop_front();
        !self.pages.is_empty()
    }
}

/// The bit of the Reservation Notification Mask that keeps a notice back.
pub(crate) fn mask_bit(notice: Notice) -> u32 {
    1 << type_of(notice).0
}

fn type_of(notice: Notice) -> NotificationType {
    match notice {
        Notice::Preempted => NotificationType::REGISTRATION_PREEMPTED,
        Notice::Released => NotificationType::RESERVATION_RELEASED,
        Notice::ReservationsPreempted => NotificationType::RESERVATION_PREEMPTED,
    }
}

#[cfg(test)]
mod tests {
    use wire::nvme::reservation::notification_mask;

    use super::*;

    #[test]
    fn pages_come_in_order_and_the_oldest_are_lost() {
        let mut notices = Notices::default();
        assert_eq!(notices.page(), ReservationNotification::zeroed());
        notices.add(Notice::Preempted);
        notices.add(Notice::Released);
        let page = notices.page();
        assert_eq!((page.count.get(), page.available), (1, 1));
        assert_eq!(page.kind, NotificationType::REGISTRATION_PREEMPTED);
        assert_eq!(page.nsid.get(), 1);
        assert!(notices.was_read());
        let page = notices.page();
        assert_eq!((page.count.get(), page.available), (2, 0));
        assert_eq!(page.kind, NotificationType::RESERVATION_RELEASED);
        assert!(!notices.was_read());
        for _ in 0..2 * PAGES_MAX {
            notices.add(Notice::ReservationsPreempted);
        }
        let page = notices.page();
        let lost = PAGES_MAX as u64;
        assert_eq!(
            page.count.get(),
            3 + lost,
            "two were read, and some are lost"
        );
        assert_eq!(usize::from(page.available), PAGES_MAX - 1);
    }

    #[test]
    fn each_notice_has_its_mask() {
        let masks = [
            (Notice::Preempted, notification_mask::REGISTRATION_PREEMPTED),
            (Notice::Released, notification_mask::RESERVATION_RELEASED),
            (
                Notice::ReservationsPreempted,
                notification_mask::RESERVATION_PREEMPTED,
            ),
        ];
        for (notice, mask) in masks {
            assert_eq!(mask_bit(notice), mask);
        }
    }
}
