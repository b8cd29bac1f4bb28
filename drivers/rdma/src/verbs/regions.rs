//! Which key a piece of memory has.

/// Registered memory and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first address.
    pub start: u64,
    /// How long it is.
    pub len_bytes: u64,
    /// Our name for it, in work requests (`lkey`).
    pub local_key: u32,
    /// The peers' name for it (`rkey`); of use only where remote access was granted.
    pub remote_key: u32,
}

impl Region {
    fn holds(&self, address: u64, len_bytes: u64) -> bool {
        let Some(offset) = address.checked_sub(self.start) else {
            return false;
        };
        offset <= self.len_bytes && len_bytes <= self.len_bytes - offset
    }
}

/// A few regions, sorted: two for each core of the process.
#[derive(Clone, Debug, Default)]
pub struct Regions(Vec<Region>);

impl Regions {
    /// A table of regions that do not overlap.
    pub fn new(mut regions: Vec<Region>) -> Self {
        regions.sort_unstable_by_key(|region| region.start);
        Self(regions)
    }

    /// The region in which all of this memory lies.
    pub fn find(&self, address: u64, len_bytes: usize) -> Option<&Region> {
        let after = self.0.partition_point(|region| region.start <= address);
        let region = self.0.get(after.checked_sub(1)?)?;
        region.holds(address, len_bytes as u64).then_some(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, len_bytes: u64, key: u32) -> Region {
        Region {
            start,
            len_bytes,
            local_key: key,
            remote_key: key + 1000,
        }
    }

    #[test]
    fn memory_is_found_when_all_of_it_is_registered() {
        let regions = Regions::new(vec![
            region(0x9000, 0x1000, 3),
            region(0x1000, 0x1000, 1),
            region(0x2000, 0x3000, 2),
        ]);
        let key = |address, len_bytes| regions.find(address, len_bytes).map(|r| r.local_key);
        assert_eq!(key(0x1000, 0x1000), Some(1));
        assert_eq!(key(0x1fff, 1), Some(1));
        assert_eq!(key(0x2000, 0x3000), Some(2));
        assert_eq!(key(0x4fff, 1), Some(2));
        assert_eq!(key(0x9800, 0x800), Some(3));
        assert_eq!(key(0x0fff, 1), None, "before all");
        assert_eq!(key(0x5000, 1), None, "between two");
        assert_eq!(key(0xa000, 1), None, "after all");
        assert_eq!(key(0x1fff, 2), None, "over the seam of two registrations");
        assert_eq!(key(0x9800, 0x801), None, "beyond the end");
        assert_eq!(key(0x9800, usize::MAX), None, "no overflow");
        assert_eq!(key(u64::MAX, usize::MAX), None);
        assert!(Regions::default().find(0x1000, 1).is_none());
    }
}
