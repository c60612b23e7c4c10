//! Vector loops as machine code of 256 or 512 bits a vector: Cranelift has 128.
//!
//! Such a loop, and loops inside it that run for all of its lanes alike, become a function of their own, which the kernel that Cranelift compiles
//! calls. What the function needs lies in a frame on the kernel's stack: how many iterations there are, where each buffer's elements begin, the
//! numbers that are the same in all iterations; and there it leaves the loop's sums. [`code`] is what the loop does, on as many registers as it wants; [`machine`] finds
//! it registers and writes the instructions. A loop that cannot be had this way is left to Cranelift.

mod code;
mod instructions;
mod lower;
mod machine;

use lower::Group;
use recc_abi::BufferId;
use recc_core::loops::{Affine, Combine, Extent, LoopVar, Reg, Stmt, Type};

/// The width of the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// AVX2 with fused multiply-adds: 8 numbers, 16 registers.
    Ymm,
    /// AVX-512 with its mask registers: 16 numbers, 32 registers.
    Zmm,
}

impl Width {
    /// Numbers of a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Width::Ymm => 8,
            Width::Zmm => 16,
        }
    }

    fn bytes(self) -> usize {
        4 * self.lanes()
    }
}

/// A loop's function, and what it wants in its frame.
pub(crate) struct WideLoop {
    /// Constants, and behind them the code.
    pub(crate) bytes: Vec<u8>,
    /// Where the code begins.
    pub(crate) entry: usize,
    /// Where elements of the first iteration lie: a buffer, and the index without the loop's variable and without its constant part.
    pub(crate) streams: Vec<(usize, Affine)>,
    /// What is the same in all iterations.
    pub(crate) scalars: Vec<Scalar>,
    /// Bounds of loops inside, as 64-bit integers.
    pub(crate) wholes: Vec<Whole>,
    /// Accumulators of outside, with a vector of parts for each.
    pub(crate) sums: Vec<(Reg, Combine)>,
    pub(crate) frame: Frame,
}

/// How often a loop inside runs, where that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Once for each item of the call.
    Items,
    Reg(Reg),
}

/// A number that is the same in all iterations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Reg(Reg),
    /// An index in the first iteration, as an integer.
    Place(Affine),
}

/// Where things lie in a frame; the number of iterations comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) width: Width,
    streams: usize,
    wholes: usize,
    slots: usize,
    scalars: usize,
    sums: usize,
}

impl Frame {
    pub(crate) fn stream(self, at: usize) -> i32 {
        8 * (1 + at) as i32
    }

    pub(crate) fn whole(self, at: usize) -> i32 {
        self.stream(self.streams + at)
    }

    /// An integer that the function loads.
    fn slot(self, at: usize) -> i32 {
        self.whole(self.wholes + at)
    }

    /// Narrow vectors have no instruction that spreads a number in memory, so it lies there as often as they have lanes.
    pub(crate) fn copies(self) -> usize {
        match self.width {
            Width::Ymm => 8,
            Width::Zmm => 1,
        }
    }

    pub(crate) fn scalar(self, at: usize) -> i32 {
        self.slot(self.slots) + (4 * self.copies() * at) as i32
    }

    /// The vector of a sum's parts.
    pub(crate) fn sum(self, at: usize) -> i32 {
        self.scalar(self.scalars) + (self.width.bytes() * at) as i32
    }

    pub(crate) fn bytes(self) -> u32 {
        self.sum(self.sums) as u32
    }
}

/// A vector loop, as it is asked for.
pub(crate) struct Asked<'k> {
    pub(crate) var: LoopVar,
    pub(crate) extent: &'k Extent,
    pub(crate) body: &'k [&'k Stmt],
    /// Types of the buffers' elements.
    pub(crate) elements: &'k [Type],
    /// The plan's buffers, of which one may be several of the kernel's.
    pub(crate) ids: &'k [BufferId],
    /// Registers of outside.
    pub(crate) outside: &'k dyn Fn(Reg) -> Option<Known>,
    /// Accumulators of the body that are summed over all lanes, and then read.
    pub(crate) totals: &'k [(Reg, Combine)],
}

