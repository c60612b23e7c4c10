//! Memory for variables and buffers: zeroed, at 64-byte boundaries, in huge pages where the system has them.

use crate::failure::Failure;
use memmap2::{Advice, MmapMut};
use std::sync::Arc;

/// Between two pieces of a region; a vector load may end a few elements behind the last one.
const ALIGN: usize = 64;

/// Zeroed memory.
pub(crate) struct Memory {
    pointer: *mut u8,
    bytes: usize,
    /// Keeps the memory mapped; several share one.
    _region: Arc<MmapMut>,
}

// SAFETY: the memory is owned; who writes where is arranged by the plan.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access is through raw pointers only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory of `bytes` bytes.
    pub(crate) fn zeroed(bytes: usize) -> Result<Memory, Failure> {
        Self::zeroed_together(&[bytes])?.pop().ok_or_else(|| Failure::internal("memory", "no piece of a region"))
    }

    /// Pieces that lie together, so that small ones share pages.
    pub(crate) fn zeroed_together(sizes: &[usize]) -> Result<Vec<Memory>, Failure> {
        let padded = |bytes: usize| bytes.checked_next_multiple_of(ALIGN).and_then(|bytes| bytes.checked_add(ALIGN));
        let total = sizes.iter().try_fold(0usize, |sum, &bytes| sum.checked_add(padded(bytes)?));
        let region = total.map(|total| MmapMut::map_anon(total.max(ALIGN)));
        let Some(Ok(mut region)) = region else {
            return Err(Failure::input(format!(
                "there is no room in memory for {} of tables and parameters\nhelp: make tables smaller (`dim`, `hash`, `min_count`), or use a larger machine",
                size_text(sizes.iter().map(|&bytes| bytes as f64).sum())
            )));
        };
        // Where there are none, ordinary pages do.
        let _ = region.advise(Advice::HugePage);
        let mut pointer = region.as_mut_ptr();
        let region = Arc::new(region);
        let piece = |&bytes: &usize| {
            let own = Memory { pointer, bytes, _region: region.clone() };
            pointer = pointer.wrapping_add(padded(bytes).unwrap_or(0));
            own
        };
        Ok(sizes.iter().map(piece).collect())
    }

    /// Gives its whole pages back to the system; the values are gone.
    pub(crate) fn release(&mut self) {
        const PAGE: usize = 4096;
        let begin = (self.pointer as usize).next_multiple_of(PAGE);
        let end = (self.pointer as usize + self.bytes) / PAGE * PAGE;
        if begin < end {
            // SAFETY: whole pages of this piece, which `&mut self` makes nobody else's. If the system refuses, the memory stays.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        self.pointer
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory holds `bytes` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access the only one.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }

    pub(crate) fn floats(&self) -> &[f32] {
        // SAFETY: the memory holds `bytes` initialised bytes, aligned; any bits are a float.
        unsafe { std::slice::from_raw_parts(self.pointer.cast::<f32>(), self.bytes / 4) }
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` makes the access the only one: pieces do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast::<f32>(), self.bytes / 4) }
    }
}

/// Lets the allocator keep what is freed: batches are as large as those before them, and pages that go back to the system between two
/// come again zeroed, one fault each.
pub(crate) fn keep_what_is_freed() {
    #[cfg(target_env = "gnu")]
    {
        // The largest that the allocator takes.
        const LARGEST: i32 = 32 << 20;
        const MOST: i32 = 64 << 20;
        // SAFETY: numbers of the allocator, set before there are other threads. If it refuses one, nothing changes.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, MOST);
        }
    }
}

/// `1.5 GB`, `200 bytes`
pub fn size_text(bytes: f64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let power = ((bytes.max(1.0).log10() / 3.0) as usize).min(units.len() - 1);
    let places = usize::from(power > 0);
    format!("{:.places$} {}", bytes / 1000f64.powi(power as i32), units[power])
}
