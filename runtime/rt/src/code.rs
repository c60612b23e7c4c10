//! Compiled code in memory.

use recc_abi::KernelFn;

/// The compiled code in memory.
#[derive(Clone, Copy)]
pub struct Code {
    /// First byte.
    pub base: *const u8,
    /// Bytes.
    pub len: usize,
}

// SAFETY: code is mapped read-only and executable for the life of the process.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// All of it.
    pub(crate) fn bytes(self) -> &'static [u8] {
        // SAFETY: mapped read-only for the life of the process.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    /// A kernel by its place in the code.
    pub(crate) fn kernel(self, offset: u64) -> Option<KernelFn> {
        if offset as usize >= self.len {
            return None;
        }
        // SAFETY: the program and the code come from one build, which put a function of this signature at the offset.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(self.base.add(offset as usize)) })
    }
}
