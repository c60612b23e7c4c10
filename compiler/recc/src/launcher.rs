//! The executable as a launcher: the same file is the compiler and, with code and a program added, a model.
//!
//! [`HEADER`] is found by its section's name and patched with where the added segment lies; distances from the header
//! need no relocation. An unpatched header means: this is the compiler.

#![allow(unsafe_code, reason = "reads a header that the builder patches in the file, and the segment it names")]

use recc_rt::Code;

/// Begins the header.
pub(crate) const MAGIC: [u8; 8] = *b"RECCHDR1";
/// The section the header lies in.
pub(crate) const SECTION: &str = ".recc_hdr";
/// Words behind the magic: distance to the code, its bytes, bytes of the program, bytes of weights.
pub(crate) const WORDS: usize = 4;

#[repr(C, align(64))]
struct Header {
    magic: [u8; 8],
    words: [u64; WORDS],
}

#[used]
#[unsafe(link_section = ".recc_hdr")]
static HEADER: Header = Header { magic: MAGIC, words: [0; WORDS] };

/// What was added to this executable.
pub(crate) struct Added {
    pub(crate) code: Code,
    pub(crate) program: &'static [u8],
    pub(crate) weights: &'static [u8],
}

fn words() -> [u64; WORDS] {
    // SAFETY: the header is a valid static; the read is volatile because the file was patched after compilation.
    unsafe { std::ptr::read_volatile(&raw const HEADER.words) }
}

/// The model inside this executable, if there is one.
pub(crate) fn added() -> Option<Added> {
    let [distance, code, program, weights] = words();
    if distance == 0 {
        return None;
    }
    let base = (&raw const HEADER).cast::<u8>().wrapping_add(distance as usize);
    let part = |start: u64, len: u64| {
        // SAFETY: the system mapped the segment with the file, for the life of the process; the builder wrote these lengths.
        unsafe { std::slice::from_raw_parts(base.wrapping_add(start as usize), len as usize) }
    };
    Some(Added { code: Code { base, len: code as usize }, program: part(code, program), weights: part(code + program, weights) })
}
