//! Numbers made of places in a sequence and of whole constants, such as the distance of two steps: known as places while code is emitted.
//!
//! A row picked by one whose range lies within the rows needs no number, and neighbours pick neighbouring rows.

use super::emit::{At, Emitter};
use crate::graph::NodeId;
use crate::loops::{Affine, Instr, Type};
use crate::ops::Op;
use crate::scalar::ScalarOp;
use std::ops::RangeInclusive;

/// Whole numbers below this are exact as `f32`, and so are sums of a few.
const LARGEST: f64 = (1 << 20) as f64;
/// A value of more nodes than these is computed.
const MOST_NODES: usize = 32;

impl Emitter<'_> {
    /// The row of so many that a number of an item picks.
    pub(crate) fn picked_row(&mut self, number: NodeId, at: &At, rows: u64) -> Affine {
        if let Some((place, range)) = self.whole(number, at, &mut { MOST_NODES })
            && *range.start() >= 0
            && (*range.end() as u64) < rows
        {
            return place;
        }
        let number = self.value(number, at);
        Affine::reg(self.define(Type::I32, Instr::Choice(number, rows as u32)))
    }

    /// A value as a place and the range it lies in, if it is made of places and whole constants alone.
    fn whole(&mut self, node: NodeId, at: &At, left: &mut usize) -> Option<(Affine, RangeInclusive<i64>)> {
        *left = left.checked_sub(1)?;
        match self.op(node) {
            Op::Position(position) => {
                let longest = self.known_longest(position.column)?;
                let (begin, _) = self.bounds(position.column, &at.item);
                Some((at.index[0].plus(&Affine::reg(begin).times(-1)), 0..=longest as i64 - 1))
            }
            Op::Constant(constant) if constant.value().fract() == 0.0 && constant.value().abs() < LARGEST => {
                let value = constant.value() as i64;
                Some((Affine::constant(value), value..=value))
            }
            Op::Broadcast(broadcast) => {
                let index = broadcast.axes.iter().map(|axis| at.index[*axis].clone()).collect();
                self.whole(self.operand(node, 0), &At { item: at.item.clone(), index }, left)
            }
            Op::Map(map) if matches!(map.op, ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul) => {
                let (a, of_a) = self.whole(self.operand(node, 0), at, left)?;
                let (b, of_b) = self.whole(self.operand(node, 1), at, left)?;
                match map.op {
                    ScalarOp::Add => Some((a.plus(&b), of_a.start() + of_b.start()..=of_a.end() + of_b.end())),
                    ScalarOp::Sub => Some((a.plus(&b.times(-1)), of_a.start() - of_b.end()..=of_a.end() - of_b.start())),
                    _ if b.terms.is_empty() => Some(times(&a, &of_a, b.offset)),
                    _ if a.terms.is_empty() => Some(times(&b, &of_b, a.offset)),
                    _ => None,
                }
            }
            _ => None,
        }
        .filter(|(_, range)| (range.start().unsigned_abs().max(range.end().unsigned_abs()) as f64) < LARGEST)
    }
}

fn times(place: &Affine, range: &RangeInclusive<i64>, factor: i64) -> (Affine, RangeInclusive<i64>) {
    let (a, b) = (range.start() * factor, range.end() * factor);
    (place.times(factor), a.min(b)..=a.max(b))
}
