//! Asynchronous events of one controller: requests that wait, news that wait, and masks.
//!
//! An event is reported once and then stays masked until the host reads its log page.
//! Source: base 2.0 sections 5.2 (Asynchronous Event Request) and 5.16 (clearing by log read).

use std::collections::VecDeque;

use wire::nvme::Status;
use wire::nvme::command::AsyncEvent;
use wire::nvme::feature::async_event;

/// Requests that a host may leave waiting (AERL + 1).
pub const MAX_WAITING: usize = 4;

/// What can be news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A namespace came, went or changed.
    NamespaceChanged,
    /// The discovery log changed.
    DiscoveryChanged,
}

impl Event {
    /// Which bit of the configuration feature turns it on.
    pub fn config_bit(self) -> u32 {
        match self {
            Self::NamespaceChanged => async_event::NAMESPACE_ATTRIBUTE,
            Self::DiscoveryChanged => async_event::DISCOVERY_LOG,
        }
    }

    fn result(self) -> AsyncEvent {
        match self {
            Self::NamespaceChanged => AsyncEvent::NAMESPACE_CHANGED,
            Self::DiscoveryChanged => AsyncEvent::DISCOVERY_LOG_CHANGED,
        }
    }
}

/// A waiting request and what completes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Identifier of the request.
    pub cid: u16,
    /// Completion dword 0.
    pub dw0: u32,
}

/// State of the events of one controller. A controller has one kind of event only, because I/O
/// controllers report namespaces and discovery controllers report the log.
#[derive(Debug)]
pub struct Events {
    event: Event,
    enabled: bool,
    news: bool,
    masked: bool,
    waiting: VecDeque<u16>,
}

impl Events {
    /// Nothing waits, nothing is enabled.
    pub fn new(event: Event) -> Self {
        let waiting = VecDeque::with_capacity(MAX_WAITING);
        Self {
            event,
            enabled: false,
            news: false,
            masked: false,
            waiting,
        }
    }

    /// Value of the Asynchronous Event Configuration feature.
    pub fn config(&self) -> u32 {
        if self.enabled {
            self.event.config_bit()
        } else {
            0
        }
    }

    /// Sets the feature; bits of events that do not exist here are refused.
    pub fn set_config(&mut self, value: u32) -> Result<Option<Report>, Status> {
        // Critical warnings (bits 7:0) may be asked for; none is ever raised.
        if value & !(self.event.config_bit() | 0xff) != 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.enabled = value & self.event.config_bit() != 0;
        Ok(self.report())
    }

    /// A request arrived: completes at once when there is news, else waits.
    pub fn wait(&mut self, cid: u16) -> Result<Option<Report>, Status> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Status::AER_LIMIT_EXCEEDED.with_dnr());
        }
        self.waiting.push_back(cid);
        Ok(self.report())
    }

    /// Something changed.
    pub fn raise(&mut self) -> Option<Report> {
        self.news = true;
        self.report()
    }

    /// The host read the log page without asking to retain the event: what it read covers every
    /// change until now, and the next change is reported again.
    pub fn log_read(&mut self) {
        self.news = false;
        self.masked = false;
    }

    /// Takes a waiting request out, for Abort.
    pub fn cancel(&mut self, cid: u16) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != cid);
        self.waiting.len() != before
    }

    /// Controller reset: nothing waits any more.
    pub fn reset(&mut self) -> impl Iterator<Item = u16> + use<> {
        let event = self.event;
        std::mem::replace(self, Self::new(event))
            .waiting
            .into_iter()
    }

    fn report(&mut self) -> Option<Report> {
        if !self.news || !self.enabled || self.masked {
            return None;
        }
        let cid = self.waiting.pop_front()?;
        (self.news, self.masked) = (false, true);
        Some(Report {
            cid,
            dw0: self.event.result().encode(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> Events {
        let mut events = Events::new(Event::NamespaceChanged);
        assert_eq!(events.set_config(1 << 8), Ok(None));
        events
    }

    #[test]
    fn reports_once_until_the_log_is_read() {
        let mut events = enabled();
        assert_eq!(events.wait(7), Ok(None));
        assert_eq!(events.wait(8), Ok(None));
        assert_eq!(events.raise().map(|report| report.cid), Some(7));
        assert_eq!(events.raise(), None, "masked until the log was read");
        events.log_read();
        assert_eq!(events.raise().map(|report| report.cid), Some(8));
    }

    #[test]
    fn news_waits_for_a_request() {
        let mut events = enabled();
        assert_eq!(events.raise(), None);
        let report = events
            .wait(3)
            .expect("there is room")
            .expect("there is news");
        assert_eq!(report.cid, 3);
        assert_eq!(
            AsyncEvent::decode(report.dw0),
            AsyncEvent::NAMESPACE_CHANGED
        );
    }

    #[test]
    fn limits_and_unknown_bits_are_refused() {
        let mut events = enabled();
        for cid in 0..MAX_WAITING as u16 {
            assert_eq!(events.wait(cid), Ok(None));
        }
        assert_eq!(events.wait(99), Err(Status::AER_LIMIT_EXCEEDED.with_dnr()));
        assert_eq!(
            events.set_config(1 << 11),
            Err(Status::INVALID_FIELD.with_dnr())
        );
        assert!(events.cancel(2));
        assert!(!events.cancel(2));
    }

    #[test]
    fn disabled_events_stay_news() {
        let mut events = Events::new(Event::DiscoveryChanged);
        assert_eq!(events.wait(1), Ok(None));
        assert_eq!(events.raise(), None);
        assert!(
            events
                .set_config(async_event::DISCOVERY_LOG)
                .is_ok_and(|r| r.is_some())
        );
    }
}
