//! Where the numbers are: cells in chunks that are made when they are first written.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells of a line: two cache lines of 64 bytes, because processors fetch them in pairs. No two
/// slabs share one, so that no worker waits for another's counting.
const LINE: usize = 16;
const LINES: usize = 32;
const CHUNK: usize = LINE * LINES;
const FAN_OUT: usize = 256;

/// How many cells a slab has room for; what is beyond is not counted.
const CELLS: usize = CHUNK * FAN_OUT * FAN_OUT;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

type Chunk = [Line; LINES];

/// Chunks that were written.
#[derive(Debug)]
struct Directory<T>([OnceLock<Box<T>>; FAN_OUT]);

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; FAN_OUT])
    }
}

/// The cells of one writer. A chunk exists once something in it was counted, so a worker pays
/// only for what it uses.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Box<Directory<Directory<Chunk>>>,
}

impl Slab {
    /// The cell at this place; `None` beyond the room there is.
    #[inline]
    fn cell(&self, at: usize) -> Option<&AtomicU64> {
        if at >= CELLS {
            return None;
        }
        let chunk = at / CHUNK;
        let directory = self.chunks.0[chunk / FAN_OUT].get_or_init(Box::default);
        let lines = directory.0[chunk % FAN_OUT].get_or_init(Box::default);
        Some(&lines[at % CHUNK / LINE].0[at % LINE])
    }

    /// Count by the only thread that writes this slab; others only read.
    #[inline]
    pub(super) fn add(&self, at: usize, n: u64) {
        if let Some(cell) = self.cell(at) {
            let sum = cell.load(Ordering::Relaxed).wrapping_add(n);
            cell.store(sum, Ordering::Relaxed);
        }
    }

    /// Count by one of several threads.
    pub(super) fn add_shared(&self, at: usize, n: u64) {
        if let Some(cell) = self.cell(at) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// What was counted, 0 where nothing was; makes no chunk.
    pub(super) fn get(&self, at: usize) -> u64 {
        let chunk = at / CHUNK;
        let directory = self.chunks.0.get(chunk / FAN_OUT).and_then(OnceLock::get);
        let lines = directory.and_then(|directory| directory.0[chunk % FAN_OUT].get());
        lines.map_or(0, |lines| {
            lines[at % CHUNK / LINE].0[at % LINE].load(Ordering::Relaxed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_in_every_chunk_are_apart_and_those_beyond_the_last_count_nothing() {
        let slab = Slab::default();
        let places = [0, 1, LINE, CHUNK - 1, CHUNK, CHUNK * FAN_OUT, CELLS - 1];
        for (n, at) in places.into_iter().enumerate() {
            slab.add(at, n as u64 + 1);
            slab.add_shared(at, 100);
        }
        for (n, at) in places.into_iter().enumerate() {
            assert_eq!(slab.get(at), n as u64 + 101, "cell {at}");
        }
        assert_eq!(slab.get(2), 0);
        slab.add(CELLS, 1);
        slab.add(usize::MAX, 1);
        assert_eq!((slab.get(CELLS), slab.get(usize::MAX)), (0, 0));
    }

    #[test]
    fn no_two_slabs_share_a_cache_line() {
        assert_eq!(align_of::<Chunk>(), 128);
        assert_eq!(size_of::<Chunk>(), CHUNK * size_of::<u64>());
    }
}
