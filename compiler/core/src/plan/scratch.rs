//! The scratch of a tile: which values lie where, and how many examples a tile and its parts take.

use super::buffers::Storage;
use super::jobs::{Planner, Work};
use super::parts::{Kind, Life, Piece, Tile, TilePart, arrange, divide, joined_lightly};
use super::{Machine, PlanSpec};
use crate::graph::NodeId;
use crate::ops::Op;
use recc_abi::{Launch, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of a weight that is large: reading it costs as much as values of dozens of examples.
const HEAVY: u64 = 1 << 14;

/// A way to divide a job's work, and where its values lie.
struct Layout {
    work: Vec<Vec<Work>>,
    places: Vec<Placed>,
    tile: Tile,
    entry_bytes: u64,
}

/// Values that lie together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    /// Of entries.
    Entries,
    /// Of examples, for several parts.
    Across,
    /// Of examples, for one part.
    Part(usize),
}

struct Placed {
    node: NodeId,
    home: Home,
    offset: u64,
}

/// Work, with the stored values that each piece reads.
type Reads = BTreeMap<Work, BTreeSet<NodeId>>;

impl Planner<'_> {
    /// Divides a job's work into parts and gives its values places in the tile's scratch: a place is free again after its value's last reader.
    pub(super) fn place_scratch(&mut self, scratch: &[NodeId], work: Vec<Work>) -> Vec<Vec<Work>> {
        let scratch: BTreeSet<NodeId> = scratch.iter().copied().collect();
        let stored = scratch.iter().chain(self.storage.keys()).copied().collect();
        let reads: Reads = work.iter().map(|&piece| (piece, self.reads(piece, &stored))).collect();
        let whole = self.layout(&scratch, &reads, vec![(true, work.clone())]);
        let fits = self.spec.tile(whole.tile.bytes(), self.moved()) == self.spec.most_examples();
        let divided = if fits || whole.entry_bytes > 0 || self.spec.machine == Machine::Device {
            None
        } else {
            self.divided(&scratch, &reads, &work)
        };
        // Values that wait for other parts are written to memory: a division that keeps most of them waiting is none.
        let pays = |layout: &Layout| 4 * layout.tile.bytes() < 3 * whole.tile.bytes();
        let Layout { work, places, mut tile, entry_bytes } = divided.filter(pays).unwrap_or(whole);
        self.entry_bytes = self.entry_bytes.max(entry_bytes);
        for Placed { node, home, offset } in places {
            let (len, entries) = (self.len(node), self.program.graph[node].ty.entries());
            let place = match (home, entries) {
                (Home::Across, _) => Place::Across { offset },
                (_, Some(column)) => Place::TileEntries { column, offset },
                (_, None) => Place::Tile { offset },
            };
            let buffer = self.buffers.add(self.buffer_name(node), place, self.element(node), len);
            self.storage.insert(node, Storage { buffer, item_stride: if entries.is_some() { 0 } else { len as i64 } });
            if let Home::Part(part) = home {
                tile.parts[part].buffers.push(buffer);
            }
        }
        self.tiles.push(tile);
        work
    }

    /// The work in heavy and light parts, such that the whole tile needs the least.
    fn divided(&self, scratch: &BTreeSet<NodeId>, reads: &Reads, work: &[Work]) -> Option<Layout> {
        let made: BTreeMap<NodeId, usize> = work.iter().enumerate().map(|(at, piece)| (piece.node(), at)).collect();
        let piece = |piece: &Work| {
            let node = piece.node();
            let bytes = if scratch.contains(&node) { self.len(node) * self.element(node).bytes() } else { 0 };
            Piece { kind: self.kind(*piece), bytes, reads: reads[piece].iter().filter_map(|node| made.get(node).copied()).collect() }
        };
        let pieces: Vec<Piece> = work.iter().map(piece).collect();
        let joined = joined_lightly(&pieces);
        let layout = |(pieces, first): (&[Piece], Kind)| {
            let numbers = divide(pieces, first);
            let mut parts: Vec<(bool, Vec<Work>)> = Vec::new();
            for number in 0..=numbers.iter().copied().max()? {
                let own = work.iter().zip(&numbers).filter(|(_, own)| **own == number).map(|(piece, _)| *piece);
                parts.push(((first == Kind::Heavy) == number.is_multiple_of(2), own.collect()));
            }
            parts.retain(|(_, work)| !work.is_empty());
            Some(self.layout(scratch, reads, parts))
        };
        let ways = [&pieces, &joined].into_iter().flat_map(|pieces| [Kind::Heavy, Kind::Light].map(|first| (pieces.as_slice(), first)));
        ways.filter_map(layout).min_by_key(|layout| layout.tile.bytes())
    }

    /// Where values lie when the work is done in these parts, each with whether it takes the whole tile at once.
    fn layout(&self, scratch: &BTreeSet<NodeId>, reads: &Reads, parts: Vec<(bool, Vec<Work>)>) -> Layout {
        let moments = || parts.iter().enumerate().flat_map(|(part, (_, work))| (0..work.len()).map(move |at| (part, at)));
        let mut last = BTreeMap::new();
        for (part, at) in moments() {
            last.extend(reads[&parts[part].1[at]].iter().map(|&node| (node, (part, at))));
        }
        // In the order of their making, which is not that of the graph.
        let mut homes: BTreeMap<Home, Vec<(NodeId, Life)>> = BTreeMap::new();
        let mut made = Vec::new();
        for (part, at) in moments() {
            let Work::Store(node) = parts[part].1[at] else { continue };
            if !scratch.contains(&node) {
                continue;
            }
            let (reader, dies) = last.get(&node).copied().unwrap_or((part, at));
            let bytes = self.len(node) * self.element(node).bytes();
            // All work between two products is one loop over the items: what it reads is read until the loop's last item.
            let inside = Life { born: at, dies: self.end_of_loop(dies, &parts[reader].1), bytes };
            let (home, life) = match self.program.graph[node].ty.entries() {
                Some(_) => (Home::Entries, inside),
                None if reader == part => (Home::Part(part), inside),
                None => (Home::Across, Life { born: part, dies: reader, bytes }),
            };
            homes.entry(home).or_default().push((node, life));
            made.push(node);
        }
        let mut tile =
            Tile { across: 0, parts: parts.iter().map(|(whole, _)| TilePart { whole: *whole, bytes: 0, buffers: Vec::new() }).collect() };
        let (mut places, mut entry_bytes) = (BTreeMap::new(), 0);
        for (home, values) in homes {
            let (offsets, bytes) = arrange(&values.iter().map(|(_, life)| *life).collect::<Vec<_>>());
            match home {
                Home::Entries => entry_bytes = bytes,
                Home::Across => tile.across = bytes,
                Home::Part(part) => tile.parts[part].bytes = bytes,
            }
            places.extend(values.iter().zip(offsets).map(|((node, _), offset)| (*node, (home, offset))));
        }
        let placed = |node: NodeId| Placed { node, home: places[&node].0, offset: places[&node].1 };
        let places = made.into_iter().map(placed).collect();
        Layout { work: parts.into_iter().map(|(_, work)| work).collect(), places, tile, entry_bytes }
    }

    /// The stored values that a piece of work reads, directly or through values computed in place.
    fn reads(&self, work: Work, stored: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let graph = &self.program.graph;
        let mut stack = graph.operands(work.node());
        let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
        while let Some(node) = stack.pop() {
            if stored.contains(&node) {
                found.insert(node);
            } else if seen.insert(node) {
                stack.extend(graph.operands(node));
            }
        }
        found
    }

    /// The last piece of work of the item loop that a piece belongs to.
    fn end_of_loop(&self, at: usize, work: &[Work]) -> usize {
        if work.get(at).is_none_or(|work| self.is_product(*work)) {
            return at;
        }
        at + work[at..].iter().take_while(|work| !self.is_product(**work)).count() - 1
    }

    fn kind(&self, work: Work) -> Kind {
        let graph = &self.program.graph;
        let node = work.node();
        let weight = match (&graph[node].op, work) {
            _ if !self.is_product(work) => return Kind::Loop,
            (Op::BatchMatMul(_), _) => return Kind::Light,
            (Op::MatMul(_), _) => graph.operands(node)[1],
            (_, Work::Sum(_)) => node,
            // A whole table.
            (_, Work::Store(_)) => return Kind::Heavy,
        };
        if self.len(weight) >= HEAVY { Kind::Heavy } else { Kind::Light }
    }

    /// Bytes that every tile of a training step moves: weights, read forward and backward, and their gradients, read and written.
    fn moved(&self) -> u64 {
        let sums = self.buffers.all.iter().filter(|buffer| buffer.place == Place::Lane);
        4 * sums.map(|buffer| buffer.len * buffer.element.bytes()).sum::<u64>()
    }

    /// Gives tiles and their parts their sizes, and values their places: the tile's examples, and the scratch's bytes.
    pub(super) fn size_tiles(&mut self, launches: &mut [Launch]) -> (u64, u64) {
        let examples = self.spec.tile(self.tiles.iter().map(Tile::bytes).max().unwrap_or(0), self.moved());
        let across = examples * self.tiles.iter().map(|tile| tile.across).max().unwrap_or(0);
        for buffer in &mut self.buffers.all {
            if let Place::Across { offset } = &mut buffer.place {
                *offset *= examples;
            }
        }
        let mut bytes = across;
        let jobs = launches.iter_mut().flat_map(|launch| &mut launch.jobs).filter(|job| !job.parts.is_empty());
        for (job, tile) in jobs.zip(&self.tiles) {
            for (part, own) in job.parts.iter_mut().zip(&tile.parts) {
                part.examples = if own.whole { examples } else { PlanSpec::part(own.bytes).min(examples) };
                bytes = bytes.max(across + own.bytes * part.examples);
                for id in &own.buffers {
                    if let Place::Tile { offset } = &mut self.buffers.all[id.0 as usize].place {
                        *offset = across + *offset * part.examples;
                    }
                }
            }
        }
        (examples, bytes)
    }
}
