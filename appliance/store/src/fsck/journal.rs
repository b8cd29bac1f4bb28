//! The journal of a volume: whether its log is whole, and which pages it has newer data for.

use crate::fsck::shadow::{Direct, Shadow};
use crate::fsck::{Check, Finding};
use crate::journal::batch::{Identity, RecordKind, RecordView};
use crate::journal::ring::Ring;
use crate::journal::scan::{ScanStart, Scanner};
use crate::journal::verdict::Verdict;
use crate::pool::{PoolGeometry, VolumeRecord};
use crate::types::CLUSTER_BLOCKS;

/// What the log of a volume says.
pub(super) struct Log {
    pub(super) shadow: Shadow,
    /// Records up to this LSN are known to have been durable.
    pub(super) durable_lsn: u64,
}

impl Check<'_> {
    pub(super) async fn journal(&mut self, geometry: &PoolGeometry, record: &VolumeRecord) -> Log {
        let mut log = Log {
            shadow: Shadow::default(),
            durable_lsn: 0,
        };
        let position = record.mark.tail_position;
        let Some(ring) = Ring::new(&record.journal_runs) else {
            let what = "a run is too short for a batch";
            self.found(Finding::Journal {
                volume: record.id,
                position,
                what,
            });
            return log;
        };
        let identity = Identity {
            volume_uuid: record.uuid,
            salt: record.journal_salt,
        };
        let start = ScanStart {
            epoch: record.mark.epoch,
            open_sequence: record.mark.open_sequence,
            settled: record.mark.settled,
            position,
            sequence: record.mark.tail_sequence,
            first_lsn: record.mark.tail_lsn,
        };
        let device = self.device.clone();
        let mut scanner = Scanner::new(&device, &ring, identity, start).await;
        while scanner.next().await {
            let batch = scanner.batch().expect("next found one");
            for view in batch.records() {
                if !remember(&mut log.shadow, &view, geometry) {
                    let what = "a record names a cluster outside of the pool";
                    let position = batch.header.position;
                    self.found(Finding::Journal {
                        volume: record.id,
                        position,
                        what,
                    });
                }
            }
            self.report.progress.batches += 1;
        }
        let end = scanner.finish().await;
        log.durable_lsn = end.durable_lsn;
        let what = match end.verdict {
            Verdict::EndOfLog => return log,
            Verdict::Corruption => {
                "damaged: the volume record or a later batch proves that this one was durable"
            }
            Verdict::DeviceError => "cannot be read",
        };
        self.found(Finding::Journal {
            volume: record.id,
            position: end.position,
            what,
        });
        log
    }
}

/// Notes a record; false when it says the impossible.
fn remember(shadow: &mut Shadow, view: &RecordView<'_>, geometry: &PoolGeometry) -> bool {
    let record = view.record;
    let count = u64::from(record.page_count);
    if record.kind != RecordKind::Direct {
        shadow.insert(record.first_page, count, None);
        return true;
    }
    let end = u64::from(record.page_in_cluster) + count;
    if !geometry.contains(record.cluster) || end > CLUSTER_BLOCKS as u64 {
        shadow.insert(record.first_page, count, None);
        return false;
    }
    let direct = Direct {
        cluster: record.cluster,
        page_in_cluster: record.page_in_cluster,
        crc_at: shadow.crcs.len(),
        lsn: view.lsn,
    };
    let crcs = (0..record.page_count as usize).map(|index| view.crc(index).unwrap_or(0));
    shadow.crcs.extend(crcs);
    shadow.insert(record.first_page, count, Some(direct));
    true
}
