//! Loops of wide vectors: bit for bit what the same loop gives number by number, for all instructions and lengths.

use recc_abi::BufferId;
use recc_codegen::{Level, print_assembly};
use recc_core::loops::{Affine, BufferArg, Combine, Extent, Instr, Kernel, LoopVar, Reg, Stmt, Term, Type, verify};
use recc_core::scalar::{ScalarOp, Signature};
use recc_tests::native::{call, load};

const VAR: LoopVar = LoopVar(0);

/// A kernel in the making, whose body is that of one loop.
#[derive(Default)]
struct Loop {
    before: Vec<Stmt>,
    body: Vec<Stmt>,
    after: Vec<Stmt>,
    buffers: Vec<BufferArg>,
    next: u32,
}

impl Loop {
    fn buffer(&mut self, ty: Type, len: usize) -> usize {
        let id = BufferId(self.buffers.len() as u32);
        let name = format!("b{}", id.0);
        self.buffers.push(BufferArg { id, name, ty, item_stride: 0, moves: false, len: Some(len as u64) });
        self.buffers.len() - 1
    }

    fn reg(&mut self) -> Reg {
        self.next += 1;
        Reg(self.next)
    }

    fn define(&mut self, ty: Type, instr: Instr) -> Reg {
        let reg = self.reg();
        self.body.push(Stmt::Let { reg, ty, instr });
        reg
    }

    fn outside(&mut self, ty: Type, instr: Instr) -> Reg {
        let reg = self.reg();
        self.before.push(Stmt::Let { reg, ty, instr });
        reg
    }

    fn load(&mut self, buffer: usize, ty: Type) -> Reg {
        self.define(ty, Instr::Load { buffer, index: Affine::var(VAR) })
    }

    fn scalar(&mut self, op: ScalarOp, x: &[Reg]) -> Reg {
        let ty = match op.signature() {
            Signature::Compare | Signature::Logic => Type::Bool,
            _ => Type::F32,
        };
        self.define(ty, Instr::Scalar(op, x.to_vec()))
    }

    fn store(&mut self, value: Reg, ty: Type, len: usize) -> usize {
        let buffer = self.buffer(ty, len);
        self.body.push(Stmt::Store { buffer, index: Affine::var(VAR), value, accumulate: false });
        buffer
    }

    fn kernel(self, extent: Extent, vector: bool) -> Kernel {
        let mut body = self.before;
        body.push(Stmt::For { var: VAR, extent, vector, body: self.body });
        body.extend(self.after);
        Kernel { name: "k".to_owned(), buffers: self.buffers, body }
    }
}

fn is_wide(kernel: &Kernel, level: Level) -> bool {
    print_assembly(verify(kernel).expect("a valid kernel"), level).expect("text").contains("bits a vector")
}

/// The levels with wide vectors that this machine has.
fn levels() -> Vec<Level> {
    [Level::V3, Level::V4].into_iter().filter(|level| *level <= Level::native()).collect()
}

