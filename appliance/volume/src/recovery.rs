//! Recovery of one volume at open: the log is read, its records go to a fresh index, then the
//! volume continues exactly where the log ended.
//!
//! Phase 1 (`replay`) writes nothing and allocates nothing; it runs for every volume of the pool
//! before phase 2 (`Replayed::into_core`) of any, so that clusters that a log refers to are never
//! given to somebody else. A volume whose log is damaged claims all that any of its records ever
//! said, is refused, and stays as it is. Source: docs/format.md, "Recovery".

use std::rc::Rc;

use rustc_hash::FxHashMap;
use store::journal::verdict::{DirectVerdict, decide_direct};
use store::journal::{
    Identity, LogEnd, RecordKind, RecordView, Ring, ScanStart, Scanner, Verdict, for_each_header,
};
use store::{Changes, Cluster, JournalMark, Map, Pool, StoreError, VolumeRecord};

use crate::commit::{Journal, JournalStart, Mark};
use crate::core::{Core, CoreParts, Limits};
use crate::flush::Flusher;
use crate::index::{Backing, Index, PageEntry, PayloadBudget, Pending, Source};
use crate::mutation::{self, Mutation};
use crate::pages::{CLUSTER_PAGES, PAGE, PAGE_BYTES, PageRange, bits, cluster_masks, cluster_of};
use crate::read::is_intact;
use crate::request::VolumeInfo;

/// Why a volume is not served. The volume is left as it is on the device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Damage {
    /// Its journal cannot be used: runs too short.
    #[error("the journal's place in the pool is damaged; run fsck")]
    Ring,
    /// The journal is damaged where it was durable once.
    #[error(
        "the journal is damaged at position {position} (sequence {sequence}): later batches prove \
         that it once was whole; restore the device from a copy, or delete the volume"
    )]
    Journal {
        /// Where the batch should be.
        position: u64,
        /// Which batch.
        sequence: u64,
    },
    /// The device cannot read the journal.
    #[error(
        "the device cannot read the journal at position {position}; repair the device and start \
         again"
    )]
    JournalRead {
        /// Where the batch should be.
        position: u64,
    },
    /// A record says something that cannot be.
    #[error("journal record {lsn}: {rule}; run fsck")]
    Record {
        /// LSN of the record.
        lsn: u64,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The map or the pool refused.
    #[error("{0}")]
    Store(StoreError),
}

/// What replay of one volume found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Batches replayed.
    pub batches: u64,
    /// Pages in the index afterwards.
    pub dirty_pages: u64,
    /// Something unacknowledged and incomplete was found behind the end, and left out.
    pub torn: bool,
    /// Pages of large writes that were durable once and are damaged now: reads of them fail.
    pub damaged_pages: u64,
    /// Pages of large writes that were never durable: the data before them stays.
    pub undone_pages: u64,
    /// Unused journal blocks the device cannot read.
    pub unreadable_blocks: u64,
}

/// A volume after phase 1.
pub(crate) struct Replayed {
    record: Rc<VolumeRecord>,
    map: Map,
    ring: Ring,
    identity: Identity,
    limits: Limits,
    index: Index,
    end: LogEnd,
    claims: Claims,
    pub report: ReplayReport,
}

/// A volume that phase 1 refused, with the clusters it may refer to.
pub(crate) struct Refused {
    pub damage: Damage,
    pub claimed: Vec<Cluster>,
}

/// Clusters that direct records name, with the pages they use.
#[derive(Default)]
struct Claims {
    used: FxHashMap<Cluster, u64>,
    /// Those that were free until we claimed them.
    claimed: Vec<Cluster>,
    /// The one that the latest direct record of each cluster of the volume names.
    latest: FxHashMap<u64, Cluster>,
    /// The cluster of the volume that the latest direct record to each of them was for.
    owner: FxHashMap<Cluster, u64>,
}

impl Claims {
    fn add(&mut self, pool: &Pool, cluster: Cluster, mask: u64) {
        let is_new = !self.used.contains_key(&cluster);
        *self.used.entry(cluster).or_default() |= mask;
        // In use already: by our own map, or by others because a later record gave it up.
        if is_new && pool.claim(cluster).is_ok() {
            self.claimed.push(cluster);
        }
    }
}

