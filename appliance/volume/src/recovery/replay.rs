//! Phase 1 of recovery: the log becomes an index. Nothing is written.

use std::rc::Rc;

use reactor::buf::Buf;
use store::journal::verdict::{DirectVerdict, decide_direct};
use store::journal::{
    Identity, LogEnd, RecordKind, RecordView, Ring, ScanStart, Scanner, Verdict,
    for_each_named_cluster,
};
use store::{JournalMark, Map, Pool, VolumeRecord};

use super::{Claims, Damage, Refused, ReplayReport, Replayed};
use crate::core::Limits;
use crate::index::{Index, PageEntry, PayloadBudget, Source};
use crate::mutation::{self, Mutation};
use crate::pages::{PAGE, PAGE_BYTES, PageRange, cluster_masks, cluster_of};
use crate::read::{READ_TRIES, is_intact};

/// A page of a direct record whose data does not match.
struct Suspect {
    page: u64,
    entry: PageEntry,
    /// The device cannot read it: nothing says that it was never durable.
    is_unreadable: bool,
}

/// Phase 1: reads a volume's log into an index. Writes nothing.
pub(crate) async fn replay(
    pool: &Pool,
    record: Rc<VolumeRecord>,
    budget: &Rc<PayloadBudget>,
) -> Result<Replayed, Refused> {
    let mut claims = Claims::default();
    let identity = Identity {
        volume_uuid: record.uuid,
        salt: record.journal_salt,
    };
    let Some(ring) = Ring::new(&record.journal_runs) else {
        return Err(Refused {
            damage: Damage::Ring,
            claimed: Vec::new(),
        });
    };
    match replay_log(pool, &record, &ring, identity, budget, &mut claims).await {
        Ok((map, index, end, report)) => {
            let limits = limits_of(&ring);
            Ok(Replayed {
                record,
                map,
                ring,
                identity,
                limits,
                index,
                end,
                claims,
                report,
            })
        }
        Err(damage) => {
            let unreadable = for_each_named_cluster(pool.device(), &ring, identity, |cluster| {
                claims.add(pool, cluster, 0);
            })
            .await;
            if unreadable > 0 {
                let volume = &record.name;
                tracing::error!(
                    %volume, unreadable,
                    "journal blocks cannot be read: large writes that only they name may be \
                     overwritten by other volumes; stop the server until the device is repaired"
                );
            }
            Err(Refused {
                damage,
                claimed: claims.claimed,
            })
        }
    }
}

/// Bounds of a volume with this journal.
fn limits_of(ring: &Ring) -> Limits {
    let blocks = (ring.len_bytes() / PAGE) as usize;
    Limits {
        pages: (blocks * 2).clamp(16 << 10, 1 << 20),
        clusters: blocks.clamp(16 << 10, 256 << 10),
        flush_percent: 50,
    }
}

async fn replay_log(
    pool: &Pool,
    record: &VolumeRecord,
    ring: &Ring,
    identity: Identity,
    budget: &Rc<PayloadBudget>,
    claims: &mut Claims,
) -> Result<(Map, Index, LogEnd, ReplayReport), Damage> {
    let map = pool.open_map(record).await.map_err(Damage::Store)?;
    let limits = limits_of(ring);
    let limits = (limits.pages, limits.clusters);
    let index = Index::new(map.cluster_count() as usize, limits, budget.clone());
    let page_count = record.size_bytes.div_ceil(PAGE);
    let mut replay = Replay {
        pool,
        map: &map,
        index,
        claims,
        suspects: Vec::new(),
        page_count,
    };
    let start = start_of(&record.mark);
    let skip_last = early_end(pool, ring, identity, start).await;
    let mut scanner = Scanner::new(pool.device(), ring, identity, start).await;
    while scanner.next().await {
        let Some(view) = scanner.batch() else { break };
        if skip_last == Some(view.header.sequence) {
            continue;
        }
        let payload_position = view.header.position + (view.header_blocks * PAGE_BYTES) as u64;
        for view in view.records() {
            replay.record(&view, payload_position).await?;
        }
    }
    let end = scanner.finish().await;
    let position = end.position;
    match end.verdict {
        Verdict::EndOfLog => {}
        Verdict::Corruption => {
            return Err(Damage::Journal {
                position,
                sequence: end.sequence,
            });
        }
        Verdict::DeviceError => return Err(Damage::JournalRead { position }),
    }
    let (damaged_pages, undone_pages) = replay.judge_suspects(end.durable_lsn);
    let index = replay.index;
    let report = ReplayReport {
        batches: end.batches,
        dirty_pages: index.page_count() as u64,
        torn: end.torn,
        damaged_pages,
        undone_pages,
        unreadable_blocks: end.unreadable_blocks,
    };
    Ok((map, index, end, report))
}

fn start_of(mark: &JournalMark) -> ScanStart {
    ScanStart {
        epoch: mark.epoch,
        open_sequence: mark.open_sequence,
        settled: mark.settled,
        position: mark.tail_position,
        sequence: mark.tail_sequence,
        first_lsn: mark.tail_lsn,
    }
}

