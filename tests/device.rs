//! What a graphics processor runs: the interpreter finds faults, products of all kinds agree with sums in `f64`, and memory is read in whole sectors.

use half::{bf16, f16};
use recc_abi::{BufferId, PartitionPart, Plan};
use recc_codegen::emit_ptx;
use recc_core::loops::{BufferArg, ItemStrides, Kernel, MatMul, Matrix, Partition, Size, Stmt, Type, Vectors, verify};
use recc_core::plan::Machine;
use recc_gpu::{Call, Counts, Function, Memory, parse, run};
use recc_tests::data::{draw, lookups_of_bags};

/// Adds 64 numbers up: two warps, shared memory, shuffles.
const SUM: &str = "\
.version 7.0
.target sm_80
.address_size 64

.visible .entry sum(
  .param .u64 numbers,
  .param .u64 out
)
.maxntid 64, 1, 1
.minnctapersm 1
{
  .reg .f32 %f<4>;
  .reg .b32 %r<4>;
  .reg .b64 %a<4>;
  .reg .pred %p<3>;
  .shared .align 16 .b8 parts[256];
  ld.param.u64 %a0, [numbers];
  ld.param.u64 %a1, [out];
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, parts;
  mad.wide.s32 %a2, %r0, 4, %a0;
  ld.global.f32 %f0, [%a2];
  mad.lo.s32 %r2, %r0, 4, %r1;
  st.shared.f32 [%r2], %f0;
  bar.sync 0;
  setp.ge.s32 %p0, %r0, 32;
  @%p0 bra END;
  ld.shared.f32 %f1, [%r2+128];
  add.rn.f32 %f0, %f0, %f1;
  shfl.sync.bfly.b32 %f2, %f0, 16, 31, -1;
  add.rn.f32 %f0, %f0, %f2;
  shfl.sync.bfly.b32 %f2, %f0, 8, 31, -1;
  add.rn.f32 %f0, %f0, %f2;
  shfl.sync.bfly.b32 %f2, %f0, 4, 31, -1;
  add.rn.f32 %f0, %f0, %f2;
  shfl.sync.bfly.b32 %f2, %f0, 2, 31, -1;
  add.rn.f32 %f0, %f0, %f2;
  shfl.sync.bfly.b32 %f2, %f0, 1, 31, -1;
  add.rn.f32 %f0, %f0, %f2;
  setp.eq.s32 %p1, %r0, 0;
  @%p1 st.global.f32 [%a1], %f0;
END:
  ret;
}
";

fn sum(text: &str) -> Result<(f32, Counts), String> {
    let functions = parse(text)?;
    let mut memory = Memory::default();
    let numbers: Vec<u8> = (0..64).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let (from, to) = (memory.allocate(256), memory.allocate(4));
    memory.write(from, &numbers)?;
    let counts = run(&functions[0], &Call { grid: [1, 1, 1], threads: 64, params: &[from, to] }, 1, &mut memory)?;
    let bytes = memory.read(to, 4)?;
    Ok((f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), counts))
}

#[test]
fn the_interpreter_runs_what_is_right() {
    let (total, counts) = sum(SUM).expect("a right function");
    assert_eq!(total, 2016.0);
    // Two warps read 128 bytes each, and one thread writes.
    assert_eq!((counts.requests, counts.sectors), (3, 9));
    assert_eq!((counts.shared_requests, counts.shared_turns), (3, 3));
}

