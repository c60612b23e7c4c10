//! Parts of a tile. Products with large weights want many examples at once, because each tile reads the weights again; work whose values are
//! large wants few, because its values leave the cache. Where a model has both, the work is divided into parts: those of the first kind
//! take the whole tile, those of the second go through it a few examples at a time.

use recc_abi::BufferId;

/// What a job of examples needs of a thread's scratch.
pub(crate) struct Tile {
    /// Bytes for each example of what goes from one part to others.
    pub(crate) across: u64,
    pub(crate) parts: Vec<TilePart>,
}

pub(crate) struct TilePart {
    /// Whether it takes the whole tile at once.
    pub(crate) whole: bool,
    /// Bytes for each example of what only this part knows.
    pub(crate) bytes: u64,
    pub(crate) buffers: Vec<BufferId>,
}

impl Tile {
    /// Bytes for each example that the whole tile needs.
    pub(crate) fn bytes(&self) -> u64 {
        self.across + self.parts.iter().filter(|part| part.whole).map(|part| part.bytes).max().unwrap_or(0)
    }
}

/// What a piece of work wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A product with a large weight.
    Heavy,
    /// A product of each example's own values, or with a small weight.
    Light,
    /// A loop over elements: it stays with what it reads.
    Loop,
}

/// A piece of work.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    /// Bytes of the value it makes, for each example.
    pub(crate) bytes: u64,
    /// The earlier pieces whose values it reads.
    pub(crate) reads: Vec<usize>,
}

/// The pieces, with loops that bring heavy and light work together as light ones: a loss then comes after a perceptron of its own, in the part of
/// the attention beside it, and the attention's values need not wait for the perceptron.
pub(crate) fn joined_lightly(pieces: &[Piece]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    // Whether a piece's values are made by heavy work, and by light work.
    let mut made: Vec<[bool; 2]> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let of = |at: usize| piece.reads.iter().any(|&read| made[read][at]);
        let kind = if piece.kind == Kind::Loop && of(0) && of(1) { Kind::Light } else { piece.kind };
        made.push(if kind == Kind::Loop { [of(0), of(1)] } else { [kind == Kind::Heavy, kind == Kind::Light] });
        out.push(Piece { kind, ..piece.clone() });
    }
    out
}

/// The part of each piece, in the order in which parts come: heavy and light work alternate, and `first` says which begins. No piece comes
/// later than it must for the number of parts, and it comes with what reads it, if fewer bytes have to wait between parts that way. What a
/// piece reads comes in the same part or in an earlier one.
pub(crate) fn divide(pieces: &[Piece], first: Kind) -> Vec<usize> {
    // Whether a part is of the other kind; its neighbours are not.
    let other = |kind: Kind, part: usize| kind != Kind::Loop && (kind == first) != part.is_multiple_of(2);
    let mut parts = Vec::with_capacity(pieces.len());
    let mut readers = vec![Vec::new(); pieces.len()];
    for (at, piece) in pieces.iter().enumerate() {
        let ready = piece.reads.iter().map(|&read| parts[read]).max().unwrap_or(0);
        parts.push(ready + usize::from(other(piece.kind, ready)));
        piece.reads.iter().for_each(|&read| readers[read].push(at));
    }
    for (at, piece) in pieces.iter().enumerate().rev() {
        let Some(reader) = readers[at].iter().map(|&reader| parts[reader]).min() else { continue };
        let late = reader.saturating_sub(usize::from(other(piece.kind, reader)));
        // What nobody else reads so late would have to wait for it.
        let waits = |read: &&usize| readers[**read].iter().all(|&other| other == at || parts[other] < late);
        let waiting: u64 = piece.reads.iter().filter(waits).map(|&read| pieces[read].bytes).sum();
        if late > parts[at] && waiting <= piece.bytes {
            parts[at] = late;
        }
    }
    parts
}

/// A value's first and last moment, and its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) born: usize,
    pub(crate) dies: usize,
    pub(crate) bytes: u64,
}

/// Offsets of values, in the order of their birth, and the bytes they take together: a place is free again after its value's last moment.
pub(crate) fn arrange(lives: &[Life]) -> (Vec<u64>, u64) {
    let mut taken: Vec<(u64, u64, usize)> = Vec::new();
    let mut total = 0;
    let offsets = lives.iter().map(|life| {
        // Only what comes later may take a place.
        taken.retain(|&(_, _, dies)| dies >= life.born);
        taken.sort_unstable();
        let mut offset = 0;
        for &(start, bytes, _) in &taken {
            if offset + life.bytes <= start {
                break;
            }
            offset = offset.max(start + bytes);
        }
        taken.push((offset, life.bytes, life.dies));
        total = total.max(offset + life.bytes);
        offset
    });
    (offsets.collect(), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(kind: Kind, reads: &[usize]) -> Piece {
        Piece { kind, bytes: 1, reads: reads.to_vec() }
    }

    /// Attention beside a perceptron: the attention, its gradient and the loss come between the perceptron and the perceptron's gradient.
    #[test]
    fn light_work_gathers_between_heavy_work() {
        use Kind::{Heavy, Light, Loop};
        let pieces = [
            piece(Loop, &[]),      // 0 fields
            piece(Light, &[0]),    // 1 attention
            piece(Loop, &[1]),     // 2 softmax
            piece(Heavy, &[0]),    // 3 perceptron
            piece(Loop, &[3]),     // 4 relu
            piece(Heavy, &[4]),    // 5 perceptron
            piece(Loop, &[2, 5]),  // 6 loss
            piece(Heavy, &[6]),    // 7 gradient of the perceptron
            piece(Light, &[2, 6]), // 8 gradient of the attention
            piece(Loop, &[7, 8]),  // 9 gradient of the fields
        ];
        assert_eq!(divide(&pieces, Heavy), [0, 1, 1, 0, 0, 0, 1, 2, 1, 2]);
        assert_eq!(divide(&pieces, Light), [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]);
        // Where the fields are light work themselves, the loss has to be it too.
        let mut pieces = pieces;
        pieces[0].kind = Light;
        assert_eq!(divide(&pieces, Light), [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]);
        assert_eq!(divide(&joined_lightly(&pieces), Light), [0, 2, 2, 1, 1, 1, 2, 3, 2, 4]);
    }

    /// Random pieces: all come after what they read, and heavy and light ones lie in parts of their kind.
    #[test]
    fn parts_keep_the_order() {
        let mut state = 7u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        };
        for _ in 0..200 {
            let pieces: Vec<Piece> = (0..30)
                .map(|at| Piece {
                    kind: [Kind::Heavy, Kind::Light, Kind::Loop][draw(3)],
                    bytes: draw(5) as u64,
                    reads: (0..draw(3)).filter(|_| at > 0).map(|_| draw(at)).collect(),
                })
                .collect();
            for first in [Kind::Heavy, Kind::Light] {
                let parts = divide(&pieces, first);
                for (at, piece) in pieces.iter().enumerate() {
                    assert!(piece.reads.iter().all(|&read| parts[read] <= parts[at]));
                    assert!(piece.kind == Kind::Loop || parts[at].is_multiple_of(2) == (piece.kind == first));
                }
            }
        }
    }

    /// Values that live at the same time share no bytes.
    #[test]
    fn places_are_free_after_the_last_reader() {
        let life = |born, dies, bytes| Life { born, dies, bytes };
        let (offsets, total) = arrange(&[life(0, 1, 8), life(1, 3, 4), life(2, 4, 8), life(4, 5, 4)]);
        assert_eq!((offsets, total), (vec![0, 8, 0, 8], 12));
    }
}