/// What is known of a register of outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) ty: Type,
    /// Its value, if that is known.
    pub(crate) constant: Option<f64>,
}

/// Most vectors that go through a body together.
const MOST: usize = 4;

/// A loop's function, if the loop can be had as one and is long enough.
pub(crate) fn compile(asked: &Asked<'_>, width: Width) -> Option<WideLoop> {
    let has_loops = asked.body.iter().any(|stmt| matches!(stmt, Stmt::For { extent: Extent::Fixed(2..) | Extent::Between(..), .. }));
    if let Extent::Fixed(n) = asked.extent {
        // A call is not worth it for less.
        let shortest = if has_loops { width.lanes() / 2 } else { 2 * width.lanes() };
        if *n < shortest as u64 {
            return None;
        }
    }
    // As many vectors as the registers allow.
    let most = if has_loops { MOST } else { vectors(asked.body) };
    (0..=most.ilog2()).rev().find_map(|power| compile_groups(asked, width, 1 << power))
}

/// The loop for so many vectors together, and for those that are left.
fn compile_groups(asked: &Asked<'_>, width: Width, vectors: usize) -> Option<WideLoop> {
    let lower = |vectors: usize, partial: bool| lower::lower(asked, width, Group { vectors, partial });
    let lanes = width.lanes();
    let plan = match asked.extent {
        Extent::Fixed(n) => {
            let (count, step) = (*n as usize, vectors * lanes);
            let (rounds, left) = (count / step, count % step);
            let main = if rounds > 0 { Some((lower(vectors, false)?, rounds)) } else { None };
            let rest = if left > 0 { Some((lower(left.div_ceil(lanes), left % lanes > 0)?, left % lanes)) } else { None };
            machine::Plan::Known { main, rest }
        }
        Extent::Items | Extent::Between(..) => {
            let one = if vectors > 1 { Some(lower(1, false)?) } else { None };
            machine::Plan::Unknown { main: lower(vectors, false)?, one, last: lower(1, true)? }
        }
    };
    assembled(&plan, width)
}

/// The function of a loop whose body is a loop around it, for all lanes at once; none if those do not fit the registers.
pub(crate) fn compile_nest(asked: &Asked<'_>, width: Width) -> Option<WideLoop> {
    let Extent::Fixed(count) = asked.extent else { return None };
    let (count, lanes) = (*count as usize, width.lanes());
    if count < lanes / 2 || count > MOST * lanes {
        return None;
    }
    let group = Group { vectors: count.div_ceil(lanes), partial: count % lanes > 0 };
    assembled(&machine::Plan::Known { main: None, rest: Some((lower::lower(asked, width, group)?, count % lanes)) }, width)
}

fn assembled(plan: &machine::Plan, width: Width) -> Option<WideLoop> {
    let parts = plan.parts();
    // All parts name the same things in the same order.
    let first = parts.first()?;
    let slots = parts.iter().map(|part| part.slots).max()?;
    let (streams, scalars, wholes, sums) = (first.streams.clone(), first.scalars.clone(), first.wholes.clone(), first.sums.clone());
    let frame = Frame { width, streams: streams.len(), wholes: wholes.len(), slots, scalars: scalars.len(), sums: sums.len() };
    let (bytes, entry) = machine::function(plan, frame)?;
    Some(WideLoop { bytes, entry, streams, scalars, wholes, sums, frame })
}

/// Vectors side by side: a short body leaves registers for several, and its sums then have as many chains of additions.
fn vectors(body: &[&Stmt]) -> usize {
    if body.len() > 12 { 1 } else { 2 }
}

/// A loop's function as text, an instruction a line.
pub(crate) fn print(wide: &WideLoop) -> String {
    use iced_x86::{Decoder, DecoderOptions, Formatter as _, IntelFormatter};
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    for instruction in &mut Decoder::with_ip(64, &wide.bytes[wide.entry..], wide.entry as u64, DecoderOptions::NONE) {
        text.push_str("    ");
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    text
}