/// Faults that a real device would run.
#[test]
fn the_interpreter_finds_faults() {
    let faults = [
        ("an access behind the end", "ld.global.f32 %f0, [%a2];", "ld.global.f32 %f0, [%a2+4];", "lie outside of 256 bytes"),
        ("a misaligned access", "ld.global.f32 %f0, [%a2];", "ld.global.f32 %f0, [%a2+2];", "misaligned"),
        ("an address of nothing", "mad.wide.s32 %a2, %r0, 4, %a0;", "mad.wide.s32 %a2, %r0, 4, 64;", "belongs to no memory"),
        ("memory that nobody wrote", "ld.global.f32 %f0, [%a2];", "ld.global.f32 %f0, [%a1];", "nobody wrote"),
        ("no barrier between warps", "  bar.sync 0;\n", "", "nobody wrote"),
        (
            "a barrier of one warp",
            "  bar.sync 0;\n  setp.ge.s32 %p0, %r0, 32;\n  @%p0 bra END;\n",
            "  setp.ge.s32 %p0, %r0, 32;\n  @%p0 bra END;\n  bar.sync 0;\n",
            "not all threads reach",
        ),
        (
            "threads of a warp that do not wait",
            "  ld.shared.f32 %f1, [%r2+128];\n",
            "  st.shared.f32 [%r2], %f0;\n  ld.shared.f32 %f1, [%r1];\n",
            "a race",
        ),
        ("all threads writing one place", "@%p1 st.global.f32", "st.global.f32", "a race"),
        (
            "a shuffle that others do not reach",
            "  shfl.sync.bfly.b32 %f2, %f0, 16, 31, -1;",
            "  setp.ge.s32 %p2, %r0, 16;\n  @%p2 bra END;\n  shfl.sync.bfly.b32 %f2, %f0, 16, 31, -1;",
            "do not come",
        ),
        ("a value of a thread outside of the mask", "8, 31, -1;", "8, 31, 255;", "not in its mask"),
        ("a thread outside of its mask", "16, 31, -1;", "16, 31, -1;\n  bar.warp.sync 65535;", "not in its own mask"),
        ("an unknown instruction", "add.rn.f32 %f0, %f0, %f1;", "add.rz.f32 %f0, %f0, %f1;", "no such instruction"),
        ("an unknown register", "add.rn.f32 %f0, %f0, %f1;", "add.rn.f32 %f0, %f0, %f9;", "no register"),
        ("an unknown label", "@%p0 bra END;", "@%p0 bra AWAY;", "no label"),
    ];
    for (fault, right, wrong, expected) in faults {
        assert!(SUM.contains(right), "{fault}: `{right}` is not in the text");
        let found = sum(&SUM.replacen(right, wrong, 1));
        assert!(found.as_ref().is_err_and(|why| why.contains(expected)), "{fault}: {found:?}");
    }
}

/// Of threads that write one after another those count that did not wait, also where a barrier lies between: it is of another block.
#[test]
fn blocks_do_not_wait_for_one_another() {
    let functions = parse(SUM).expect("a right function");
    let mut memory = Memory::default();
    let (from, to) = (memory.allocate(256), memory.allocate(4));
    memory.write(from, &[0; 256]).expect("room");
    let found = run(&functions[0], &Call { grid: [2, 1, 1], threads: 64, params: &[from, to] }, 1, &mut memory);
    assert!(found.as_ref().is_err_and(|why| why.contains("a race")), "{found:?}");
    let short = run(&functions[0], &Call { grid: [1, 1, 1], threads: 64, params: &[from] }, 2, &mut memory);
    assert!(short.is_err_and(|why| why.contains("1 parameters")));
}

/// A product as a kernel of its own: all ways of lying, whole, for each lane, for each item, for each head.
#[derive(Clone, Copy, Debug)]
struct Case {
    m: i64,
    n: i64,
    k: i64,
    a_turned: bool,
    b_turned: bool,
    stored: Type,
    accumulate: bool,
    /// Whether factors are rounded to bfloat16.
    rounded: bool,
    /// Items, with a product for each and heads in it.
    each: Option<(i64, i64)>,
}

/// Numbers that differ, between -1 and 1.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32).map(|at| ((at.wrapping_mul(2_654_435_761).wrapping_add(seed * 97)) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

impl Case {
    fn kernel(self) -> Kernel {
        let arg = |at: u32, ty: Type, stride: i64| BufferArg {
            id: BufferId(at),
            name: format!("b{at}"),
            ty,
            item_stride: stride,
            moves: false,
            len: None,
        };
        let Case { m, n, k, .. } = self;
        let heads = self.each.map_or(1, |(_, heads)| heads);
        let strides = |factor: i64| ItemStrides { dst: factor * m * n, a: factor * m * k, b: factor * k * n };
        let matrix = |buffer: usize, (row, column): (i64, i64)| Matrix { buffer, offset: 0, row, column, entry: 0 };
        let turned = |rows: i64, columns: i64, turned: bool| if turned { (1, rows) } else { (columns, 1) };
        let product = MatMul {
            m: Size::Fixed(m),
            n: Size::Fixed(n),
            k: Size::Fixed(k),
            dst: matrix(0, (n, 1)),
            a: matrix(1, turned(m, k, self.a_turned)),
            b: matrix(2, turned(k, n, self.b_turned)),
            scales: (self.stored == Type::I8).then_some(3),
            accumulate: self.accumulate,
            each: self.each.map(|_| strides(heads)),
            entries: None,
            heads: self.each.map(|(_, heads)| (heads, strides(1))),
            bf16: self.rounded,
        };
        let item = |size: i64| if self.each.is_some() { size * heads } else { 0 };
        let buffers =
            vec![arg(0, Type::F32, item(m * n)), arg(1, Type::F32, item(m * k)), arg(2, self.stored, item(k * n)), arg(3, Type::F32, 0)];
        Kernel { name: "product".to_owned(), buffers, body: vec![Stmt::MatMul(Box::new(product))] }
    }