/// A page of a direct record whose data does not match.
struct Suspect {
    page: u64,
    entry: PageEntry,
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
            for_each_header(pool.device(), &ring, identity, |view| {
                for view in view.records() {
                    if view.record.kind == RecordKind::Direct {
                        claims.add(pool, view.record.cluster, 0);
                    }
                }
            })
            .await;
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
        flush_percent: 40,
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
    let index = Index::new(limits.pages, limits.clusters, budget.clone());
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
        let buf = reactor::buf::engine_pool().alloc(count * PAGE_BYTES).await;
        let (result, buf) = self
            .pool
            .device()
            .read(cluster.page_offset(first), buf)
            .await;
        for (offset, data) in buf.chunks_exact(PAGE_BYTES).enumerate() {
            let page = record.first_page + offset as u64;
            let crc = view.crc(offset).unwrap_or_default();
            let entry = PageEntry {
                lsn: view.lsn,
                crc,
                source: Source::Direct { cluster },
            };
            if result.is_ok() && is_intact(data, crc) {
                self.index.put(page, entry);
            } else {
                self.suspects.push(Suspect { page, entry });
            }
        }
        Ok(())
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
            match decide_direct(superseded, lsn <= durable_lsn) {
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

impl Replayed {
    /// Phase 2: gives every dirty cluster its place, raises the epoch, and makes the volume ready.
    pub async fn into_core(mut self, pool: &Pool) -> Result<Rc<Core>, Refused> {
        let prepared = self.prepare(pool).await;
        match prepared {
            Ok(()) => Ok(self.build(pool)),
            Err(damage) => Err(Refused {
                damage,
                claimed: self.claims.claimed,
            }),
        }
    }

    async fn prepare(&mut self, pool: &Pool) -> Result<(), Damage> {
        let mut clusters: Vec<_> = self.index.clusters().map(|(cluster, _)| cluster).collect();
        clusters.sort_unstable();
        for cluster in clusters {
            self.place_cluster(pool, cluster).await?;
        }
        // Before the first append of this life: batches of the last one that were cut off can
        // never come back.
        let changes = Changes {
            volume: self.record.id,
            map: &self.map,
            journal: JournalMark {
                epoch: self.end.epoch + 1,
                open_sequence: self.end.sequence,
                ..self.record.mark
            },
            allocated: Vec::new(),
            freed: Vec::new(),
            clean: false,
        };
        pool.publish(changes).await.map_err(Damage::Store)?;
        Ok(())
    }

    /// Makes the index say of a dirty cluster where its data can go.
    async fn place_cluster(&mut self, pool: &Pool, cluster: u64) -> Result<(), Damage> {
        let entry = self.map.lookup(cluster).await.map_err(Damage::Store)?;
        let data = self.index.cluster(cluster).map_or(0, |state| state.data);
        let mut target: Option<Cluster> = None;
        for slot in bits(data) {
            let page = cluster * CLUSTER_PAGES + slot as u64;
            let Some(found) = self.index.page(page) else {
                continue;
            };
            let Source::Direct { cluster: named } = found.source else {
                continue;
            };
            let is_ours = entry.location == Some(named);
            if is_ours && entry.valid & (1 << slot) != 0 && entry.crc[slot] == found.crc {
                self.index.settle_page(page, found.lsn);
                continue;
            }
            if target.is_some_and(|target| target != named) {
                return Err(Damage::Record {
                    lsn: found.lsn,
                    rule: "two places for one cluster",
                });
            }
            if !is_ours && !self.claims.claimed.contains(&named) {
                return Err(Damage::Record {
                    lsn: found.lsn,
                    rule: "a cluster of somebody else",
                });
            }
            target = Some(named);
        }
        // Small writes may have replaced all of a direct write: the cluster that it took was the
        // promise for them, and in a full pool there is no other.
        if target.is_none() && entry.location.is_none() && data != 0 {
            let latest = self.claims.latest.get(&cluster).copied();
            target = latest.filter(|latest| {
                self.claims.owner.get(latest) == Some(&cluster)
                    && self.claims.claimed.contains(latest)
            });
        }
        let last_lsn = self.end.next_lsn - 1;
        let pending = target.map(|target| Pending {
            used: self.claims.used.get(&target).copied().unwrap_or(u64::MAX),
            last_lsn,
            replaces: entry.location.is_some_and(|location| location != target),
            ..Pending::new(target)
        });
        if let Some(target) = target {
            self.claims.claimed.retain(|claimed| *claimed != target);
        }
        let Some(state) = self.index.cluster_mut(cluster) else {
            return Ok(());
        };
        state.pending = pending;
        if entry.location.is_some() || pending.is_some() {
            state.backing = Backing::Mapped;
        } else if state.data != 0 {
            state.backing = Backing::Reserved(pool.reserve_again(1).map_err(Damage::Store)?);
        }
        self.index.drop_if_idle(cluster);
        Ok(())
    }

    fn build(self, pool: &Pool) -> Rc<Core> {
        let mark = &self.record.mark;
        let tail = Mark {
            last_lsn: mark.tail_lsn - 1,
            end: mark.tail_position,
            next_sequence: mark.tail_sequence,
        };
        let head = Mark {
            last_lsn: self.end.next_lsn - 1,
            end: self.end.position,
            next_sequence: self.end.sequence,
        };
        let journal = Journal::new(JournalStart {
            epoch: self.end.epoch + 1,
            open_sequence: self.end.sequence,
            tail,
            head,
        });
        Core::new(CoreParts {
            info: info_of(pool, &self.record),
            pool: pool.clone(),
            map: self.map,
            ring: self.ring,
            identity: self.identity,
            limits: self.limits,
            index: self.index,
            journal,
            flusher: Flusher::new(self.claims.claimed),
        })
    }
}

/// What hosts see of a volume.
fn info_of(pool: &Pool, record: &VolumeRecord) -> VolumeInfo {
    VolumeInfo {
        id: record.id,
        name: record.name.clone(),
        uuid: record.uuid,
        nguid: record.nguid,
        serial: record.serial,
        block_count: record.size_bytes / u64::from(record.block_bytes),
        block_bytes: record.block_bytes,
        volatile_cache: pool.device().geometry().volatile_cache,
    }
}