/// The batch that a planted bug leaves out.
async fn early_end(pool: &Pool, ring: &Ring, identity: Identity, start: ScanStart) -> Option<u64> {
    if !mutation::enabled(Mutation::ReplayStopsEarly) {
        return None;
    }
    let mut scanner = Scanner::new(pool.device(), ring, identity, start).await;
    while scanner.next().await {}
    scanner.finish().await.sequence.checked_sub(1)
}

/// Phase 1 at work.
struct Replay<'a> {
    pool: &'a Pool,
    map: &'a Map,
    index: Index,
    claims: &'a mut Claims,
    suspects: Vec<Suspect>,
    page_count: u64,
}

impl Replay<'_> {
    async fn record(&mut self, view: &RecordView<'_>, payload_position: u64) -> Result<(), Damage> {
        let record = &view.record;
        let range = PageRange {
            first: record.first_page,
            count: record.page_count.into(),
        };
        if range.end() > self.page_count {
            return Err(Damage::Record {
                lsn: view.lsn,
                rule: "pages behind the volume's end",
            });
        }
        match record.kind {
            RecordKind::Direct => self.direct(view).await,
            RecordKind::Write => {
                let position = payload_position + u64::from(record.payload_block) * PAGE;
                self.apply(view, position);
                Ok(())
            }
            RecordKind::Zero => {
                for (cluster, _) in cluster_masks(range) {
                    if self.index.cluster(cluster).is_none() {
                        self.map.lookup(cluster).await.map_err(Damage::Store)?;
                    }
                }
                self.suspects
                    .retain(|suspect| !(range.first..range.end()).contains(&suspect.page));
                self.apply(view, 0);
                Ok(())
            }
        }
    }

    fn apply(&mut self, view: &RecordView<'_>, position: u64) {
        let crc = |index| view.crc(index).unwrap_or_default();
        let is_zero = |cluster, mask| {
            let known = self.map.lookup_cached(cluster);
            known.is_some_and(|entry| entry.valid & mask == 0)
        };
        self.index
            .apply(&view.record, view.lsn, position, crc, None, is_zero);
    }

    /// A direct record counts page by page, as far as the data is there.
    async fn direct(&mut self, view: &RecordView<'_>) -> Result<(), Damage> {
        let record = &view.record;
        let cluster = record.cluster;
        if u64::from(cluster.0) >= self.pool.device().geometry().len_bytes / store::CLUSTER_BYTES {
            return Err(Damage::Record {
                lsn: view.lsn,
                rule: "a cluster behind the pool's end",
            });
        }
        let first = record.page_in_cluster as usize;
        let count = record.page_count as usize;
        self.claims
            .add(self.pool, cluster, crate::pages::mask(first, count));
        let owner = cluster_of(record.first_page);
        self.claims.latest.insert(owner, cluster);
        self.claims.owner.insert(cluster, owner);
        let place = cluster.page_offset(first);
        let (readable, buf) = self.read_direct(place, count).await;
        for (offset, data) in buf.chunks_exact(PAGE_BYTES).enumerate() {
            let page = record.first_page + offset as u64;
            let crc = view.crc(offset).unwrap_or_default();
            let entry = PageEntry {
                lsn: view.lsn,
                crc,
                source: Source::Direct { cluster },
            };
            let is_unreadable = readable & (1 << offset) == 0;
            if !is_unreadable && is_intact(data, crc) {
                self.index.put(page, entry);
            } else {
                self.suspects.push(Suspect {
                    page,
                    entry,
                    is_unreadable,
                });
            }
        }
        Ok(())
    }

    /// Reads the pages of a direct record, at most a cluster. Gives a mask of those that the
    /// device can read: when the whole fails, each page is tried by itself.
    async fn read_direct(&self, place: u64, count: usize) -> (u64, Buf) {
        let device = self.pool.device();
        let pool = reactor::buf::engine_pool();
        let buf = pool.alloc(count * PAGE_BYTES).await;
        let (result, mut buf) = device.read(place, buf).await;
        if result.is_ok() {
            return (u64::MAX, buf);
        }
        let mut readable = 0;
        for (offset, target) in buf.as_mut().chunks_exact_mut(PAGE_BYTES).enumerate() {
            let mut page = pool.alloc(PAGE_BYTES).await;
            for _ in 0..READ_TRIES {
                let read = device.read(place + offset as u64 * PAGE, page).await;
                page = read.1;
                if read.0.is_ok() {
                    target.copy_from_slice(&page);
                    readable |= 1 << offset;
                    break;
                }
            }
        }
        (readable, buf)
    }

    /// Decides for every page of direct records that does not match; gives the number of damaged
    /// pages and of writes undone.
    fn judge_suspects(&mut self, durable_lsn: u64) -> (u64, u64) {
        let (mut damaged, mut undone) = (0, 0);
        for suspect in self.suspects.drain(..) {
            let lsn = suspect.entry.lsn;
            let superseded = self
                .index
                .page(suspect.page)
                .is_some_and(|entry| entry.lsn > lsn);
            match decide_direct(superseded, lsn <= durable_lsn || suspect.is_unreadable) {
                DirectVerdict::Superseded => {}
                DirectVerdict::Damaged => {
                    self.index.put(suspect.page, suspect.entry);
                    damaged += 1;
                }
                DirectVerdict::NeverHappened => undone += 1,
            }
        }
        (damaged, undone)
    }
}
