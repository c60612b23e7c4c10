//! Memory that remembers who touched it.

use std::collections::BTreeMap;

/// A thread at a moment: memory that two threads touch, one of them writing, is in order if they waited for one another in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The call, from 1.
    pub(crate) call: u32,
    pub(crate) block: u32,
    pub(crate) warp: u32,
    pub(crate) thread: u32,
    /// Barriers of the block, and of the warp or a part of it, that the thread has passed.
    pub(crate) block_barriers: u32,
    pub(crate) warp_barriers: u32,
}

/// Stands for several threads, warps or blocks.
const MANY: u32 = u32::MAX;

impl Moment {
    /// Whether what happened then is in order with what happens now.
    fn before(self, now: Moment) -> bool {
        let in_warp = self.warp == now.warp && (self.thread == now.thread || self.warp_barriers < now.warp_barriers);
        self.call != now.call || self.block == now.block && (in_warp || self.block_barriers < now.block_barriers)
    }

    /// Both moments as one, for readers: who waits for the later of two that are in order waits for both.
    fn with(self, now: Moment) -> Moment {
        if self.before(now) {
            return now;
        }
        let same = |a: u32, b: u32| if a == b { a } else { MANY };
        Moment {
            call: now.call,
            block: same(self.block, now.block),
            warp: same(self.warp, now.warp),
            thread: same(self.thread, now.thread),
            block_barriers: self.block_barriers.max(now.block_barriers),
            warp_barriers: self.warp_barriers.max(now.warp_barriers),
        }
    }
}

/// Four bytes, and who touched them last.
#[derive(Clone, Copy, Default)]
struct Word {
    written: Moment,
    read: Moment,
    /// Which of the bytes hold something.
    known: u8,
}

/// One piece of memory.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    words: Vec<Word>,
}

impl Piece {
    pub(crate) fn new(bytes: usize) -> Piece {
        Piece { bytes: vec![0xcd; bytes], words: vec![Word::default(); bytes.div_ceil(4)] }
    }

    /// Everything that `place` says of an access of a thread, if it is wrong.
    fn check(&mut self, at: usize, size: usize, now: Moment, write: bool) -> Result<(), String> {
        if !at.is_multiple_of(size) {
            return Err(format!("{size} bytes at {at} are misaligned"));
        }
        if at + size > self.bytes.len() {
            return Err(format!("{size} bytes at {at} lie outside of {} bytes", self.bytes.len()));
        }
        for (number, word) in self.words[at / 4..(at + size).div_ceil(4)].iter_mut().enumerate() {
            let begin = 4 * (at / 4 + number);
            let mask = (0..4).filter(|byte| (at..at + size).contains(&(begin + byte))).fold(0, |mask, byte| mask | 1 << byte);
            if !word.written.before(now) {
                return Err(format!("a race at byte {at}: {:?} wrote, and {now:?} did not wait for it", word.written));
            }
            if write {
                if !word.read.before(now) {
                    return Err(format!("a race at byte {at}: {:?} read, and {now:?} writes without waiting for it", word.read));
                }
                word.written = now;
                word.known |= mask;
            } else {
                if word.known & mask != mask {
                    return Err(format!("byte {at} is read, and nobody wrote it"));
                }
                word.read = word.read.with(now);
            }
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, at: usize, size: usize, now: Moment) -> Result<u64, String> {
        self.check(at, size, now, false)?;
        Ok(self.bytes[at..at + size].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    pub(crate) fn write(&mut self, at: usize, size: usize, value: u64, now: Moment) -> Result<(), String> {
        self.check(at, size, now, true)?;
        self.bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        Ok(())
    }

    /// Bytes from outside of any call.
    fn fill(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for place in at..at + bytes.len() {
            self.words[place / 4].known |= 1 << (place % 4);
        }
    }
}

/// The memory of a device.
#[derive(Default)]
pub struct Memory {
    pieces: BTreeMap<u64, Piece>,
    next: u64,
}

/// Nothing lies between two pieces for so many bytes.
const APART: u64 = 1 << 16;

impl Memory {
    /// A new piece whose bytes nobody wrote: its address.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        let address = (self.next + APART).next_multiple_of(APART);
        self.next = address + bytes as u64;
        self.pieces.insert(address, Piece::new(bytes));
        address
    }

    /// Gives a piece back; whether there was one.
    pub fn free(&mut self, address: u64) -> bool {
        self.pieces.remove(&address).is_some()
    }

    pub(crate) fn piece(&mut self, address: u64) -> Result<(&mut Piece, usize), String> {
        match self.pieces.range_mut(..=address).next_back() {
            Some((begin, piece)) if address - begin <= piece.bytes.len() as u64 => Ok((piece, (address - begin) as usize)),
            _ => Err(format!("address {address:#x} belongs to no memory")),
        }
    }

    /// Writes from outside of any call.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), String> {
        let (piece, at) = self.piece(address)?;
        if at + bytes.len() > piece.bytes.len() {
            return Err(format!("{} bytes at {at} lie outside of {} bytes", bytes.len(), piece.bytes.len()));
        }
        piece.fill(at, bytes);
        Ok(())
    }

    /// Reads from outside of any call.
    pub fn read(&mut self, address: u64, bytes: usize) -> Result<&[u8], String> {
        let (piece, at) = self.piece(address)?;
        let len = piece.bytes.len();
        piece.bytes.get(at..at + bytes).ok_or_else(|| format!("{bytes} bytes at {at} lie outside of {len} bytes"))
    }
}
