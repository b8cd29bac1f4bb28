//! Reads nodes and proves that they are the ones their parents mean.

use std::sync::Arc;

use block::Device;
use reactor::buf::engine_alloc;

use crate::error::StoreError;
use crate::format::Block;
use crate::format::node::{
    InnerPointers, LeafEntries, NodeIdentity, NodePointer, decode_inner, decode_leaf,
};
use crate::pool::{MAP_LAYER, PoolGeometry, VolumeRecord};
use crate::types::{BLOCK_BYTES, VolumeId};

/// Reads nodes of one volume.
#[derive(Clone, Debug)]
pub(crate) struct NodeReader {
    device: Device,
    geometry: PoolGeometry,
    pub(crate) volume: VolumeId,
    name: Arc<str>,
    uuid: [u8; 16],
}

impl NodeReader {
    pub(crate) fn new(
        device: &Device,
        geometry: PoolGeometry,
        record: &VolumeRecord,
    ) -> NodeReader {
        NodeReader {
            device: device.clone(),
            geometry,
            volume: record.id,
            name: record.name.clone(),
            uuid: record.uuid,
        }
    }

    /// Who the node at this place must be.
    pub(crate) fn identity(&self, level: u16, index: u64) -> NodeIdentity {
        NodeIdentity {
            level,
            index,
            layer: MAP_LAYER,
            volume_uuid: self.uuid,
        }
    }

    pub(crate) fn in_pool(&self, block: u64) -> bool {
        self.geometry.contains_block(block)
    }

    pub(crate) async fn read_leaf(
        &self,
        index: u64,
        pointer: NodePointer,
    ) -> Result<Box<LeafEntries>, StoreError> {
        let identity = self.identity(0, index);
        let leaf = self.read(pointer, &identity, |block| {
            decode_leaf(block, &pointer, &identity)
        });
        let leaf = leaf.await?;
        let outside = |location| !self.geometry.contains(location);
        if leaf.iter().filter_map(|entry| entry.location).any(outside) {
            let what = "says data is outside of the pool";
            return Err(self.damaged(0, index, pointer.block, what));
        }
        Ok(leaf)
    }

    pub(crate) async fn read_inner(
        &self,
        level: u16,
        index: u64,
        pointer: NodePointer,
    ) -> Result<Box<InnerPointers>, StoreError> {
        let identity = self.identity(level, index);
        self.read(pointer, &identity, |block| {
            decode_inner(block, &pointer, &identity)
        })
        .await
    }

    /// Reads a node; a node that is not right is read once more, in case the read went wrong.
    async fn read<T>(
        &self,
        pointer: NodePointer,
        identity: &NodeIdentity,
        decode: impl Fn(&Block) -> Result<T, &'static str>,
    ) -> Result<T, StoreError> {
        if !self.in_pool(pointer.block) {
            let what = "its parent points outside of the pool";
            return Err(self.damaged(identity.level, identity.index, pointer.block, what));
        }
        let mut buf = engine_alloc(BLOCK_BYTES).await;
        let mut what = "";
        for _attempt in 0..2 {
            let (result, back) = self
                .device
                .read(pointer.block * BLOCK_BYTES as u64, buf)
                .await;
            result?;
            buf = back;
            match decode(buf[..].try_into().expect("one block")) {
                Ok(node) => return Ok(node),
                Err(fault) => what = fault,
            }
        }
        Err(self.damaged(identity.level, identity.index, pointer.block, what))
    }

    pub(crate) fn damaged(
        &self,
        level: u16,
        index: u64,
        block: u64,
        what: &'static str,
    ) -> StoreError {
        StoreError::MapDamaged {
            volume: self.volume,
            name: self.name.clone(),
            level,
            index,
            block,
            what,
        }
    }
}
