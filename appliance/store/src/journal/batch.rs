//! One batch: header block(s) with records, then payload blocks.
//!
//! Encoding writes the header into a caller's buffer; decoding is a pure function of bytes that
//! never panics and never reads behind what it was given. Source: docs/format.md, "Journal of a
//! volume".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{crc32c, crc32c_parts};
use crate::types::{BLOCK_BYTES, CLUSTER_BLOCKS, Cluster};

/// First four bytes of a batch.
pub const MAGIC: [u8; 4] = *b"BPJB";
/// Version of the batch layout this code reads and writes.
pub const VERSION: u16 = 1;
/// The most records of a batch.
pub const MAX_RECORDS: usize = 128;
/// The most header blocks of a batch.
pub const MAX_HEADER_BLOCKS: usize = 16;
/// The most blocks of a batch, header included: a misaligned 1 MiB write (257 pages) and a header.
pub const MAX_BATCH_BLOCKS: usize = 258;
/// As [`MAX_BATCH_BLOCKS`], in bytes.
pub const MAX_BATCH_BYTES: u64 = (MAX_BATCH_BLOCKS * BLOCK_BYTES) as u64;
/// The most pages of a zero record: 1,024 clusters.
pub const MAX_ZERO_PAGES: u32 = 1024 * CLUSTER_BLOCKS as u32;

const HEADER_BYTES: usize = 96;
const RECORD_BYTES: usize = 32;
const CRC_OFFSET: usize = 4;

/// The fixed part of a header, as on disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct RawHeader {
    magic: [u8; 4],
    crc: U32,
    header_blocks: U16,
    version: U16,
    record_count: U32,
    volume_uuid: [u8; 16],
    epoch: U64,
    sequence: U64,
    position: U64,
    previous_end: U64,
    first_lsn: U64,
    durable_lsn: U64,
    payload_blocks: U32,
    reserved: [u8; 12],
}

/// The fixed part of a record, as on disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct RawRecord {
    kind: u8,
    flags: u8,
    reserved: U16,
    page_count: U32,
    first_page: U64,
    payload_block: U32,
    cluster: U32,
    page_in_cluster: U32,
    reserved_end: U32,
}

const _: () = {
    assert!(size_of::<RawHeader>() == HEADER_BYTES);
    assert!(size_of::<RawRecord>() == RECORD_BYTES);
    assert!(HEADER_BYTES.is_multiple_of(8) && RECORD_BYTES.is_multiple_of(8));
    assert!(core::mem::offset_of!(RawHeader, crc) == CRC_OFFSET);
    assert!(core::mem::offset_of!(RawHeader, payload_blocks) == 80);
};

/// Whose journal it is. The salt is mixed into every header's checksum and is known to nobody
/// outside of the pool, so that no data a host writes can pass for a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the volume.
    pub volume_uuid: [u8; 16],
    /// Secret number of the volume, from the volume table.
    pub salt: u64,
}

/// What the header says about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The life of the volume that wrote it.
    pub epoch: u64,
    /// +1 with every batch.
    pub sequence: u64,
    /// Logical byte position of the batch; the ring offset is this modulo the ring's length.
    pub position: u64,
    /// Where the batch before ended; less than `position` when the end of a run was skipped.
    pub previous_end: u64,
    /// LSN of the first record; the others follow.
    pub first_lsn: u64,
    /// Highest LSN known to survive power loss when the header was built.
    pub durable_lsn: u64,
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Pages whose data is in the payload.
    Write = 1,
    /// Pages that read as zeros from now on.
    Zero = 2,
    /// Pages whose data was written to a cluster before the record.
    Direct = 3,
}

/// A record to encode. Its checksums stand in a list beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it does.
    pub kind: RecordKind,
    /// First page of the volume.
    pub first_page: u64,
    /// Number of pages, not 0.
    pub page_count: u32,
    /// Write: first block inside the payload; else 0.
    pub payload_block: u32,
    /// Direct: where the data is; else cluster 0.
    pub cluster: Cluster,
    /// Direct: first page inside the cluster; else 0.
    pub page_in_cluster: u32,
}

