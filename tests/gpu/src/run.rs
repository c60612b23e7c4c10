//! One call of a function: its blocks, one after another, each with all its warps.
//!
//! Of the threads of a warp those that are furthest behind go first, so that those that parted come together again.

use crate::memory::{Memory, Moment, Piece};
use crate::operations::pair;
use crate::parse::{Function, Operand, Space, Special, What};
use std::collections::BTreeSet;

const WARP: usize = 32;
/// Instructions of a thread that is taken to go in circles.
const ENDLESS: u64 = 100_000_000;

/// A call.
pub struct Call<'c> {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// The parameters' words.
    pub params: &'c [u64],
}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions of warps.
    pub instructions: u64,
    /// Accesses of warps to the device's memory, the bytes that their threads asked for, and the sectors of 32 bytes that they touched.
    pub requests: u64,
    /// See `requests`.
    pub bytes: u64,
    /// See `requests`.
    pub sectors: u64,
    /// Accesses of warps to shared memory, and how often the busiest bank was asked in each.
    pub shared_requests: u64,
    /// See `shared_requests`.
    pub shared_turns: u64,
}

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    /// For the threads of a mask, at its instruction.
    WaitsForWarp(u32),
    WaitsForBlock,
    Ended,
}

#[derive(Clone)]
struct Thread {
    at: usize,
    state: State,
    block_barriers: u32,
    warp_barriers: u32,
}

struct Runner<'r> {
    function: &'r Function,
    call: &'r Call<'r>,
    number: u32,
    memory: &'r mut Memory,
    shared: Piece,
    block: [u32; 3],
    threads: Vec<Thread>,
    /// Registers of one thread after another.
    registers: Vec<u64>,
    counts: Counts,
}

/// Runs a call; `number` counts the calls of a device. Errors say which line of the text and which thread is wrong.
pub fn run(function: &Function, call: &Call<'_>, number: u32, memory: &mut Memory) -> Result<Counts, String> {
    if call.threads > function.most_threads || call.params.len() != function.params.len() {
        return Err(format!("`{}` is called with {} threads and {} parameters", function.name, call.threads, call.params.len()));
    }
    let mut counts = Counts::default();
    for z in 0..call.grid[2] {
        for y in 0..call.grid[1] {
            for x in 0..call.grid[0] {
                let start = Thread { at: 0, state: State::Runs, block_barriers: 0, warp_barriers: 0 };
                let mut runner = Runner {
                    function,
                    call,
                    number: number + 1,
                    memory: &mut *memory,
                    shared: Piece::new(function.shared),
                    block: [x, y, z],
                    threads: vec![start; call.threads as usize],
                    registers: vec![0; function.registers * call.threads as usize],
                    counts,
                };
                runner.block()?;
                counts = runner.counts;
            }
        }
    }
    Ok(counts)
}

