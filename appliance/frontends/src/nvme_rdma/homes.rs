//! Where the controllers of hosts live, by the hosts' addresses: which core shall serve a queue pair
//! is decided when the host asks for it, and only later does the host say which subsystem it means.
//!
//! A guess, and never more: a queue on the wrong core is served there, its commands go home.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::nvmf::directory::HomeIndex;

/// Those of all cores. One entry for each admin queue over RDMA.
#[derive(Clone, Debug, Default)]
pub(crate) struct Homes(Arc<Mutex<Hosts>>);

/// For each host its controllers' identifiers and homes, by age.
type Hosts = BTreeMap<IpAddr, Vec<(u16, HomeIndex)>>;

/// One controller; dropping it forgets it.
#[derive(Debug)]
pub(crate) struct HomeNote {
    homes: Homes,
    host: IpAddr,
    controller: (u16, HomeIndex),
}

impl Homes {
    /// The host at this address has a controller there.
    pub fn note(&self, host: IpAddr, cntlid: u16, home: HomeIndex) -> HomeNote {
        let controller = (cntlid, home);
        self.hosts().entry(host).or_default().push(controller);
        HomeNote {
            homes: self.clone(),
            host,
            controller,
        }
    }

    /// Where the controller lives that the host at this address most likely means: the last one of
    /// this identifier, or the last one if the host names none.
    pub fn guess(&self, host: IpAddr, cntlid: Option<u16>) -> Option<HomeIndex> {
        let hosts = self.hosts();
        let controllers = hosts.get(&host)?.iter().rev();
        let is_meant = |controller: &&(u16, HomeIndex)| cntlid.is_none_or(|id| controller.0 == id);
        controllers.clone().find(is_meant).map(|(_, home)| *home)
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        // A panic while the lock was held would have ended the process: the data stays good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HomeNote {
    fn drop(&mut self) {
        let mut hosts = self.homes.hosts();
        let Some(controllers) = hosts.get_mut(&self.host) else {
            return;
        };
        if let Some(at) = controllers.iter().position(|c| *c == self.controller) {
            controllers.remove(at);
        }
        if controllers.is_empty() {
            hosts.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_controller_of_a_host_is_meant_unless_it_says_which() {
        let homes = Homes::default();
        let (host, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (near, far) = (HomeIndex::of(0), HomeIndex::of(1));
        assert_eq!(homes.guess(host, None), None);
        let first = homes.note(host, 1, near);
        let second = homes.note(host, 7, far);
        let _others = homes.note(other, 7, near);
        assert_eq!(homes.guess(host, None), Some(far));
        assert_eq!(homes.guess(host, Some(1)), Some(near));
        assert_eq!(homes.guess(host, Some(7)), Some(far));
        assert_eq!(homes.guess(host, Some(9)), None);
        drop(second);
        assert_eq!(homes.guess(host, None), Some(near));
        drop(first);
        assert_eq!(homes.guess(host, None), None);
        assert_eq!(homes.hosts().len(), 1, "nothing is kept of hosts that left");
    }
}