impl Record {
    /// How many checksums it carries.
    pub fn crc_count(&self) -> usize {
        match self.kind {
            RecordKind::Zero => 0,
            RecordKind::Write | RecordKind::Direct => self.page_count as usize,
        }
    }

    /// Bytes it takes in the header.
    pub fn encoded_len(&self) -> usize {
        RECORD_BYTES + crc_bytes(self.crc_count())
    }
}

/// Bytes of a header with records that take `records_len` bytes, in whole blocks.
pub fn header_len(records_len: usize) -> usize {
    (HEADER_BYTES + records_len).next_multiple_of(BLOCK_BYTES)
}

fn crc_bytes(count: usize) -> usize {
    (count * 4).next_multiple_of(8)
}

/// Writes the header blocks of a batch into `out`, whose length must be [`header_len`] of the
/// records; `crcs` are those of all records in order.
///
/// Panics when a limit of the format is broken: a batch that cannot be read must not be written.
/// Cost: one pass over the header.
pub fn encode(
    out: &mut [u8],
    identity: &Identity,
    header: &Header,
    records: &[Record],
    crcs: &[u32],
) {
    let records_len: usize = records.iter().map(Record::encoded_len).sum();
    let payload_blocks: u32 = records.iter().map(payload_of).sum();
    assert_eq!(
        out.len(),
        header_len(records_len),
        "header buffer does not fit the records"
    );
    assert!(
        out.len() <= MAX_HEADER_BLOCKS * BLOCK_BYTES,
        "header over {MAX_HEADER_BLOCKS} blocks"
    );
    assert!(
        (1..=MAX_RECORDS).contains(&records.len()),
        "{} records in a batch",
        records.len()
    );
    let header_blocks = out.len() / BLOCK_BYTES;
    assert!(
        header_blocks + payload_blocks as usize <= MAX_BATCH_BLOCKS,
        "batch too large"
    );
    out.fill(0);
    let raw = RawHeader {
        magic: MAGIC,
        crc: U32::ZERO,
        header_blocks: U16::new(header_blocks as u16),
        version: U16::new(VERSION),
        record_count: U32::new(records.len() as u32),
        volume_uuid: identity.volume_uuid,
        epoch: U64::new(header.epoch),
        sequence: U64::new(header.sequence),
        position: U64::new(header.position),
        previous_end: U64::new(header.previous_end),
        first_lsn: U64::new(header.first_lsn),
        durable_lsn: U64::new(header.durable_lsn),
        payload_blocks: U32::new(payload_blocks),
        reserved: [0; 12],
    };
    out[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
    encode_records(&mut out[HEADER_BYTES..], records, crcs);
    let crc = header_crc(identity, out);
    out[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
}

fn payload_of(record: &Record) -> u32 {
    if record.kind == RecordKind::Write {
        record.page_count
    } else {
        0
    }
}

fn encode_records(mut out: &mut [u8], records: &[Record], mut crcs: &[u32]) {
    for record in records {
        let raw = RawRecord {
            kind: record.kind as u8,
            flags: 0,
            reserved: U16::ZERO,
            page_count: U32::new(record.page_count),
            first_page: U64::new(record.first_page),
            payload_block: U32::new(record.payload_block),
            cluster: U32::new(record.cluster.0),
            page_in_cluster: U32::new(record.page_in_cluster),
            reserved_end: U32::ZERO,
        };
        let (slot, rest) = out.split_at_mut(record.encoded_len());
        let (own, others) = crcs.split_at(record.crc_count());
        slot[..RECORD_BYTES].copy_from_slice(raw.as_bytes());
        for (bytes, crc) in slot[RECORD_BYTES..].chunks_exact_mut(4).zip(own) {
            bytes.copy_from_slice(&crc.to_le_bytes());
        }
        (out, crcs) = (rest, others);
    }
    assert!(crcs.is_empty(), "{} checksums too many", crcs.len());
}

/// Checksum of header blocks, with the field itself taken as zero.
fn header_crc(identity: &Identity, header: &[u8]) -> u32 {
    let salt = identity.salt.to_le_bytes();
    let (before, rest) = header.split_at(CRC_OFFSET);
    crc32c_parts(&[&salt, before, &[0; 4], &rest[4..]])
}

/// Why bytes are not a batch of this volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The header is longer than the bytes at hand.
    #[error("the batch needs {needed_blocks} blocks, {given_blocks} are there")]
    Short {
        /// Blocks needed to go on.
        needed_blocks: usize,
        /// Blocks given.
        given_blocks: usize,
    },
    /// Something else is here.
    #[error("no batch magic")]
    Magic,
    /// A batch of a layout that is not known.
    #[error("batch layout version {version}")]
    Version {
        /// What the header says.
        version: u16,
    },
    /// A batch of another volume.
    #[error("batch of another volume")]
    ForeignVolume,
    /// A count that breaks a limit of the format.
    #[error("{field} = {value} is over the limits")]
    Limit {
        /// Which count.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The header's bytes are not what was written.
    #[error("header checksum {actual:#010x}, expected {expected:#010x}")]
    HeaderCrc {
        /// What the header says.
        expected: u32,
        /// What its bytes give.
        actual: u32,
    },
    /// A record breaks a rule, under a correct checksum: a defect of the writer.
    #[error("record {index}: {rule}")]
    Record {
        /// Which record.
        index: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A payload page is not what was written.
    #[error("payload block {payload_block}: checksum {actual:#010x}, expected {expected:#010x}")]
    PayloadCrc {
        /// Which block of the payload.
        payload_block: u32,
        /// What the record says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
}

/// A checked batch header over borrowed bytes. Every record obeys the limits.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// What the header says.
    pub header: Header,
    /// Blocks of the header.
    pub header_blocks: usize,
    /// Blocks of the payload behind it.
    pub payload_blocks: usize,
    record_count: usize,
    records: &'a [u8],
}

/// One record of a [`BatchView`].
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// The record, as it was given to `encode`.
    pub record: Record,
    /// Its LSN.
    pub lsn: u64,
    crcs: &'a [u8],
}

impl RecordView<'_> {
    /// The checksum of page `index` of a write or direct record.
    pub fn crc(&self, index: usize) -> Option<u32> {
        let bytes = self.crcs.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// Reads and checks the header at the start of `bytes` (whole blocks; the payload need not be
/// there). `Short` tells how many blocks are needed.
///
/// Pure; never panics, whatever the bytes. Cost: one pass over the header.
pub fn decode<'a>(bytes: &'a [u8], identity: &Identity) -> Result<BatchView<'a>, BatchError> {
    let given_blocks = bytes.len() / BLOCK_BYTES;
    let short = |needed_blocks| BatchError::Short {
        needed_blocks,
        given_blocks,
    };
    if given_blocks == 0 {
        return Err(short(1));
    }
    let (raw, _) = RawHeader::read_from_prefix(bytes).map_err(|_| short(1))?;
    check_fixed(&raw, identity)?;
    let header_blocks = usize::from(raw.header_blocks.get());
    if header_blocks > given_blocks {
        return Err(short(header_blocks));
    }
    let header_bytes = &bytes[..header_blocks * BLOCK_BYTES];
    let (expected, actual) = (raw.crc.get(), header_crc(identity, header_bytes));
    if expected != actual {
        return Err(BatchError::HeaderCrc { expected, actual });
    }
    let view = BatchView {
        header: Header {
            epoch: raw.epoch.get(),
            sequence: raw.sequence.get(),
            position: raw.position.get(),
            previous_end: raw.previous_end.get(),
            first_lsn: raw.first_lsn.get(),
            durable_lsn: raw.durable_lsn.get(),
        },
        header_blocks,
        payload_blocks: raw.payload_blocks.get() as usize,
        record_count: raw.record_count.get() as usize,
        records: &header_bytes[HEADER_BYTES..],
    };
    view.check_records()?;
    Ok(view)
}

/// The clusters that direct records of a damaged header at the start of `bytes` seem to name.
///
/// For a journal that is refused: nothing that it may refer to is given away. A record counts
/// with at most one field that cannot be, so a flipped bit hides none but in the number itself;
/// a guess too many costs a free cluster for as long as the volume is refused.
/// Pure; never panics. Cost: one pass over the header.
pub fn guess_clusters(bytes: &[u8], identity: &Identity) -> impl Iterator<Item = Cluster> {
    let raw = RawHeader::read_from_prefix(bytes).ok().map(|(raw, _)| raw);
    let raw = raw.filter(|raw| raw.magic == MAGIC || raw.volume_uuid == identity.volume_uuid);
    let blocks_of = |raw: RawHeader| usize::from(raw.header_blocks.get());
    let header_blocks = raw.map_or(0, |raw| blocks_of(raw).clamp(1, MAX_HEADER_BLOCKS));
    let len_bytes = header_blocks * BLOCK_BYTES;
    let header = &bytes[..len_bytes.min(bytes.len())];
    let places = (HEADER_BYTES..header.len()).step_by(8);
    places.filter_map(move |at| {
        let (raw, _) = RawRecord::read_from_prefix(&header[at..]).ok()?;
        let (count, page) = (raw.page_count.get(), raw.page_in_cluster.get());
        let cluster_blocks = CLUSTER_BLOCKS as u32;
        let rules = [
            raw.kind == RecordKind::Direct as u8,
            raw.flags == 0 && raw.reserved.get() == 0,
            (1..=cluster_blocks).contains(&count),
            page < cluster_blocks,
            raw.payload_block.get() == 0,
            raw.reserved_end.get() == 0,
        ];
        let broken = rules.iter().filter(|holds| !**holds).count();
        let cluster = Cluster(raw.cluster.get());
        (broken <= 1 && cluster.0 != 0).then_some(cluster)
    })
}

fn check_fixed(raw: &RawHeader, identity: &Identity) -> Result<(), BatchError> {
    if raw.magic != MAGIC {
        return Err(BatchError::Magic);
    }
    if raw.version.get() != VERSION {
        return Err(BatchError::Version {
            version: raw.version.get(),
        });
    }
    if raw.volume_uuid != identity.volume_uuid {
        return Err(BatchError::ForeignVolume);
    }
    let header_blocks = u64::from(raw.header_blocks.get());
    let record_count = u64::from(raw.record_count.get());
    let blocks = header_blocks + u64::from(raw.payload_blocks.get());
    let rules = [
        ("header_blocks", header_blocks, 1, MAX_HEADER_BLOCKS as u64),
        ("record_count", record_count, 1, MAX_RECORDS as u64),
        ("blocks of the batch", blocks, 1, MAX_BATCH_BLOCKS as u64),
    ];
    for (field, value, low, high) in rules {
        if value < low || value > high {
            return Err(BatchError::Limit { field, value });
        }
    }
    // LSNs and positions are used in sums everywhere; real ones never come near the end.
    let far = [raw.position, raw.previous_end, raw.first_lsn, raw.sequence];
    match far.iter().find(|value| value.get() > u64::MAX / 2) {
        Some(value) => Err(BatchError::Limit {
            field: "a counter",
            value: value.get(),
        }),
        None => Ok(()),
    }
}

impl<'a> BatchView<'a> {
    /// Bytes of the whole batch.
    pub fn len_bytes(&self) -> u64 {
        ((self.header_blocks + self.payload_blocks) * BLOCK_BYTES) as u64
    }

    /// Position behind the batch.
    pub fn end(&self) -> u64 {
        self.header.position + self.len_bytes()
    }

    /// LSN of the last record.
    pub fn last_lsn(&self) -> u64 {
        self.header.first_lsn + self.record_count as u64 - 1
    }

    /// The records in LSN order.
    pub fn records(&self) -> impl Iterator<Item = RecordView<'a>> + use<'a> {
        let mut rest = self.records;
        let first_lsn = self.header.first_lsn;
        (0..self.record_count as u64).map_while(move |index| {
            let (record, crcs, after) = split_record(rest)?;
            rest = after;
            Some(RecordView {
                record,
                lsn: first_lsn + index,
                crcs,
            })
        })
    }

    fn check_records(&self) -> Result<(), BatchError> {
        let mut rest = self.records;
        let mut payload_next = 0;
        for index in 0..self.record_count {
            let error = |rule| BatchError::Record { index, rule };
            let Some((record, _, after)) = split_record(rest) else {
                return Err(error("unknown kind, or longer than the header"));
            };
            check_record(&record, payload_next).map_err(error)?;
            payload_next += payload_of(&record);
            rest = after;
        }
        if payload_next as usize != self.payload_blocks {
            let index = self.record_count;
            return Err(BatchError::Record {
                index,
                rule: "payload not used up by the records",
            });
        }
        Ok(())
    }

    /// Checks the payload (exactly `payload_blocks` blocks) against the records' checksums.
    ///
    /// Cost: one pass over the payload.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), BatchError> {
        let given_blocks = self.header_blocks + payload.len() / BLOCK_BYTES;
        if payload.len() != self.payload_blocks * BLOCK_BYTES {
            let needed_blocks = self.header_blocks + self.payload_blocks;
            return Err(BatchError::Short {
                needed_blocks,
                given_blocks,
            });
        }
        let mut pages = payload.chunks_exact(BLOCK_BYTES).zip(0u32..);
        for view in self
            .records()
            .filter(|view| view.record.kind == RecordKind::Write)
        {
            for (index, (page, payload_block)) in pages
                .by_ref()
                .take(view.record.page_count as usize)
                .enumerate()
            {
                let (expected, actual) = (view.crc(index).unwrap_or_default(), crc32c(page));
                if expected != actual {
                    return Err(BatchError::PayloadCrc {
                        payload_block,
                        expected,
                        actual,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Splits the first record off: the record, its checksums, the bytes behind.
fn split_record(bytes: &[u8]) -> Option<(Record, &[u8], &[u8])> {
    let (raw, rest) = RawRecord::read_from_prefix(bytes).ok()?;
    let kind = match raw.kind {
        1 => RecordKind::Write,
        2 => RecordKind::Zero,
        3 => RecordKind::Direct,
        _ => return None,
    };
    let record = Record {
        kind,
        first_page: raw.first_page.get(),
        page_count: raw.page_count.get(),
        payload_block: raw.payload_block.get(),
        cluster: Cluster(raw.cluster.get()),
        page_in_cluster: raw.page_in_cluster.get(),
    };
    let crc_count = record.crc_count();
    if crc_count > rest.len() / 4 {
        return None;
    }
    let (crcs, rest) = rest.split_at_checked(crc_bytes(crc_count))?;
    Some((record, &crcs[..crc_count * 4], rest))
}

fn check_record(record: &Record, payload_next: u32) -> Result<(), &'static str> {
    if record.page_count == 0 {
        return Err("no pages");
    }
    if record.first_page > u64::MAX / 2 {
        return Err("page number out of range");
    }
    match record.kind {
        RecordKind::Write if record.payload_block != payload_next => Err("payload out of order"),
        RecordKind::Write if record.page_count as usize > MAX_BATCH_BLOCKS => Err("too many pages"),
        RecordKind::Zero if record.page_count > MAX_ZERO_PAGES => Err("too many pages"),
        RecordKind::Direct => check_direct(record),
        RecordKind::Write | RecordKind::Zero => Ok(()),
    }
}

fn check_direct(record: &Record) -> Result<(), &'static str> {
    let first = u64::from(record.page_in_cluster);
    if first + u64::from(record.page_count) > CLUSTER_BLOCKS as u64 {
        return Err("pages outside of the cluster");
    }
    if record.first_page % CLUSTER_BLOCKS as u64 != first {
        return Err("page is not at its place in the cluster");
    }
    if record.cluster.0 == 0 {
        return Err("no cluster");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