    fn check(self) -> Counts {
        let kernel = self.kernel();
        let verified = verify(&kernel).unwrap_or_else(|found| panic!("{self:?}: {found:?}"));
        let module = emit_ptx(&Plan::default(), &[verified]);
        let functions = parse(&module.text()).unwrap_or_else(|why| panic!("{self:?}: {why}"));
        let (items, heads) = self.each.unwrap_or((1, 1));
        let times = (items * heads) as usize;
        let (m, n, k) = (self.m as usize, self.n as usize, self.k as usize);
        let (a, b, old, scales) = (numbers(times * m * k, 1), numbers(times * k * n, 2), numbers(times * m * n, 3), numbers(k, 4));
        let round = |values: Vec<f32>| match self.rounded {
            true => values.into_iter().map(|value| bf16::from_f32(value).to_f32()).collect(),
            false => values,
        };
        let mut memory = Memory::default();
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (b_bytes, b): (Vec<u8>, Vec<f32>) = match self.stored {
            Type::F16 => b.iter().map(|&value| f16::from_f32(value)).map(|half| (half.to_le_bytes(), half.to_f32())).fold(
                (vec![], vec![]),
                |mut all, (bytes, value)| {
                    all.0.extend(bytes);
                    all.1.push(value);
                    all
                },
            ),
            Type::I8 => b.iter().map(|&value| (value * 127.0) as i8).map(|byte| (byte as u8, f32::from(byte))).unzip(),
            _ => (bytes(&b), b),
        };
        // The device rounds what it is given; sums of what is rounded already are exact enough to compare with.
        let (a, b) = (round(a), round(b));
        let scale = |row: usize| if self.stored == Type::I8 { f64::from(scales[row]) } else { 1.0 };
        let mut place = |bytes: &[u8]| {
            let address = memory.allocate(bytes.len());
            memory.write(address, bytes).map(|()| address).expect("room")
        };
        let addresses = [place(&bytes(&old)), place(&bytes(&a)), place(&b_bytes), place(&bytes(&scales))];
        let call = &module.kernels[0][0];
        let blocks = call.grid.blocks(items as u32, 1, |_, _| 0);
        let own = [0, items as u64, items as u64];
        let params: Vec<u64> = call
            .buffers
            .iter()
            .map(|id| addresses[id.0 as usize])
            .chain(own)
            .chain(call.numbers.iter().map(|number| u64::from(number.cast_unsigned())))
            .collect();
        let counts = if blocks.grid.contains(&0) {
            Counts::default()
        } else {
            let function: &Function = functions.iter().find(|own| own.name == call.name).expect("the function");
            run(function, &Call { grid: blocks.grid, threads: blocks.threads, params: &params }, 1, &mut memory)
                .unwrap_or_else(|why| panic!("{self:?}: {why}"))
        };
        let found: Vec<f32> = memory
            .read(addresses[0], 4 * times * m * n)
            .expect("room")
            .chunks(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        for at in 0..times * m * n {
            let (product, i, j) = (at / (m * n), at / n % m, at % n);
            let left = |l: usize| f64::from(a[product * m * k + if self.a_turned { l * m + i } else { i * k + l }]);
            let right = |l: usize| f64::from(b[product * k * n + if self.b_turned { j * k + l } else { l * n + j }]) * scale(l);
            let exact: f64 = (0..k).map(|l| left(l) * right(l)).sum::<f64>() + if self.accumulate { f64::from(old[at]) } else { 0.0 };
            assert!(
                (f64::from(found[at]) - exact).abs() < 1e-5 * (1.0 + k as f64) * scale(0).abs().max(1.0),
                "{self:?} at {i}, {j} of {product}: {} for {exact}",
                found[at]
            );
        }
        counts
    }
}

#[test]
fn products_agree_with_sums() {
    let case =
        |m, n, k| Case { m, n, k, a_turned: false, b_turned: false, stored: Type::F32, accumulate: false, rounded: false, each: None };
    let sizes =
        [(1, 1, 1), (3, 5, 0), (32, 32, 16), (33, 31, 17), (100, 7, 40), (70, 90, 33), (64, 128, 5), (130, 140, 20), (257, 129, 16)];
    for (m, n, k) in sizes {
        for (a_turned, b_turned, accumulate) in [(false, false, false), (true, false, true), (false, true, false), (true, true, true)] {
            Case { a_turned, b_turned, accumulate, ..case(m, n, k) }.check();
        }
    }
    for stored in [Type::F16, Type::I8] {
        for (m, n, k) in [(1, 1, 1), (33, 70, 19), (130, 140, 20)] {
            Case { stored, ..case(m, n, k) }.check();
        }
    }
    for (m, n, k) in [(1, 1, 1), (33, 70, 19), (130, 140, 40), (16, 8, 16), (257, 64, 33)] {
        for (a_turned, b_turned, accumulate) in [(false, false, false), (true, false, true), (false, true, false), (true, true, true)] {
            Case { a_turned, b_turned, accumulate, rounded: true, ..case(m, n, k) }.check();
        }
        Case { rounded: true, stored: Type::F16, ..case(m, n, k) }.check();
    }
    for each in [(1, 1), (5, 3)] {
        Case { each: Some(each), ..case(39, 39, 16) }.check();
        Case { each: Some(each), b_turned: true, ..case(7, 66, 4) }.check();
    }
}

/// Sectors that are read and written whole, and shared memory whose banks are seldom asked twice.
#[track_caller]
fn assert_whole(name: &str, counts: &Counts) {
    assert!(32 * counts.sectors <= counts.bytes + counts.bytes / 8, "{name}: {counts:?}");
    assert!(counts.shared_turns <= 3 * counts.shared_requests, "{name}: {counts:?}");
}

#[test]
fn products_move_whole_sectors() {
    for (a_turned, b_turned) in [(false, false), (true, false), (false, true)] {
        let case = Case { m: 128, n: 128, k: 64, a_turned, b_turned, stored: Type::F32, accumulate: false, rounded: false, each: None };
        assert_whole(&format!("{case:?}"), &case.check());
    }
}

/// Rows of 16 numbers, looked up, pooled and updated by 16 threads each.
#[test]
fn look_ups_move_whole_sectors() {
    let spec = format!(
        "{}\nmodel m {{\n table e {{ keys: C, dim: 16 }}\n let pooled = sum(e[C], axis: 0)\n predict y = logit(sum(pooled * tanh(pooled)))\n}}\nobjective {{ y: bce }}\nmetrics {{ report: [] }}\ntrain {{ dense: sgd(lr: 1), tables: adam(lr: 1) }}\n",
        recc_tests::FEATURES
    );
    let (spec, built) = recc_tests::build_for(&spec, Machine::Device);
    let data = draw(&spec, &built, 64, 3);
    let (_, counts) = recc_tests::device::counted(&built.step_plan, &data, &lookups_of_bags(&spec, &built)).expect("it runs");
    for name in ["recc_step_m_pooled", "recc_step_rows_m_e", "recc_step_update_m_e"] {
        assert_whole(name, &counts[name]);
    }
}

/// One part of a softmax over a table, on its own.
fn partition(part: PartitionPart, (queries, rows, width): (usize, usize, usize), words: [&[f32]; 4]) -> Vec<f32> {
    let by_rows = part == PartitionPart::SumsOfQueries;
    let (items, others) = if by_rows { (rows, queries) } else { (queries, rows) };
    let arg = |at: u32, ty: Type| BufferArg { id: BufferId(at), name: format!("b{at}"), ty, item_stride: 0, moves: false, len: None };
    let own = |buffer: usize| Vectors { buffer, entry: 0 };
    let sums = (part != PartitionPart::LogSums).then(|| [own(2), own(3)]);
    let (queries_at, rows_at, dst) = (own(0), own(1), own(5));
    let body = Partition {
        part,
        width: width as i64,
        items: Size::Items(1),
        entries: None,
        others: 4,
        queries: queries_at,
        rows: rows_at,
        sums,
        dst,
    };
    let mut buffers: Vec<BufferArg> = (0..6).map(|at| arg(at, Type::F32)).collect();
    buffers[4].ty = Type::I32;
    let kernel = Kernel { name: "softmax".to_owned(), buffers, body: vec![Stmt::Partition(Box::new(body))] };
    let module = emit_ptx(&Plan::default(), &[verify(&kernel).expect("a kernel")]);
    let function = &parse(&module.text()).expect("PTX")[0];
    let mut memory = Memory::default();
    let mut place = |bytes: Vec<u8>| {
        let address = memory.allocate(bytes.len());
        memory.write(address, &bytes).map(|()| address).expect("room")
    };
    let mut addresses: Vec<u64> = words.iter().map(|words| place(words.iter().flat_map(|word| word.to_le_bytes()).collect())).collect();
    addresses.push(place((others as u32).to_le_bytes().to_vec()));
    let len = if part == PartitionPart::LogSums { items } else { items * width };
    addresses.push(memory.allocate(4 * len));
    let call = &module.kernels[0][0];
    let blocks = call.grid.blocks(items as u32, 1, |_, _| 0);
    let numbers = call.numbers.iter().map(|number| u64::from(number.cast_unsigned()));
    let items = [0, items as u64, items as u64];
    let params: Vec<u64> = call.buffers.iter().map(|id| addresses[id.0 as usize]).chain(items).chain(numbers).collect();
    run(function, &Call { grid: blocks.grid, threads: blocks.threads, params: &params }, 1, &mut memory)
        .unwrap_or_else(|why| panic!("{part:?}: {why}"));
    let bytes = memory.read(addresses[5], 4 * len).expect("room");
    bytes.chunks(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

#[test]
fn softmaxes_over_tables_agree_with_sums() {
    for (queries, rows, width) in [(1, 2, 1), (3, 1, 4), (70, 130, 20), (64, 64, 64), (5, 200, 70)] {
        let sizes = (queries, rows, width);
        let (query, row, factors) = (numbers(queries * width, 1), numbers(rows * width, 2), numbers(queries, 3));
        let of =
            |vectors: &[f32], at: usize| vectors[at * width..(at + 1) * width].iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
        let product = |q: usize, r: usize| of(&query, q).iter().zip(of(&row, r)).map(|(a, b)| a * b).sum::<f64>();
        let exact: Vec<f64> = (0..queries).map(|q| (1..rows).map(|r| product(q, r).exp()).sum::<f64>().ln()).collect();
        let close = |what: &str, found: &[f32], wanted: &[f64]| {
            assert_eq!(found.len(), wanted.len());
            for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                assert!(
                    (f64::from(*found) - wanted).abs() <= 1e-4 * wanted.abs().max(1.0),
                    "{what} of {sizes:?} at {at}: {found} for {wanted}"
                );
            }
        };
        let log_sums = partition(PartitionPart::LogSums, sizes, [&query, &row, &[0.0], &[0.0]]);
        if rows == 1 {
            assert_eq!(log_sums, vec![0.0; queries]);
            continue;
        }
        close("log sums", &log_sums, &exact);
        let weight = |q: usize, r: usize| if r == 0 { 0.0 } else { (product(q, r) - exact[q]).exp() * f64::from(factors[q]) };
        let mean = |q: usize| (0..width).map(move |c| (q, c));
        let means: Vec<f64> = (0..queries).flat_map(mean).map(|(q, c)| (0..rows).map(|r| weight(q, r) * of(&row, r)[c]).sum()).collect();
        close("means", &partition(PartitionPart::MeanRows, sizes, [&query, &row, &log_sums, &factors]), &means);
        let sums: Vec<f64> = (0..rows).flat_map(mean).map(|(r, c)| (0..queries).map(|q| weight(q, r) * of(&query, q)[c]).sum()).collect();
        close("sums", &partition(PartitionPart::SumsOfQueries, sizes, [&query, &row, &log_sums, &factors]), &sums);
    }
}