/// Numbers of all kinds: the edges first, then random ones of several sizes.
fn numbers(count: usize, seed: u64) -> Vec<u32> {
    let edges = [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-40, 88.5, -90.0, 0.625, 3e38];
    (0..count)
        .map(|at| {
            let mixed = ((at as u64 + 1000 * seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
            let number = (f64::from(mixed) / 4_294_967_296.0 - 0.5) as f32;
            match mixed % 5 {
                0 => edges[mixed as usize / 5 % edges.len()].to_bits(),
                1 => (number * 100.0).to_bits(),
                _ => (number * 4.0).to_bits(),
            }
        })
        .collect()
}

/// A loop at every wide level, against the same loop number by number; NaN equals NaN of other bits.
fn same_bits(what: &str, make: &dyn Fn() -> Loop, buffers: &[Vec<u32>], extent: &Extent, items: usize) {
    for level in levels() {
        let wide = make().kernel(extent.clone(), true);
        assert!(is_wide(&wide, level), "{what} is left to narrow vectors at {}", level.name());
        let (mut found, mut wanted) = (buffers.to_vec(), buffers.to_vec());
        call(&load(&[wide], level), &mut found, items);
        call(&load(&[make().kernel(extent.clone(), false)], level), &mut wanted, items);
        let nan = |word: u32| f32::from_bits(word).is_nan();
        for (buffer, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                assert!(
                    found == wanted || nan(*found) && nan(*wanted),
                    "{what} at {}: b{buffer}[{at}] is {found:#x}, not {wanted:#x}",
                    level.name()
                );
            }
        }
    }
}

#[test]
fn every_instruction_gives_the_same_bits() {
    for op in ScalarOp::ALL.into_iter().filter(|op| !matches!(op, ScalarOp::Widen | ScalarOp::Narrow)) {
        for n in [32, 33, 47, 64, 96, 101, 400] {
            let make = || {
                let mut own = Loop::default();
                let inputs: Vec<Reg> = (0..3)
                    .map(|_| {
                        let buffer = own.buffer(Type::F32, n);
                        own.load(buffer, Type::F32)
                    })
                    .collect();
                let (first, second) = (own.scalar(ScalarOp::Lt, &inputs[..2]), own.scalar(ScalarOp::Le, &inputs[1..]));
                let value = match op.signature() {
                    Signature::Select => own.scalar(op, &[first, inputs[1], inputs[2]]),
                    Signature::Logic => own.scalar(op, &[first, second][..op.arity()]),
                    _ => own.scalar(op, &inputs[..op.arity()]),
                };
                let value = match op.signature() {
                    Signature::Compare | Signature::Logic => own.scalar(ScalarOp::Select, &[value, inputs[0], inputs[1]]),
                    _ => value,
                };
                own.store(value, Type::F32, n);
                own
            };
            let buffers = [numbers(n, 1), numbers(n, 2), numbers(n, 3), vec![0; n]];
            same_bits(&format!("{} of {n}", op.name()), &make, &buffers, &Extent::Fixed(n as u64), 0);
        }
    }
}

/// What is the same in all iterations: constants on either side, numbers, truth values, and buffers that are added to.
#[test]
fn shared_numbers_give_the_same_bits() {
    let n = 77;
    for op in [ScalarOp::Max, ScalarOp::Min, ScalarOp::Sub, ScalarOp::Div] {
        for (left, right) in [(true, false), (false, true), (false, false)] {
            let make = || {
                let mut own = Loop::default();
                let (x, shared) = (own.buffer(Type::F32, n), own.buffer(Type::F32, 2));
                let one = own.outside(Type::F32, Instr::Load { buffer: shared, index: Affine::constant(0) });
                let other = own.outside(Type::F32, Instr::Load { buffer: shared, index: Affine::constant(1) });
                let holds = own.outside(Type::Bool, Instr::Scalar(ScalarOp::Lt, vec![one, other]));
                let zero = own.outside(Type::F32, Instr::Const(0.0));
                let x = own.load(x, Type::F32);
                let value = own.scalar(op, &[if left { zero } else { x }, if right { zero } else { one }]);
                let value = own.scalar(ScalarOp::Select, &[holds, value, zero]);
                let buffer = own.buffer(Type::F32, n);
                own.body.push(Stmt::Store { buffer, index: Affine::var(VAR), value, accumulate: true });
                own
            };
            for shared in [[1.5f32, 2.0], [2.0, -0.0], [f32::NAN, 1.0]] {
                let buffers = [numbers(n, 4), shared.map(f32::to_bits).to_vec(), numbers(n, 5)];
                same_bits(op.name(), &make, &buffers, &Extent::Fixed(n as u64), 0);
            }
        }
    }
}

#[test]
fn whole_numbers_and_gathers_give_the_same_bits() {
    let n = 93;
    let make = || {
        let mut own = Loop::default();
        let (x, places, table, key) =
            (own.buffer(Type::F32, n), own.buffer(Type::I32, n), own.buffer(Type::F32, 50), own.buffer(Type::I32, 1));
        let key = own.outside(Type::I32, Instr::Load { buffer: key, index: Affine::constant(0) });
        let (x, place) = (own.load(x, Type::F32), own.load(places, Type::I32));
        let element = Affine::var(VAR).plus(&Affine::constant(7));
        let random = own.define(Type::F32, Instr::Random { row_key: key, element });
        let random = own.scalar(ScalarOp::Add, &[random, x]);
        own.store(random, Type::F32, n);
        let choice = own.define(Type::I32, Instr::Choice(x, 50));
        own.store(choice, Type::I32, n);
        let at = own.define(Type::I32, Instr::Place(Affine::var(VAR).times(3).plus(&Affine::constant(-20))));
        let (first, last) = (own.outside(Type::I32, Instr::Const(4.0)), own.outside(Type::I32, Instr::Const(50.0)));
        let clamped = own.define(Type::I32, Instr::Clamp { number: at, begin: first, end: last });
        own.store(clamped, Type::I32, n);
        let count = own.define(Type::F32, Instr::CountBetween(clamped, place));
        own.store(count, Type::F32, n);
        for (index, offset) in [(choice, 0), (clamped, -4)] {
            let value = own.define(Type::F32, Instr::Load { buffer: table, index: Affine::reg(index).plus(&Affine::constant(offset)) });
            own.store(value, Type::F32, n);
        }
        own
    };
    let places = (0..n as u32).map(|at| at * 7 % 50).collect();
    let mut buffers = vec![numbers(n, 6), places, numbers(50, 7), vec![0x1234_5678]];
    buffers.extend([(); 6].map(|()| vec![0; n]));
    same_bits("whole numbers", &make, &buffers, &Extent::Fixed(n as u64), 0);
}

/// Sums over loops of any length, also none: their parts are added in another order, so small whole numbers are summed.
#[test]
fn sums_of_any_length() {
    let most = 70;
    let make = || {
        let mut own = Loop::default();
        let (x, bounds) = (own.buffer(Type::F32, most), own.buffer(Type::I32, 2));
        let bound = |own: &mut Loop, at: i64| own.outside(Type::I32, Instr::Load { buffer: bounds, index: Affine::constant(at) });
        let (begin, end) = (bound(&mut own, 0), bound(&mut own, 1));
        let x = own.load(x, Type::F32);
        own.store(x, Type::F32, most);
        for combine in [Combine::Add, Combine::Max, Combine::Min] {
            let reg = own.reg();
            own.before.push(Stmt::Accumulator { reg, ty: Type::F32, combine });
            own.body.push(Stmt::Accumulate { reg, combine, value: x });
            let buffer = own.buffer(Type::F32, 1);
            own.after.push(Stmt::Store { buffer, index: Affine::constant(0), value: reg, accumulate: false });
        }
        (own, Extent::Between(begin, end))
    };
    let numbers: Vec<u32> = (0..most).map(|at| ((at * 37 % 23) as f32 - 11.0).to_bits()).collect();
    for (begin, end) in [(0, 0), (5, 5), (3, 4), (0, 8), (1, 16), (0, 16), (2, 19), (0, 32), (3, 35), (0, 48), (0, 63), (1, 70)] {
        for broken in [None, Some(begin), Some(end - 1)] {
            let mut buffers = vec![numbers.clone(), vec![begin as u32, end as u32], vec![0; most], vec![0], vec![0], vec![0]];
            if let Some(at) = broken.filter(|at| *at >= 0 && begin < end) {
                buffers[0][at as usize] = f32::NAN.to_bits();
            }
            same_bits(&format!("sums of {begin} to {end}"), &|| make().0, &buffers, &make().1, 0);
        }
    }
}

/// One iteration an item, with elements in few bytes.
#[test]
fn items_and_reduced_elements() {
    for items in [1, 15, 16, 17, 32, 50] {
        for (ty, level) in [(Type::F32, Level::V3), (Type::F16, Level::V4), (Type::I8, Level::V4)] {
            if level > Level::native() {
                continue;
            }
            let make = || {
                let mut own = Loop::default();
                let (x, y) = (own.buffer(ty, 64), own.buffer(Type::F32, 64));
                own.buffers.iter_mut().for_each(|buffer| buffer.item_stride = 1);
                let (x, y) = (own.load(x, Type::F32), own.load(y, Type::F32));
                let value = own.scalar(ScalarOp::Mul, &[x, y]);
                own.store(value, Type::F32, 64);
                own.buffers[2].item_stride = 1;
                own
            };
            let finite = |seed: usize| -> Vec<u32> { (0..64).map(|at| ((at * seed % 19) as f32 / 8.0 - 1.0).to_bits()).collect() };
            let halves: Vec<u32> = (0..32u32).map(|at| ((at * 0x1f3) & 0x7bff) | (((at * 0x377) & 0xfbff) << 16)).collect();
            let first = if ty == Type::F16 { halves } else { finite(7) };
            let buffers = [first, finite(5), vec![0; 64]];
            let wide = make().kernel(Extent::Items, true);
            assert!(is_wide(&wide, level));
            let (mut found, mut wanted) = (buffers.to_vec(), buffers.to_vec());
            call(&load(&[wide], level), &mut found, items);
            call(&load(&[make().kernel(Extent::Items, false)], level), &mut wanted, items);
            assert_eq!(found, wanted, "{ty:?}, {items} items");
        }
    }
}

/// A gather by numbers from memory reads nothing of the lanes that are not there.
#[test]
fn a_gather_by_loaded_numbers() {
    for n in [33, 40, 63] {
        let make = || {
            let mut own = Loop::default();
            let (places, table) = (own.buffer(Type::I32, n), own.buffer(Type::F32, 50));
            let (zero, end) = (own.outside(Type::I32, Instr::Const(0.0)), own.outside(Type::I32, Instr::Const(50.0)));
            let place = own.load(places, Type::I32);
            let place = own.define(Type::I32, Instr::Clamp { number: place, begin: zero, end });
            let index = Affine { terms: vec![(Term::Reg(place), 1)], offset: 0 };
            let value = own.define(Type::F32, Instr::Load { buffer: table, index });
            own.store(value, Type::F32, n);
            own
        };
        let buffers = [(0..n as u32).map(|at| at * 31 % 61).collect(), numbers(50, 8), vec![0; n]];
        same_bits("a gather", &make, &buffers, &Extent::Fixed(n as u64), 0);
    }
}

/// Loops inside, of any number of rounds: sums over rows that are named by integers, as the gradients of a table's rows are.
#[test]
fn loops_inside_give_the_same_bits() {
    for n in [8, 10, 16, 31, 50, 64, 129, 200] {
        let make = || {
            let mut own = Loop::default();
            let rows = 7;
            let (bounds, numbers, factors, table) =
                (own.buffer(Type::I32, 2), own.buffer(Type::I32, 12), own.buffer(Type::F32, 12), own.buffer(Type::F32, rows * n));
            let bound = |own: &mut Loop, at: i64| own.outside(Type::I32, Instr::Load { buffer: bounds, index: Affine::constant(at) });
            let (begin, end) = (bound(&mut own, 0), bound(&mut own, 1));
            for (extent, combine) in [(Extent::Between(begin, end), Combine::Add), (Extent::Fixed(5), Combine::Max)] {
                let sum = own.reg();
                own.body.push(Stmt::Accumulator { reg: sum, ty: Type::F32, combine });
                let shared = own.load(table, Type::F32);
                let (inner, mut body) = (LoopVar(own.next), Vec::new());
                let mut define = |own: &mut Loop, ty, instr| {
                    let reg = own.reg();
                    body.push(Stmt::Let { reg, ty, instr });
                    reg
                };
                let number = define(&mut own, Type::I32, Instr::Load { buffer: numbers, index: Affine::var(inner) });
                let factor = define(&mut own, Type::F32, Instr::Load { buffer: factors, index: Affine::var(inner) });
                let index = Affine::reg(number).times(n as i64).plus(&Affine::var(VAR));
                let value = define(&mut own, Type::F32, Instr::Load { buffer: table, index });
                let value = define(&mut own, Type::F32, Instr::Scalar(ScalarOp::Mul, vec![value, factor]));
                let value = define(&mut own, Type::F32, Instr::Scalar(ScalarOp::Add, vec![value, shared]));
                body.push(Stmt::Accumulate { reg: sum, combine, value });
                own.body.push(Stmt::For { var: inner, extent, vector: false, body });
                let value = own.scalar(ScalarOp::Neg, &[sum]);
                let value = own.scalar(ScalarOp::Add, &[value, shared]);
                own.store(value, Type::F32, n);
            }
            own
        };
        for (begin, end) in [(0, 0), (4, 4), (3, 4), (0, 12), (5, 11)] {
            let rows = (0..12).map(|at| at * 5 % 7).collect();
            let buffers = [vec![begin, end], rows, numbers(12, 9), numbers(7 * n, 10), vec![0; n], vec![0; n]];
            same_bits(&format!("loops inside, {n} columns"), &make, &buffers, &Extent::Fixed(n as u64), 0);
        }
    }
}

/// More buffers than there are registers to hold where they begin, inside loops and outside.
#[test]
fn many_buffers_give_the_same_bits() {
    let n = 70;
    let make = || {
        let mut own = Loop::default();
        let inputs: Vec<usize> = (0..12).map(|_| own.buffer(Type::F32, 3 * n)).collect();
        let values: Vec<Reg> = inputs.iter().map(|&buffer| own.load(buffer, Type::F32)).collect();
        let sum = own.reg();
        own.body.push(Stmt::Accumulator { reg: sum, ty: Type::F32, combine: Combine::Add });
        let (inner, mut body) = (LoopVar(99), Vec::new());
        for &buffer in &inputs {
            let value = own.reg();
            let index = Affine::var(inner).times(n as i64).plus(&Affine::var(VAR));
            body.push(Stmt::Let { reg: value, ty: Type::F32, instr: Instr::Load { buffer, index } });
            body.push(Stmt::Accumulate { reg: sum, combine: Combine::Add, value });
        }
        own.body.push(Stmt::For { var: inner, extent: Extent::Fixed(3), vector: false, body });
        for value in values {
            let value = own.scalar(ScalarOp::Mul, &[value, sum]);
            own.store(value, Type::F32, n);
        }
        own
    };
    let mut buffers: Vec<Vec<u32>> = (0..12).map(|at| numbers(3 * n, at)).collect();
    buffers.extend((0..12).map(|_| vec![0; n]));
    same_bits("many buffers", &make, &buffers, &Extent::Fixed(n as u64), 0);
}

/// Exponentials, logarithms and angles against `f64`.
#[test]
fn functions_are_near_their_values() {
    use ScalarOp::{Atan2, Cos, Exp, Log, Log1p, Sigmoid, Sin, Softplus, Sqrt, Tanh};
    let n = 4000;
    for (op, size, absolute) in [
        (Exp, 80.0, 0.0),
        (Log, 1e6, 1e-7),
        (Log1p, 50.0, 1e-7),
        (Sqrt, 1e6, 0.0),
        (Sigmoid, 30.0, 1e-9),
        (Tanh, 12.0, 0.0),
        (Softplus, 30.0, 1e-9),
        (Sin, 30.0, 2e-7),
        (Cos, 30.0, 2e-7),
        (Sin, 8000.0, 1e-6),
        // Its quarters have no exact number: only the range holds.
        (Cos, 1.7e9, 2.0),
        (Atan2, 5.0, 2e-7),
    ] {
        let mut own = Loop::default();
        let inputs: Vec<Reg> = (0..op.arity())
            .map(|_| {
                let buffer = own.buffer(Type::F32, n);
                own.load(buffer, Type::F32)
            })
            .collect();
        let value = own.scalar(op, &inputs);
        own.store(value, Type::F32, n);
        let kernel = own.kernel(Extent::Fixed(n as u64), true);
        let spread = |factor: usize| (0..n).map(move |at| (((at * factor) % 4001) as f64 / 2000.5 - 1.0) * size);
        let domain = |x: f64| if matches!(op, Log | Log1p | Sqrt) { x.abs() + 1e-3 } else { x };
        let inputs: Vec<Vec<u32>> =
            [17, 1201][..op.arity()].iter().map(|&factor| spread(factor).map(|x| (domain(x) as f32).to_bits()).collect()).collect();
        let mut buffers: Vec<Vec<u32>> = inputs.iter().cloned().chain([vec![0; n]]).collect();
        call(&load(&[kernel], Level::V3), &mut buffers, 0);
        for at in 0..n {
            let x: Vec<f64> = inputs.iter().map(|input| f64::from(f32::from_bits(input[at]))).collect();
            let (found, wanted) = (f64::from(f32::from_bits(buffers[op.arity()][at])), op.eval(&x));
            assert!((found - wanted).abs() <= 5e-7 * wanted.abs() + absolute, "{} of {x:?} is {found}, not {wanted}", op.name());
        }
    }
}

/// A gather whose place also moves with a loop inside.
#[test]
fn gathers_of_loops_inside_give_the_same_bits() {
    let n = 49;
    for (stride, rounds) in [(1, 3), (2, 2)] {
        let make = || {
            let mut own = Loop::default();
            let (numbers, table) = (own.buffer(Type::F32, n), own.buffer(Type::F32, 40));
            let number = own.load(numbers, Type::F32);
            let choice = own.define(Type::I32, Instr::Choice(number, 18));
            let (sum, inner) = (own.reg(), LoopVar(99));
            own.body.push(Stmt::Accumulator { reg: sum, ty: Type::F32, combine: Combine::Add });
            let value = own.reg();
            let index = Affine::reg(choice).times(stride).plus(&Affine::var(inner));
            let load = Stmt::Let { reg: value, ty: Type::F32, instr: Instr::Load { buffer: table, index } };
            let body = vec![load, Stmt::Accumulate { reg: sum, combine: Combine::Add, value }];
            own.body.push(Stmt::For { var: inner, extent: Extent::Fixed(rounds), vector: false, body });
            own.store(sum, Type::F32, n);
            own
        };
        let places = (0..n).map(|at| ((at * 7 % 20) as f32).to_bits()).collect();
        let table = (0..40u8).map(|at| f32::from(at).to_bits()).collect();
        same_bits("a gather inside", &make, &[places, table, vec![0; n]], &Extent::Fixed(n as u64), 0);
    }
}

/// Elements that lie some apart, in loops of one vector and of several.
#[test]
fn elements_apart_give_the_same_bits() {
    for (n, stride) in [(32, 3), (33, 39), (64, 2), (101, 7)] {
        let make = || {
            let mut own = Loop::default();
            let table = own.buffer(Type::F32, n * stride + 5);
            let index = Affine::var(VAR).times(stride as i64).plus(&Affine::constant(5));
            let value = own.define(Type::F32, Instr::Load { buffer: table, index });
            own.store(value, Type::F32, n);
            own
        };
        same_bits("elements apart", &make, &[numbers(n * stride + 5, 9), vec![0; n]], &Extent::Fixed(n as u64), 0);
    }
}

/// A loop around short vector loops: a column that is turned, totals of its rows and what is made of them, a number of its own for each row.
fn nest(rows: usize, n: usize, items: bool, vector: bool) -> Kernel {
    let (outer, mut own) = (LoopVar(0), Loop::default());
    let (x, turned, y, ends) =
        (own.buffer(Type::F32, rows * n), own.buffer(Type::F32, rows * n), own.buffer(Type::F32, rows * n), own.buffer(Type::F32, rows));
    for (buffer, stride) in [(x, n), (y, n), (ends, 1)].into_iter().filter(|_| items) {
        own.buffers[buffer].item_stride = stride as i64;
    }
    let at = |var: LoopVar| Affine::var(outer).times(n as i64).plus(&Affine::var(var));
    let inner = |own: &mut Loop, var: u32, fill: &dyn Fn(&mut Loop, LoopVar)| {
        let outside = std::mem::take(&mut own.body);
        fill(own, LoopVar(var));
        let body = std::mem::replace(&mut own.body, outside);
        own.body.push(Stmt::For { var: LoopVar(var), extent: Extent::Fixed(n as u64), vector, body });
    };
    let (sum, largest) = (own.reg(), own.reg());
    own.body.push(Stmt::Accumulator { reg: sum, ty: Type::F32, combine: Combine::Add });
    own.body.push(Stmt::Accumulator { reg: largest, ty: Type::F32, combine: Combine::Max });
    inner(&mut own, 1, &|own, var| {
        let one = own.define(Type::F32, Instr::Load { buffer: x, index: at(var) });
        let index = Affine::var(var).times(rows as i64).plus(&Affine::var(outer));
        let other = own.define(Type::F32, Instr::Load { buffer: turned, index });
        let both = own.scalar(ScalarOp::Add, &[one, other]);
        own.body.push(Stmt::Accumulate { reg: sum, combine: Combine::Add, value: both });
        own.body.push(Stmt::Accumulate { reg: largest, combine: Combine::Max, value: one });
    });
    let factor = own.define(Type::F32, Instr::Const(0.25));
    let scaled = own.scalar(ScalarOp::Mul, &[sum, factor]);
    inner(&mut own, 2, &|own, var| {
        let one = own.define(Type::F32, Instr::Load { buffer: x, index: at(var) });
        let value = own.scalar(ScalarOp::Sub, &[one, scaled]);
        own.body.push(Stmt::Store { buffer: y, index: at(var), value, accumulate: true });
    });
    let last = own.scalar(ScalarOp::Add, &[largest, scaled]);
    own.body.push(Stmt::Store { buffer: ends, index: Affine::var(outer), value: last, accumulate: true });
    let extent = if items { Extent::Items } else { Extent::Fixed(rows as u64) };
    own.kernel(extent, false)
}

#[test]
fn loops_around_give_the_same_bits() {
    for (rows, n) in [(2, 8), (5, 10), (7, 16), (3, 17), (4, 31), (39, 32), (2, 64)] {
        for (level, items) in levels().into_iter().flat_map(|level| [(level, false), (level, true)]) {
            let small = |count: usize, factor: usize| (0..count).map(|at| ((at * factor % 23) as f32 - 11.0).to_bits()).collect::<Vec<_>>();
            let buffers = vec![small(rows * n, 37), small(rows * n, 17), small(rows * n, 5), small(rows, 3)];
            let (mut found, mut wanted) = (buffers.clone(), buffers);
            let wide = nest(rows, n, items, true);
            // One function for all, or, where narrow registers do not hold two sums of a row, one for each loop inside.
            let text = print_assembly(verify(&wide).expect("a valid kernel"), level).expect("text");
            let functions = if level > Level::V3 || n <= 17 { 1 } else { 2 };
            assert_eq!(text.matches("bits a vector").count(), functions, "{rows} rows of {n} at {}", level.name());
            call(&load(&[wide], level), &mut found, rows);
            call(&load(&[nest(rows, n, items, false)], level), &mut wanted, rows);
            assert_eq!(found, wanted, "{rows} rows of {n} at {}", level.name());
        }
    }
}
