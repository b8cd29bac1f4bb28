//! What the first blocks of a device look like when they are not a pool.

use block::Device;
use reactor::buf::engine_alloc;

use crate::error::{Foreign, StoreError};
use crate::types::BLOCK_BYTES;

/// Blocks that are looked at: both superblocks of a pool, and where others keep their marks.
pub(crate) const SNIFF_BLOCKS: usize = 32;

/// Where a format keeps its mark, and the mark.
const MARKS: [(usize, &[u8], Foreign); 10] = [
    (0, b"XFSB", Foreign::Xfs),
    (1080, &[0x53, 0xef], Foreign::Ext4),
    (65_600, b"_BHRfS_M", Foreign::Btrfs),
    (512, b"EFI PART", Foreign::Gpt),
    (4096, b"EFI PART", Foreign::Gpt),
    (0, b"LUKS\xba\xbe", Foreign::Luks),
    (512, b"LABELONE", Foreign::Lvm),
    (4086, b"SWAPSPACE2", Foreign::Swap),
    (4086, b"SWAP-SPACE", Foreign::Swap),
    (510, &[0x55, 0xaa], Foreign::Mbr),
];

/// Reads the first blocks and names what they are.
pub(crate) async fn look(device: &Device) -> Result<Foreign, StoreError> {
    let available = device.geometry().len_bytes as usize;
    let len = (SNIFF_BLOCKS * BLOCK_BYTES).min(available);
    let buf = engine_alloc(len).await;
    let (result, buf) = device.read(0, buf).await;
    result?;
    Ok(classify(&buf))
}

fn classify(bytes: &[u8]) -> Foreign {
    let at = |offset: usize, mark: &[u8]| bytes.get(offset..offset + mark.len()) == Some(mark);
    let found = MARKS.iter().find(|(offset, mark, _)| at(*offset, mark));
    match found {
        Some(&(_, _, foreign)) => foreign,
        None if bytes.iter().all(|&byte| byte == 0) => Foreign::Zeros,
        None => Foreign::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_recognised_where_it_belongs_only() {
        for (offset, mark, foreign) in MARKS {
            let mut bytes = vec![0; SNIFF_BLOCKS * BLOCK_BYTES];
            bytes[offset..offset + mark.len()].copy_from_slice(mark);
            assert_eq!(classify(&bytes), foreign, "{foreign}");
            bytes.rotate_right(3);
            assert_eq!(
                classify(&bytes),
                Foreign::Unknown,
                "{foreign} at the wrong place"
            );
        }
        assert_eq!(classify(&[0; 4096]), Foreign::Zeros);
        assert_eq!(classify(&[]), Foreign::Zeros);
    }

    #[test]
    fn a_partition_table_wins_over_its_protective_boot_sector() {
        let mut bytes = vec![0; 8192];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[512..520].copy_from_slice(b"EFI PART");
        assert_eq!(classify(&bytes), Foreign::Gpt);
    }
}