impl Runner<'_> {
    fn block(&mut self) -> Result<(), String> {
        let warps = self.threads.len().div_ceil(WARP);
        loop {
            for warp in 0..warps {
                self.warp(warp)?;
            }
            if self.threads.iter().all(|thread| thread.state == State::Ended) {
                return Ok(());
            }
            let places: BTreeSet<usize> = self.threads.iter().map(|thread| thread.at).collect();
            if places.len() > 1 || self.threads.iter().any(|thread| thread.state != State::WaitsForBlock) {
                return Err(format!("{}: a barrier of the block that not all threads reach", self.name()));
            }
            for thread in &mut self.threads {
                thread.state = State::Runs;
                thread.at += 1;
                thread.block_barriers += 1;
                thread.warp_barriers += 1;
            }
        }
    }

    fn name(&self) -> String {
        format!("`{}`, block {:?}", self.function.name, self.block)
    }

    /// Runs a warp until its threads have ended or wait for others.
    fn warp(&mut self, warp: usize) -> Result<(), String> {
        let range = warp * WARP..self.threads.len().min((warp + 1) * WARP);
        let mut rounds = 0;
        loop {
            let own = &self.threads[range.clone()];
            let Some(at) = own.iter().filter(|thread| thread.state == State::Runs).map(|thread| thread.at).min() else {
                if own.iter().any(|thread| matches!(thread.state, State::WaitsForWarp(_))) {
                    return Err(format!("{}: threads wait for others of warp {warp} that do not come", self.name()));
                }
                return Ok(());
            };
            let runs = |thread: &&usize| self.threads[**thread].state == State::Runs && self.threads[**thread].at == at;
            let all: Vec<usize> = range.clone().collect();
            let active: Vec<usize> = all.iter().filter(runs).copied().collect();
            let line = self.function.code[at].line;
            self.step(at, &active, warp).map_err(|why| format!("line {line}, {}: {why}", self.name()))?;
            self.counts.instructions += 1;
            rounds += 1;
            if rounds > ENDLESS {
                return Err(format!("line {line}, {}: does not end", self.name()));
            }
        }
    }

    fn value(&self, thread: usize, operand: Operand) -> u64 {
        match operand {
            Operand::Register(register) => self.registers[thread * self.function.registers + register],
            Operand::Number(number) => number,
        }
    }

    fn set(&mut self, thread: usize, register: usize, value: u64) {
        self.registers[thread * self.function.registers + register] = value;
    }

    fn moment(&self, thread: usize) -> Moment {
        let [x, y, z] = self.block;
        let own = &self.threads[thread];
        Moment {
            call: self.number,
            block: x + self.call.grid[0] * (y + self.call.grid[1] * z),
            warp: (thread / WARP) as u32,
            thread: thread as u32,
            block_barriers: own.block_barriers,
            warp_barriers: own.warp_barriers,
        }
    }

    /// One instruction of the threads of a warp that stand before it.
    fn step(&mut self, at: usize, active: &[usize], warp: usize) -> Result<(), String> {
        let instruction = &self.function.code[at];
        let holds = |thread: &usize| match instruction.guard {
            Some((register, wanted)) => (self.value(*thread, Operand::Register(register)) & 1 == 1) == wanted,
            None => true,
        };
        let chosen: Vec<usize> = active.iter().filter(|thread| holds(thread)).copied().collect();
        for &thread in active {
            self.threads[thread].at = at + 1;
        }
        match &instruction.what {
            What::Evaluate { to, how, operands } => {
                for &thread in &chosen {
                    let [a, b, c] = operands.map(|operand| self.value(thread, operand));
                    self.set(thread, *to, how(a, b, c));
                }
            }
            What::Special { to, which } => {
                for &thread in &chosen {
                    let value = match which {
                        Special::Thread(0) => thread as u32,
                        Special::Thread(_) => 0,
                        Special::Block(axis) => self.block[*axis],
                    };
                    self.set(thread, *to, u64::from(value));
                }
            }
            What::Param { to, number } => chosen.iter().for_each(|&thread| self.set(thread, *to, self.call.params[*number])),
            What::Pack { to, words } => {
                for &thread in &chosen {
                    let [low, high] = words.map(|word| self.value(thread, word) & 0xffff_ffff);
                    self.set(thread, *to, high << 32 | low);
                }
            }
            What::Unpack { words, from } => {
                for &thread in &chosen {
                    let value = self.value(thread, Operand::Register(*from));
                    self.set(thread, words[0], value & 0xffff_ffff);
                    self.set(thread, words[1], value >> 32);
                }
            }
            What::Load { space, size, signed, to, base, offset } => {
                let places = self.places(&chosen, *base, *offset);
                self.count(*space, &places, *size, to.len());
                for (&thread, place) in chosen.iter().zip(places) {
                    self.aligned(place, size * to.len())?;
                    for (at, register) in to.iter().enumerate() {
                        let value = self.load(*space, place + (at * size) as u64, *size, thread)?;
                        let value = if *signed { i64::from(value as u8 as i8) as u64 & 0xffff_ffff } else { value };
                        self.set(thread, *register, value);
                    }
                }
            }
            What::Store { space, size, values, base, offset } => {
                let places = self.places(&chosen, *base, *offset);
                self.count(*space, &places, *size, values.len());
                for (&thread, place) in chosen.iter().zip(places) {
                    self.aligned(place, size * values.len())?;
                    for (at, value) in values.iter().enumerate() {
                        let value = self.value(thread, *value);
                        self.store(*space, place + (at * size) as u64, (*size, value), thread)?;
                    }
                }
            }
            What::Branch { to } => chosen.iter().for_each(|&thread| self.threads[thread].at = *to),
            What::Return => chosen.iter().for_each(|&thread| self.threads[thread].state = State::Ended),
            What::BlockBarrier => {
                for &thread in &chosen {
                    self.threads[thread].state = State::WaitsForBlock;
                    self.threads[thread].at = at;
                }
            }
            What::WarpBarrier { mask } => self.wait(at, &chosen, *mask, warp, |own, threads| {
                threads.iter().for_each(|&thread| own.threads[thread].warp_barriers += 1);
            })?,
            What::Multiply { sums, a, b } => {
                self.wait(at, &chosen, Operand::Number(u64::from(u32::MAX)), warp, |own, threads| own.multiply(threads, (sums, a, b)))?;
            }
            What::Shuffle { to, from, apart, mask } => {
                let source = |thread: usize| (thread % WARP) ^ *apart as usize;
                let outside = |thread: &&usize| self.value(**thread, *mask) >> source(**thread) & 1 == 0;
                if let Some(thread) = chosen.iter().find(outside) {
                    return Err(format!("thread {thread} asks for the value of one that is not in its mask"));
                }
                self.wait(at, &chosen, *mask, warp, |own, threads| {
                    let values: Vec<u64> = threads.iter().map(|&thread| own.value(warp * WARP + source(thread), *from)).collect();
                    for (&thread, value) in threads.iter().zip(values) {
                        own.set(thread, *to, value);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// `sums += a b` over a warp. Of a square of 8 by 8 words, thread `4 g + t` has word `t` of line `g`.
    fn multiply(&mut self, threads: &[usize], (sums, a, b): (&[usize], &[usize], &[usize])) {
        let word = |thread: usize, register: usize| pair(self.value(threads[thread], Operand::Register(register)));
        let mut left = [[0.0; 16]; 16];
        let mut right = [[0.0; 8]; 16];
        for (thread, (line, within)) in (0..WARP).map(|thread| (thread, (thread / 4, thread % 4))) {
            for half in 0..2 {
                for side in 0..2 {
                    // Registers go down first, then along `k`.
                    let [low, high] = word(thread, a[2 * half + side]);
                    (left[line + 8 * side][8 * half + 2 * within], left[line + 8 * side][8 * half + 2 * within + 1]) = (low, high);
                }
                let [low, high] = word(thread, b[half]);
                (right[8 * half + 2 * within][line], right[8 * half + 2 * within + 1][line]) = (low, high);
            }
        }
        for (thread, (line, within)) in (0..WARP).map(|thread| (thread, (thread / 4, thread % 4))) {
            for (at, &register) in sums.iter().enumerate() {
                let (row, column) = (line + 8 * (at / 2), 2 * within + at % 2);
                let begin = f32::from_bits(self.value(threads[thread], Operand::Register(register)) as u32);
                let sum = (0..16).fold(begin, |sum: f32, deep| left[row][deep].mul_add(right[deep][column], sum));
                self.set(threads[thread], register, u64::from(sum.to_bits()));
            }
        }
    }

    /// Lets threads wait until all of their mask have come, which then go on together.
    fn wait(&mut self, at: usize, chosen: &[usize], mask: Operand, warp: usize, then: impl Fn(&mut Self, &[usize])) -> Result<(), String> {
        for &thread in chosen {
            let mask = self.value(thread, mask) as u32;
            if mask >> (thread % WARP) & 1 == 0 {
                return Err(format!("thread {thread} is not in its own mask {mask:#x}"));
            }
            self.threads[thread].state = State::WaitsForWarp(mask);
            self.threads[thread].at = at;
        }
        for &thread in chosen {
            let State::WaitsForWarp(mask) = self.threads[thread].state else { continue };
            let named: Vec<usize> = (0..WARP).filter(|lane| mask >> lane & 1 == 1).map(|lane| warp * WARP + lane).collect();
            if let Some(missing) = named.iter().find(|&&own| self.threads.get(own).is_none_or(|own| own.state == State::Ended)) {
                return Err(format!("mask {mask:#x} names thread {missing}, which has ended"));
            }
            let come = |own: &usize| self.threads[*own].at == at && self.threads[*own].state == State::WaitsForWarp(mask);
            if named.iter().all(come) {
                then(self, &named);
                for own in named {
                    self.threads[own].state = State::Runs;
                    self.threads[own].at = at + 1;
                }
            }
        }
        Ok(())
    }

    fn places(&self, threads: &[usize], base: Operand, offset: i64) -> Vec<u64> {
        threads.iter().map(|&thread| self.value(thread, base).wrapping_add_signed(offset)).collect()
    }

    fn aligned(&self, place: u64, bytes: usize) -> Result<(), String> {
        if place.is_multiple_of(bytes as u64) { Ok(()) } else { Err(format!("{bytes} bytes at {place:#x} are misaligned")) }
    }

    /// Counts what an access costs.
    fn count(&mut self, space: Space, places: &[u64], size: usize, many: usize) {
        if places.is_empty() {
            return;
        }
        let bytes = (size * many) as u64;
        match space {
            Space::Global => {
                let sectors: BTreeSet<u64> = places.iter().flat_map(|place| place / 32..=(place + bytes - 1) / 32).collect();
                self.counts.requests += 1;
                self.counts.bytes += bytes * places.len() as u64;
                self.counts.sectors += sectors.len() as u64;
            }
            Space::Shared => {
                let words: BTreeSet<u64> = places.iter().flat_map(|place| place / 4..(place + bytes).div_ceil(4)).collect();
                let mut banks = [0u64; WARP];
                words.iter().for_each(|word| banks[(word % WARP as u64) as usize] += 1);
                self.counts.shared_requests += 1;
                self.counts.shared_turns += banks.into_iter().max().unwrap_or(0);
            }
        }
    }

    fn load(&mut self, space: Space, place: u64, size: usize, thread: usize) -> Result<u64, String> {
        let now = self.moment(thread);
        match space {
            Space::Shared => self.shared.read(place as usize, size, now),
            Space::Global => {
                let (piece, at) = self.memory.piece(place)?;
                piece.read(at, size, now)
            }
        }
    }

    fn store(&mut self, space: Space, place: u64, (size, value): (usize, u64), thread: usize) -> Result<(), String> {
        let now = self.moment(thread);
        match space {
            Space::Shared => self.shared.write(place as usize, size, value, now),
            Space::Global => {
                let (piece, at) = self.memory.piece(place)?;
                piece.write(at, size, value, now)
            }
        }
    }
}
