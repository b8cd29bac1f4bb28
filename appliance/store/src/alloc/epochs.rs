//! When a freed cluster may be written again: after every read that could still look at it.
//!
//! Reads count themselves in one of two counters, chosen by the current parity. Clusters that
//! become free wait; when the counter of the other parity is empty the parity flips, and the
//! clusters that waited then are free as soon as the readers of the old parity are gone. New reads
//! use the new parity, so a stream of reads cannot hold clusters back for ever.

use crate::types::Cluster;

/// The two reader counts and the clusters that wait for them.
#[derive(Debug, Default)]
pub(crate) struct ReadEpochs {
    parity: usize,
    readers: [u32; 2],
    draining: Vec<Cluster>,
    waiting: Vec<Cluster>,
}

impl ReadEpochs {
    /// A read begins; gives the parity that `end` takes back.
    pub(crate) fn begin(&mut self) -> usize {
        self.readers[self.parity] += 1;
        self.parity
    }

    /// A read ended; `free` is called for every cluster that nobody can be reading any more.
    pub(crate) fn end(&mut self, parity: usize, free: impl FnMut(Cluster)) {
        assert!(self.readers[parity] > 0, "a read ended that never began");
        self.readers[parity] -= 1;
        if self.readers[parity] == 0 {
            self.advance(free);
        }
    }

    /// Nothing refers to these clusters any more, but reads that began before may be using them.
    pub(crate) fn retire(
        &mut self,
        clusters: impl IntoIterator<Item = Cluster>,
        free: impl FnMut(Cluster),
    ) {
        self.waiting.extend(clusters);
        self.advance(free);
    }

    /// Clusters held back for readers.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.draining.len() + self.waiting.len()
    }

    fn advance(&mut self, mut free: impl FnMut(Cluster)) {
        while self.readers[1 - self.parity] == 0 {
            self.draining.drain(..).for_each(&mut free);
            if self.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut self.draining, &mut self.waiting);
            self.parity = 1 - self.parity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retire(epochs: &mut ReadEpochs, cluster: u32) -> Vec<u32> {
        let mut freed = Vec::new();
        epochs.retire([Cluster(cluster)], |cluster| freed.push(cluster.0));
        freed
    }

    fn end(epochs: &mut ReadEpochs, parity: usize) -> Vec<u32> {
        let mut freed = Vec::new();
        epochs.end(parity, |cluster| freed.push(cluster.0));
        freed
    }

    #[test]
    fn free_at_once_without_readers() {
        assert_eq!(retire(&mut ReadEpochs::default(), 7), [7]);
    }

    #[test]
    fn waits_for_the_reads_that_began_before() {
        let mut epochs = ReadEpochs::default();
        let before = epochs.begin();
        assert!(retire(&mut epochs, 7).is_empty());
        let after = epochs.begin();
        assert_ne!(before, after);
        assert_eq!(
            end(&mut epochs, before),
            [7],
            "the later read does not hold it"
        );
        assert!(end(&mut epochs, after).is_empty());
        assert_eq!(epochs.held(), 0);
    }

    #[test]
    fn a_second_batch_waits_for_its_own_readers() {
        let mut epochs = ReadEpochs::default();
        let first = epochs.begin();
        assert!(retire(&mut epochs, 1).is_empty());
        let second = epochs.begin();
        assert!(
            retire(&mut epochs, 2).is_empty(),
            "read `second` began before 2 was retired"
        );
        assert_eq!(end(&mut epochs, first), [1]);
        let third = epochs.begin();
        assert_eq!(end(&mut epochs, second), [2]);
        assert!(end(&mut epochs, third).is_empty());
    }
}
