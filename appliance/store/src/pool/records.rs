//! What the volume table says of a volume.

use std::sync::Arc;

use crate::format::node::NodePointer;
use crate::format::reservations::ReservationsPointer;
use crate::format::root::{Layer, RootVolume};
use crate::pool::publish::JournalMark;
use crate::types::{Cluster, ClusterRun, VolumeId, VolumeState};

/// Id of the one layer that a map has in this version.
pub(crate) const MAP_LAYER: u32 = 0;

/// A volume as published. Identity, size, format and journal place never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its id in this pool, never used again.
    pub id: VolumeId,
    /// UUID, in the byte order of RFC 9562.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier, as hosts see it.
    pub nguid: [u8; 16],
    /// Serial number: 20 printable ASCII characters.
    pub serial: [u8; 20],
    /// Its name, unique in the pool.
    pub name: Arc<str>,
    /// Size that hosts see.
    pub size_bytes: u64,
    /// Logical block that hosts see: 512 or 4096 bytes.
    pub block_bytes: u32,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Where its journal ring lives, in ring order: at most eight runs of at least eight clusters.
    pub journal_runs: Vec<ClusterRun>,
    /// Length of the ring: the sum of the runs.
    pub ring_bytes: u64,
    /// Where the journal begins, and which life of the volume writes it.
    pub mark: JournalMark,
    /// Secret number of this volume, mixed into journal checksums so that nothing a host writes
    /// can pass for a batch header.
    pub journal_salt: u64,
    /// Milliseconds since 1970 at creation.
    pub created_ms: u64,
    /// The root of the map.
    pub(crate) map_root: NodePointer,
    /// Inner levels above the leaves.
    pub(crate) map_depth: u32,
    /// Clusters that hold its data: what it takes of the pool, without journal and map nodes.
    pub mapped_clusters: u64,
    /// What it keeps of its reservations.
    pub(crate) reservations: Option<ReservationsPointer>,
}

impl From<RootVolume> for VolumeRecord {
    fn from(root: RootVolume) -> VolumeRecord {
        let run = |(first, count)| ClusterRun {
            first: Cluster(first),
            count,
        };
        VolumeRecord {
            id: VolumeId(root.id),
            uuid: root.uuid,
            nguid: root.nguid,
            serial: root.serial,
            name: root.name.into(),
            size_bytes: root.size_bytes,
            block_bytes: root.block_bytes,
            state: if root.deleting {
                VolumeState::Deleting
            } else {
                VolumeState::Live
            },
            journal_runs: root.extents.into_iter().map(run).collect(),
            ring_bytes: root.ring_bytes,
            mark: JournalMark {
                epoch: root.epoch,
                open_sequence: root.open_sequence,
                settled: root.settled,
                tail_position: root.tail_position,
                tail_sequence: root.tail_sequence,
                tail_lsn: root.tail_lsn,
            },
            journal_salt: root.journal_salt,
            created_ms: root.created_ms,
            map_root: root.layer.root,
            map_depth: root.layer.depth,
            mapped_clusters: root.layer.mapped_clusters,
            reservations: root.reservations,
        }
    }
}

impl From<&VolumeRecord> for RootVolume {
    fn from(record: &VolumeRecord) -> RootVolume {
        RootVolume {
            id: record.id.0,
            uuid: record.uuid,
            nguid: record.nguid,
            name: record.name.to_string(),
            size_bytes: record.size_bytes,
            block_bytes: record.block_bytes,
            deleting: record.state == VolumeState::Deleting,
            serial: record.serial,
            layer: Layer {
                id: MAP_LAYER,
                root: record.map_root,
                depth: record.map_depth,
                mapped_clusters: record.mapped_clusters,
            },
            extents: record
                .journal_runs
                .iter()
                .map(|run| (run.first.0, run.count))
                .collect(),
            ring_bytes: record.ring_bytes,
            epoch: record.mark.epoch,
            tail_position: record.mark.tail_position,
            tail_sequence: record.mark.tail_sequence,
            tail_lsn: record.mark.tail_lsn,
            open_sequence: record.mark.open_sequence,
            settled: record.mark.settled,
            created_ms: record.created_ms,
            journal_salt: record.journal_salt,
            reservations: record.reservations,
        }
    }
}
