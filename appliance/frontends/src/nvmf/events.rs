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
    /// There is a Reservation Notification log page.
    ReservationLog,
}

impl Event {
    /// Which bit of the configuration feature turns it on; none for what is always on. Reservation
    /// notifications have a mask of their own.
    pub fn config_bit(self) -> u32 {
        match self {
            Self::NamespaceChanged => async_event::NAMESPACE_ATTRIBUTE,
            Self::DiscoveryChanged => async_event::DISCOVERY_LOG,
            Self::ReservationLog => 0,
        }
    }

    fn result(self) -> AsyncEvent {
        match self {
            Self::NamespaceChanged => AsyncEvent::NAMESPACE_CHANGED,
            Self::DiscoveryChanged => AsyncEvent::DISCOVERY_LOG_CHANGED,
            Self::ReservationLog => AsyncEvent::RESERVATION_LOG,
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

/// What there is to say of one event.
#[derive(Clone, Copy, Debug)]
struct Source {
    event: Event,
    news: bool,
    masked: bool,
}

/// State of the events of one controller: I/O controllers report namespaces and reservations,
/// discovery controllers the log.
#[derive(Debug)]
pub struct Events {
    sources: Vec<Source>,
    /// The bits of the configuration feature that are set.
    enabled: u32,
    waiting: VecDeque<u16>,
}

impl Events {
    /// Nothing waits, nothing is enabled.
    pub fn new(discovery: bool) -> Self {
        let events: &[Event] = match discovery {
            true => &[Event::DiscoveryChanged],
            false => &[Event::NamespaceChanged, Event::ReservationLog],
        };
        let source = |event: &Event| Source {
            event: *event,
            news: false,
            masked: false,
        };
        Self {
            sources: events.iter().map(source).collect(),
            enabled: 0,
            waiting: VecDeque::with_capacity(MAX_WAITING),
        }
    }

    /// Value of the Asynchronous Event Configuration feature.
    pub fn config(&self) -> u32 {
        self.enabled
    }

    /// Sets the feature; bits of events that do not exist here are refused.
    pub fn set_config(&mut self, value: u32) -> Result<Option<Report>, Status> {
        let bits = self.sources.iter().map(|source| source.event.config_bit());
        let known = bits.fold(0, |all, bit| all | bit);
        // Critical warnings (bits 7:0) may be asked for; none is ever raised.
        if value & !(known | 0xff) != 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.enabled = value & known;
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
    pub fn raise(&mut self, event: Event) -> Option<Report> {
        self.of(event)?.news = true;
        self.report()
    }

    /// The host read the log page without asking to retain the event: what it read covers every
    /// change until now, and the next change is reported again.
    pub fn log_read(&mut self, event: Event) {
        if let Some(source) = self.of(event) {
            (source.news, source.masked) = (false, false);
        }
    }

    /// Takes a waiting request out, for Abort.
    pub fn cancel(&mut self, cid: u16) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != cid);
        self.waiting.len() != before
    }

    /// The requests that wait, by age.
    pub fn waiting(&self) -> Vec<u16> {
        self.waiting.iter().copied().collect()
    }

    /// Controller reset: nothing waits any more.
    pub fn reset(&mut self) {
        for source in &mut self.sources {
            (source.news, source.masked) = (false, false);
        }
        self.enabled = 0;
        self.waiting.clear();
    }

    fn of(&mut self, event: Event) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.event == event)
    }

    /// The first event that a waiting request can tell.
    fn report(&mut self) -> Option<Report> {
        let enabled = self.enabled;
        let due = |source: &&mut Source| {
            let bit = source.event.config_bit();
            source.news && !source.masked && enabled & bit == bit
        };
        let source = self.sources.iter_mut().find(due)?;
        let cid = self.waiting.pop_front()?;
        (source.news, source.masked) = (false, true);
        let dw0 = source.event.result().encode();
        Some(Report { cid, dw0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> Events {
        let mut events = Events::new(false);
        assert_eq!(events.set_config(1 << 8), Ok(None));
        events
    }

    #[test]
    fn reports_once_until_the_log_is_read() {
        let mut events = enabled();
        assert_eq!(events.wait(7), Ok(None));
        assert_eq!(events.wait(8), Ok(None));
        assert_eq!(
            events
                .raise(Event::NamespaceChanged)
                .map(|report| report.cid),
            Some(7)
        );
        assert_eq!(
            events.raise(Event::NamespaceChanged),
            None,
            "masked until the log was read"
        );
        events.log_read(Event::NamespaceChanged);
        assert_eq!(
            events
                .raise(Event::NamespaceChanged)
                .map(|report| report.cid),
            Some(8)
        );
    }

    #[test]
    fn news_waits_for_a_request() {
        let mut events = enabled();
        assert_eq!(events.raise(Event::NamespaceChanged), None);
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
        let mut events = Events::new(true);
        assert_eq!(events.wait(1), Ok(None));
        assert_eq!(events.raise(Event::DiscoveryChanged), None);
        assert!(
            events
                .set_config(async_event::DISCOVERY_LOG)
                .is_ok_and(|r| r.is_some())
        );
    }

    #[test]
    fn reservations_are_told_beside_namespaces_and_need_no_switch() {
        let mut events = Events::new(false);
        assert_eq!(events.wait(1), Ok(None));
        assert_eq!(events.raise(Event::NamespaceChanged), None, "not enabled");
        let report = events
            .raise(Event::ReservationLog)
            .expect("a request waits");
        let told = AsyncEvent::decode(report.dw0);
        assert_eq!(
            report.dw0, 0x0080_0006,
            "type 6, information 0, log page 80h"
        );
        assert_eq!(told, AsyncEvent::RESERVATION_LOG);
        assert_eq!(events.wait(2), Ok(None));
        assert_eq!(events.raise(Event::ReservationLog), None, "masked");
        let report = events.set_config(async_event::NAMESPACE_ATTRIBUTE);
        let report = report.expect("known").expect("the other has news");
        let told = AsyncEvent::decode(report.dw0);
        assert_eq!(told, AsyncEvent::NAMESPACE_CHANGED);
        events.log_read(Event::ReservationLog);
        assert_eq!(events.wait(3), Ok(None), "what was read covers it");
        assert!(events.raise(Event::ReservationLog).is_some());
        assert_eq!(Events::new(true).raise(Event::ReservationLog), None);
    }
}
