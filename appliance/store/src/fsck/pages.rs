//! Reads pages and compares their checksums, several clusters at a time.

use std::collections::VecDeque;

use block::Device;
use reactor::JoinHandle;
use reactor::buf::engine_alloc;

use crate::checksum::crc32c;
use crate::error::StoreError;
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, Cluster};

/// Clusters read at the same time: 2 MiB of buffers.
const IN_FLIGHT_MAX: usize = 8;

/// Pages of one cluster to compare.
#[derive(Clone, Debug)]
pub(super) struct PageCheck {
    pub(super) cluster: Cluster,
    /// Which pages.
    pub(super) mask: u64,
    /// The checksums they should have.
    pub(super) crc: [u32; CLUSTER_BLOCKS],
    /// The page of the volume that page 0 of the cluster is.
    pub(super) first_page: u64,
}

/// A page that is wrong: its place in the volume, where it is, and what was read instead.
#[derive(Debug)]
pub(super) struct BadPage {
    pub(super) page: u64,
    pub(super) device_offset: u64,
    pub(super) expected: u32,
    pub(super) actual: Result<u32, StoreError>,
}

/// Checks in flight.
pub(super) struct PageChecker {
    device: Device,
    in_flight: VecDeque<JoinHandle<Vec<BadPage>>>,
}

impl PageChecker {
    pub(super) fn new(device: &Device) -> PageChecker {
        PageChecker {
            device: device.clone(),
            in_flight: VecDeque::new(),
        }
    }

    /// Starts a check; gives what an earlier one found.
    pub(super) async fn start(&mut self, check: PageCheck) -> Vec<BadPage> {
        let full = self.in_flight.len() >= IN_FLIGHT_MAX;
        let bad = if full {
            self.next().await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let device = self.device.clone();
        self.in_flight
            .push_back(reactor::spawn(async move { run(&device, &check).await }));
        bad
    }

    /// What the oldest check found; none when there is none left.
    pub(super) async fn next(&mut self) -> Option<Vec<BadPage>> {
        match self.in_flight.pop_front() {
            Some(check) => Some(check.await),
            None => None,
        }
    }
}

async fn run(device: &Device, check: &PageCheck) -> Vec<BadPage> {
    let first = check.mask.trailing_zeros() as usize;
    let Some(last) = check.mask.checked_ilog2() else {
        return Vec::new();
    };
    let end = last as usize + 1;
    let buf = engine_alloc((end - first) * BLOCK_BYTES).await;
    let (result, buf) = device.read(check.cluster.page_offset(first), buf).await;
    let mut bad = Vec::new();
    for page in (first..end).filter(|page| check.mask & (1 << page) != 0) {
        let at = (page - first) * BLOCK_BYTES;
        let mut actual = Ok(crc32c(&buf[at..at + BLOCK_BYTES]));
        // One bad page must not hide the others, and a wrong read is repeated once.
        if result.is_err() || actual != Ok(check.crc[page]) {
            actual = read_crc(device, check.cluster, page).await;
        }
        if actual != Ok(check.crc[page]) {
            bad.push(BadPage {
                page: check.first_page + page as u64,
                device_offset: check.cluster.page_offset(page),
                expected: check.crc[page],
                actual,
            });
        }
    }
    bad
}

async fn read_crc(device: &Device, cluster: Cluster, page: usize) -> Result<u32, StoreError> {
    let buf = engine_alloc(BLOCK_BYTES).await;
    let (result, buf) = device.read(cluster.page_offset(page), buf).await;
    result?;
    Ok(crc32c(&buf))
}
