//! One kernel as one Cranelift function.
//!
//! Vector loops are functions of wide vectors where [`crate::wide`] has them, which the kernel calls; the others are vectors of 128 bits here.
//! There, a vector loop's body is written several times: for up to four vectors of four iterations side by side, so that a round's overhead is
//! shared and their work overlaps, and one at a time for the rest. Sums of a vector loop are kept in parts that are added in order when it ends.

mod products;
mod wide_loops;

use crate::lanes::{Lanes, access};
use crate::level::Level;
use crate::math::Arithmetic as _;
use crate::wide::{WideLoop, Width};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, Function, InstBuilder as _, MemFlagsData, SigRef, Signature, StackSlotData, StackSlotKind, Type as ClifType,
    UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_codegen::{Context, verify_function};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use recc_abi::{BufferId, KernelEntry};
use recc_core::loops::{
    Affine, BufferArg, Combine, Cost, Extent, Instr, LoopVar, Reg, Stmt, Term, Type, VerifiedKernel, cost, sums_of_outside,
};
use recc_core::scalar::ScalarOp;
use std::collections::BTreeMap;

/// Elements of a vector.
const LANES: i64 = 4;
/// Most vectors side by side.
const MOST: usize = 4;

/// A bug of the code generator.
#[derive(Debug, thiserror::Error)]
#[error("kernel `{kernel}`: {message}")]
pub struct CodegenError {
    /// The kernel.
    pub kernel: String,
    /// What went wrong.
    pub message: String,
}

/// Machine code of several kernels, one after another; it needs no relocation.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The code.
    pub code: Vec<u8>,
    /// Where each kernel is in it.
    pub entries: Vec<KernelEntry>,
}

/// Compiles kernels for a processor level.
pub fn compile_kernels(kernels: &[VerifiedKernel<'_>], level: Level) -> Result<Compiled, CodegenError> {
    let isa = level.isa().map_err(|message| CodegenError { kernel: "any".to_owned(), message })?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(kernels.len().max(1));
    let mut parts: Vec<Option<Result<Vec<u8>, CodegenError>>> = Vec::new();
    parts.resize_with(kernels.len(), || None);
    let chunk = kernels.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (own, kernels) in parts.chunks_mut(chunk).zip(kernels.chunks(chunk)) {
            let isa = &isa;
            scope.spawn(move || {
                for (slot, kernel) in own.iter_mut().zip(kernels) {
                    *slot = Some(compile(*kernel, &**isa, level));
                }
            });
        }
    });
    let mut compiled = Compiled::default();
    for (kernel, part) in kernels.iter().zip(parts) {
        let name = kernel.kernel().name.clone();
        let bytes = part.unwrap_or_else(|| Err(CodegenError { kernel: name.clone(), message: "was not compiled".to_owned() }))?;
        compiled.code.resize(compiled.code.len().next_multiple_of(64), 0x90);
        let Cost { flops, bytes: moved, bf16, ragged } = cost(kernel.kernel());
        let (offset, len) = (compiled.code.len() as u64, bytes.len() as u64);
        compiled.entries.push(KernelEntry { name, offset, len, flops, bytes: moved, bf16, ragged });
        compiled.code.extend_from_slice(&bytes);
    }
    Ok(compiled)
}

/// A kernel's Cranelift IR, and the instructions of the loops of wide vectors that it calls.
pub fn print_clif(kernel: VerifiedKernel<'_>, level: Level) -> Result<String, CodegenError> {
    let isa = level.isa().map_err(|message| CodegenError { kernel: kernel.kernel().name.clone(), message })?;
    let (function, loops) = translate(kernel, &*isa, level);
    Ok(wide_loops::with_loops(function.display().to_string(), &loops))
}

/// A kernel's machine code as text.
pub fn print_assembly(kernel: VerifiedKernel<'_>, level: Level) -> Result<String, CodegenError> {
    let fail = |message: String| CodegenError { kernel: kernel.kernel().name.clone(), message };
    let isa = level.isa().map_err(fail)?;
    let (function, loops) = translate(kernel, &*isa, level);
    let mut context = Context::for_function(function);
    context.set_disasm(true);
    let code = context.compile(&*isa, &mut ControlPlane::default()).map_err(|error| fail(format!("{:?}", error.inner)))?;
    Ok(wide_loops::with_loops(code.vcode.clone().unwrap_or_default(), &loops))
}

fn compile(kernel: VerifiedKernel<'_>, isa: &dyn TargetIsa, level: Level) -> Result<Vec<u8>, CodegenError> {
    let fail = |message: String| CodegenError { kernel: kernel.kernel().name.clone(), message };
    let (function, loops) = translate(kernel, isa, level);
    verify_function(&function, isa).map_err(|errors| fail(errors.to_string()))?;
    let mut context = Context::for_function(function);
    context.compile(isa, &mut ControlPlane::default()).map_err(|error| fail(format!("{:?}", error.inner)))?;
    let Some(code) = context.compiled_code() else { return Err(fail("has no code".to_owned())) };
    let mut bytes = code.code_buffer().to_vec();
    let entries = wide_loops::append(&mut bytes, &loops);
    for call in code.buffer.relocs() {
        wide_loops::link(&mut bytes, call, &entries, &context.func).ok_or_else(|| fail("needs a relocation".to_owned()))?;
    }
    Ok(bytes)
}

fn translate(kernel: VerifiedKernel<'_>, isa: &dyn TargetIsa, level: Level) -> (Function, Vec<WideLoop>) {
    let kernel = kernel.kernel();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([AbiParam::new(types::I64); 4]);
    let mut function = Function::with_name_signature(UserFuncName::testcase(&kernel.name), signature);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let params = builder.block_params(block).to_vec();
    let mut translator = Translator {
        builder,
        fma: level.has_fma(),
        width: level.width(),
        wide: Vec::new(),
        start: params[1],
        rows: params[2],
        functions: params[3],
        bases: Vec::new(),
        elements: kernel.buffers.iter().map(|arg| arg.ty).collect(),
        ids: kernel.buffers.iter().map(|arg| arg.id).collect(),
        regs: BTreeMap::new(),
        constants: BTreeMap::new(),
        accumulators: BTreeMap::new(),
        vars: BTreeMap::new(),
        vector: None,
        signatures: BTreeMap::new(),
    };
    for arg in &kernel.buffers {
        let base = translator.base(arg, params[0], params[1]);
        translator.bases.push(base);
    }
    translator.body(&kernel.body);
    translator.builder.ins().return_(&[]);
    let wide = std::mem::take(&mut translator.wide);
    translator.builder.finalize(isa.frontend_config());
    (function, wide)
}

/// A register's value: one number, or one for each lane of the open vector loop's vectors.
#[derive(Clone, Copy)]
struct Held {
    /// By vector; all the same where it is one number.
    values: [Value; MOST],
    ty: Type,
    lanes: bool,
}

impl Held {
    fn number(value: Value, ty: Type) -> Held {
        Held { values: [value; MOST], ty, lanes: false }
    }

    /// The one number.
    fn one(self) -> Value {
        self.values[0]
    }
}

/// An accumulator: a variable for each vector, or one.
#[derive(Clone)]
struct Sum {
    parts: Vec<Variable>,
    ty: Type,
    lanes: bool,
}

/// A loop whose iterations run side by side.
#[derive(Clone, Copy)]
struct VectorLoop {
    var: LoopVar,
    /// Vectors side by side.
    vectors: usize,
}

/// Instructions of this cost are not repeated for every round of a loop.
const DEAR: u32 = 6;

struct Translator<'f> {
    builder: FunctionBuilder<'f>,
    fma: bool,
    width: Option<Width>,
    /// Loops that are functions of their own.
    wide: Vec<WideLoop>,
    /// The call's first item.
    start: Value,
    rows: Value,
    functions: Value,
    bases: Vec<Value>,
    elements: Vec<Type>,
    /// The plan's buffers, of which one may be several of the kernel's.
    ids: Vec<BufferId>,
    regs: BTreeMap<Reg, Held>,
    /// Registers whose value is known.
    constants: BTreeMap<Reg, f64>,
    accumulators: BTreeMap<Reg, Sum>,
    vars: BTreeMap<LoopVar, Value>,
    vector: Option<VectorLoop>,
    /// Of the runtime's functions, by their number of arguments.
    signatures: BTreeMap<usize, SigRef>,
}

fn clif(ty: Type, lanes: bool) -> ClifType {
    match (ty, lanes) {
        (Type::F32 | Type::F16 | Type::I8, false) => types::F32,
        (Type::F32 | Type::F16 | Type::I8, true) => types::F32X4,
        (Type::F64, _) => types::F64,
        (Type::I32, false) => types::I32,
        (Type::I32, true) => types::I32X4,
        (Type::Bool, false) => types::I8,
        (Type::Bool, true) => types::I32X4,
    }
}

impl<'f> Translator<'f> {
    fn base(&mut self, arg: &BufferArg, pointers: Value, start: Value) -> Value {
        let base = self.builder.ins().load(types::I64, access(), pointers, (arg.id.0 * 8) as i32);
        if !arg.moves {
            return base;
        }
        let stride = self.builder.ins().iconst(types::I64, arg.item_stride * arg.ty.bytes());
        let offset = self.builder.ins().imul(start, stride);
        self.builder.ins().iadd(base, offset)
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { reg, ty, instr } => {
                    if let Instr::Const(value) = instr {
                        self.constants.insert(*reg, *value);
                    }
                    let held = self.instr(instr, *ty);
                    self.regs.insert(*reg, held);
                }
                Stmt::Accumulator { reg, ty, combine } => self.accumulator(*reg, *ty, *combine, self.vector.is_some()),
                Stmt::Accumulate { reg, combine, value } => self.accumulate(*reg, *combine, *value),
                Stmt::Store { buffer, index, value, accumulate } => self.store(*buffer, index, *value, *accumulate),
                Stmt::For { var, extent, vector, body } => self.nest(*var, extent, *vector, body),
                Stmt::MatMul(product) => self.product(product),
                Stmt::Partition(partition) => self.partition(partition),
            }
        }
    }

    fn lanes<'s>(&'s mut self, vector: bool) -> Lanes<'s, 'f> {
        Lanes { fma: self.fma, vector, builder: &mut self.builder }
    }

    fn accumulator(&mut self, reg: Reg, ty: Type, combine: Combine, lanes: bool) {
        let identity = if ty == Type::F64 {
            self.builder.ins().f64const(combine.identity())
        } else {
            self.lanes(lanes).constant(combine.identity() as f32)
        };
        let mut parts = Vec::new();
        for _ in 0..self.vectors(lanes) {
            let part = self.builder.declare_var(clif(ty, lanes));
            self.builder.def_var(part, identity);
            parts.push(part);
        }
        self.accumulators.insert(reg, Sum { parts, ty, lanes });
    }

    /// How many vectors hold a value.
    fn vectors(&self, lanes: bool) -> usize {
        self.vector.filter(|_| lanes).map_or(1, |vector| vector.vectors)
    }

    /// A value for each vector, or one.
    fn each(&mut self, lanes: bool, mut value: impl FnMut(&mut Self, usize) -> Value) -> [Value; MOST] {
        let mut values = [value(self, 0); MOST];
        for (at, own) in values.iter_mut().enumerate().take(self.vectors(lanes)).skip(1) {
            *own = value(self, at);
        }
        values
    }

    fn held(&mut self, reg: Reg) -> Held {
        if let Some(Sum { parts, ty, lanes }) = self.accumulators.get(&reg).cloned() {
            let values = self.each(lanes, |own, at| own.builder.use_var(parts[at]));
            return Held { values, ty, lanes };
        }
        self.regs[&reg]
    }

    /// A register's value with one number per lane, if `lanes`.
    fn widened(&mut self, reg: Reg, lanes: bool) -> [Value; MOST] {
        let held = self.held(reg);
        if !lanes || held.lanes {
            return held.values;
        }
        let one = held.one();
        let wide = match held.ty {
            Type::F32 | Type::F16 | Type::I8 => self.builder.ins().splat(types::F32X4, one),
            Type::I32 => self.builder.ins().splat(types::I32X4, one),
            Type::Bool => {
                let mask = self.builder.ins().bmask(types::I32, one);
                self.builder.ins().splat(types::I32X4, mask)
            }
            Type::F64 => one,
        };
        [wide; MOST]
    }

    fn combined(&mut self, combine: Combine, ty: Type, lanes: bool, a: Value, b: Value) -> Value {
        match (combine, ty) {
            (Combine::Add, _) => self.builder.ins().fadd(a, b),
            (Combine::Max, Type::F64) => self.builder.ins().fmax(a, b),
            (Combine::Min, Type::F64) => self.builder.ins().fmin(a, b),
            (Combine::Max, _) => self.lanes(lanes).max(a, b),
            (Combine::Min, _) => self.lanes(lanes).min(a, b),
        }
    }

    fn accumulate(&mut self, reg: Reg, combine: Combine, value: Reg) {
        let Some(Sum { parts, ty, lanes }) = self.accumulators.get(&reg).cloned() else { return };
        let values = self.widened(value, lanes);
        for (part, value) in parts.into_iter().zip(values) {
            let old = self.builder.use_var(part);
            let new = self.combined(combine, ty, lanes, old, value);
            self.builder.def_var(part, new);
        }
    }

    /// The byte address of an element, and whether it moves with the vector loop.
    fn address(&mut self, buffer: usize, index: &Affine) -> (Value, i32, bool) {
        let size = self.elements[buffer].bytes();
        let mut address = self.bases[buffer];
        let moves = self.vector.is_some_and(|vector| index.stride(vector.var) != 0);
        for &(term, stride) in &index.terms {
            let value = match term {
                Term::Var(var) => self.vars[&var],
                Term::Reg(reg) => {
                    let place = self.held(reg).one();
                    self.builder.ins().sextend(types::I64, place)
                }
            };
            let bytes = stride * size;
            let part = if bytes > 0 && (bytes as u64).is_power_of_two() {
                let shift = self.builder.ins().iconst(types::I64, i64::from(bytes.trailing_zeros()));
                self.builder.ins().ishl(value, shift)
            } else {
                let factor = self.builder.ins().iconst(types::I64, bytes);
                self.builder.ins().imul(value, factor)
            };
            address = self.builder.ins().iadd(address, part);
        }
        let offset = index.offset * size;
        match i32::try_from(offset) {
            Ok(offset) => (address, offset, moves),
            Err(_) => {
                let far = self.builder.ins().iconst(types::I64, offset);
                (self.builder.ins().iadd(address, far), 0, moves)
            }
        }
    }

    fn store(&mut self, buffer: usize, index: &Affine, value: Reg, accumulate: bool) {
        let (address, offset, lanes) = self.address(buffer, index);
        let ty = self.elements[buffer];
        let values = self.widened(value, lanes);
        for (at, mut value) in values.into_iter().enumerate().take(self.vectors(lanes)) {
            let offset = offset + step(ty, at);
            if accumulate {
                let old = self.builder.ins().load(clif(ty, lanes), access(), address, offset);
                value = self.builder.ins().fadd(old, value);
            }
            self.builder.ins().store(access(), value, address, offset);
        }
    }

    fn instr(&mut self, instr: &Instr, ty: Type) -> Held {
        match instr {
            Instr::Const(value) => {
                let value = match ty {
                    Type::F64 => self.builder.ins().f64const(*value),
                    Type::I32 => self.builder.ins().iconst(types::I32, *value as i64),
                    Type::F32 | Type::Bool | Type::F16 | Type::I8 => self.builder.ins().f32const(*value as f32),
                };
                Held::number(value, ty)
            }
            Instr::Load { buffer, index } if self.differs_by_lane(index) => self.gather(*buffer, index, ty),
            Instr::Load { buffer, index } => {
                let (address, offset, lanes) = self.address(*buffer, index);
                let element = self.elements[*buffer];
                let stride = self.vector.map_or(0, |vector| index.stride(vector.var));
                let values = self.each(lanes, |own, at| {
                    if lanes && stride != 1 {
                        let first = i64::from(offset) + at as i64 * LANES * stride * element.bytes();
                        return own.apart(element, |own, lane| {
                            let place = own.builder.ins().iadd_imm_s(address, first + i64::from(lane) * stride * element.bytes());
                            (place, 0)
                        });
                    }
                    let offset = offset + step(element, at);
                    match element {
                        Type::F16 => own.lanes(lanes).load_half(address, offset),
                        Type::I8 => own.lanes(lanes).load_byte(address, offset),
                        Type::I32 if lanes => own.builder.ins().load(types::I32X4, access(), address, offset),
                        _ => own.builder.ins().load(clif(element, lanes), access(), address, offset),
                    }
                });
                Held { values, ty, lanes }
            }
            Instr::Scalar(op, operands) => self.scalar(*op, operands, ty),
            Instr::RowKey { key, row } => {
                let (key, row) = (self.held(*key).one(), self.held(*row).one());
                let sum = self.builder.ins().iadd(row, key);
                let row_key = self.lanes(false).mix(sum);
                Held::number(self.pinned(row_key, types::I32), ty)
            }
            Instr::Random { row_key, element } => self.random(*row_key, element),
            Instr::AddInt(a, b) => {
                let (a, b) = (self.held(*a).one(), self.held(*b).one());
                Held::number(self.builder.ins().iadd(a, b), ty)
            }
            Instr::CountBetween(a, b) => self.by_lane(&[*a, *b], ty, |own, x, lanes| {
                let count = own.builder.ins().isub(x[0], x[1]);
                own.builder.ins().fcvt_from_sint(clif(Type::F32, lanes), count)
            }),
            Instr::Place(place) => self.place_number(place, ty),
            Instr::Clamp { number, begin, end } => self.by_lane(&[*number, *begin, *end], ty, |own, x, lanes| {
                let one = own.whole(1, lanes);
                let last = own.builder.ins().isub(x[2], one);
                let number = own.builder.ins().smin(x[0], last);
                own.builder.ins().smax(number, x[1])
            }),
            Instr::Choice(number, count) => {
                let last = i64::from(*count) - 1;
                self.by_lane(&[*number], ty, |own, x, lanes| {
                    let number = own.builder.ins().fcvt_to_sint_sat(clif(Type::I32, lanes), x[0]);
                    let (first, last) = (own.whole(0, lanes), own.whole(last, lanes));
                    let number = own.builder.ins().smax(number, first);
                    own.builder.ins().smin(number, last)
                })
            }
        }
    }

    /// An instruction on whole numbers, of all lanes where one of its operands has several.
    fn by_lane(&mut self, operands: &[Reg], ty: Type, value: impl Fn(&mut Self, &[Value], bool) -> Value) -> Held {
        let lanes = operands.iter().any(|&reg| self.held(reg).lanes);
        let x: Vec<[Value; MOST]> = operands.iter().map(|&reg| self.widened(reg, lanes)).collect();
        let values = self.each(lanes, |own, at| {
            let x: Vec<Value> = x.iter().map(|values| values[at]).collect();
            value(own, &x, lanes)
        });
        Held { values, ty, lanes }
    }

    /// A whole number in each lane.
    fn whole(&mut self, number: i64, lanes: bool) -> Value {
        let one = self.builder.ins().iconst(types::I32, number);
        if lanes { self.builder.ins().splat(types::I32X4, one) } else { one }
    }

    /// A place as a number, which steps with the vector loop.
    fn place_number(&mut self, place: &Affine, ty: Type) -> Held {
        let first = self.place(place);
        let first = self.builder.ins().ireduce(types::I32, first);
        let stride = self.vector.map_or(0, |vector| place.stride(vector.var));
        if stride == 0 {
            return Held::number(first, ty);
        }
        let first = self.builder.ins().splat(types::I32X4, first);
        let values = self.each(true, |own, at| {
            let at = at as i64 * LANES;
            let steps: Vec<u8> = (at..at + LANES).flat_map(|step| ((step * stride) as i32).to_le_bytes()).collect();
            let steps = own.builder.func.dfg.constants.insert(steps.into());
            let steps = own.builder.ins().vconst(types::I32X4, steps);
            own.builder.ins().iadd(first, steps)
        });
        Held { values, ty, lanes: true }
    }

    /// Whether an index holds a number that differs from lane to lane.
    fn differs_by_lane(&self, index: &Affine) -> bool {
        let lanes = |reg: &Reg| self.regs.get(reg).is_some_and(|held| held.lanes);
        index.terms.iter().any(|(term, _)| matches!(term, Term::Reg(reg) if lanes(reg)))
    }

    /// Elements at places of their own, one for each lane.
    fn gather(&mut self, buffer: usize, index: &Affine, ty: Type) -> Held {
        let (mut still, mut moving) = (Affine::constant(index.offset), None);
        for &(term, stride) in &index.terms {
            match term {
                Term::Reg(reg) if self.held(reg).lanes => moving = Some((reg, stride)),
                term => still.terms.push((term, stride)),
            }
        }
        let (address, offset, _) = self.address(buffer, &still);
        let element = self.elements[buffer];
        let Some((reg, stride)) = moving else { unreachable!("a gather by numbers that are the same in each lane") };
        let numbers = self.held(reg).values;
        let values = self.each(true, |own, at| {
            own.apart(element, |own, lane| {
                let number = own.builder.ins().extractlane(numbers[at], lane);
                let number = own.builder.ins().sextend(types::I64, number);
                let factor = own.builder.ins().iconst(types::I64, stride * element.bytes());
                let moved = own.builder.ins().imul(number, factor);
                (own.builder.ins().iadd(address, moved), offset)
            })
        });
        Held { values, ty, lanes: true }
    }

    /// Elements that lie apart, one for each lane, by the lane's address and an offset.
    fn apart(&mut self, element: Type, place: impl Fn(&mut Self, u8) -> (Value, i32)) -> Value {
        let zero = self.lanes(false).constant(0.0);
        let mut all = self.builder.ins().splat(types::F32X4, zero);
        for lane in 0..LANES as u8 {
            let (place, offset) = place(self, lane);
            let value = match element {
                Type::F16 => self.lanes(false).load_half(place, offset),
                Type::I8 => self.lanes(false).load_byte(place, offset),
                _ => self.builder.ins().load(types::F32, access(), place, offset),
            };
            all = self.builder.ins().insertlane(all, value, lane);
        }
        all
    }

    fn random(&mut self, row_key: Reg, element: &Affine) -> Held {
        let row_key = self.held(row_key).one();
        let lanes = self.vector.is_some_and(|vector| element.stride(vector.var) != 0);
        let number = self.place(element);
        let number = self.builder.ins().ireduce(types::I32, number);
        if !lanes {
            return Held::number(self.lanes(false).random(row_key, number), Type::F32);
        }
        let first = self.builder.ins().splat(types::I32X4, number);
        let row_key = self.builder.ins().splat(types::I32X4, row_key);
        let values = self.each(true, |own, at| {
            let at = at as i32 * LANES as i32;
            let steps: Vec<u8> = (at..at + LANES as i32).flat_map(i32::to_le_bytes).collect();
            let steps = own.builder.func.dfg.constants.insert(steps.into());
            let steps = own.builder.ins().vconst(types::I32X4, steps);
            let number = own.builder.ins().iadd(first, steps);
            own.lanes(true).random(row_key, number)
        });
        Held { values, ty: Type::F32, lanes }
    }

    /// A sum of loops' variables and integer registers.
    fn place(&mut self, place: &Affine) -> Value {
        let mut number = self.builder.ins().iconst(types::I64, place.offset);
        for &(term, stride) in &place.terms {
            let value = match term {
                Term::Var(var) => self.vars[&var],
                Term::Reg(reg) => {
                    let value = self.held(reg).one();
                    self.builder.ins().sextend(types::I64, value)
                }
            };
            let factor = self.builder.ins().iconst(types::I64, stride);
            let part = self.builder.ins().imul(value, factor);
            number = self.builder.ins().iadd(number, part);
        }
        number
    }

    /// A value through memory. Code without side effects is placed at its uses, also inside loops that it does not belong to;
    /// what is dear and computed before a loop stays before it this way. It is read as bits of another type, or the detour would be
    /// seen through.
    fn pinned(&mut self, value: Value, ty: ClifType) -> Value {
        let bits = if ty == types::F64 { types::I64 } else { types::I32 };
        let other = if ty.is_float() { bits } else { types::F32 };
        let slot = self.builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bits.bytes(), 3));
        self.builder.ins().stack_store(types::I64, value, slot, 0);
        let loaded = self.builder.ins().stack_load(types::I64, other, slot, 0);
        self.builder.ins().bitcast(ty, MemFlagsData::new(), loaded)
    }

    fn scalar(&mut self, op: ScalarOp, operands: &[Reg], ty: Type) -> Held {
        let held: Vec<Held> = operands.iter().map(|&reg| self.held(reg)).collect();
        let lanes = held.iter().any(|held| held.lanes);
        let wide = held.iter().any(|held| held.ty == Type::F64);
        let x: Vec<[Value; MOST]> = operands.iter().map(|&reg| self.widened(reg, lanes)).collect();
        let mut values = self.each(lanes, |own, at| {
            let x: Vec<Value> = x.iter().map(|values| values[at]).collect();
            own.scalar_value(op, &x, lanes, wide)
        });
        if op.cost() >= DEAR && !lanes && self.vector.is_none() {
            values = [self.pinned(values[0], clif(ty, false)); MOST];
        }
        Held { values, ty, lanes }
    }

    /// One instruction on numbers or on vectors; `wide` on 64 bits.
    fn scalar_value(&mut self, op: ScalarOp, x: &[Value], lanes: bool, wide: bool) -> Value {
        match op {
            ScalarOp::Min if wide => self.builder.ins().fmin(x[0], x[1]),
            ScalarOp::Max if wide => self.builder.ins().fmax(x[0], x[1]),
            ScalarOp::Widen => self.builder.ins().fpromote(types::F64, x[0]),
            ScalarOp::Narrow => self.builder.ins().fdemote(types::F32, x[0]),
            // Of the others only those that work on any width are for 64 bits: the checker allows no exponentials there.
            op => self.lanes(lanes).scalar(op, x),
        }
    }

    fn nest(&mut self, var: LoopVar, extent: &Extent, vector: bool, body: &[Stmt]) {
        let zero = self.builder.ins().iconst(types::I64, 0);
        let (begin, end) = match extent {
            Extent::Items => (zero, self.rows),
            Extent::Fixed(n) => (zero, self.builder.ins().iconst(types::I64, *n as i64)),
            Extent::Between(begin, end) => {
                let (begin, end) = (self.held(*begin).one(), self.held(*end).one());
                (self.builder.ins().sextend(types::I64, begin), self.builder.ins().sextend(types::I64, end))
            }
        };
        if !vector {
            if !self.wide_nest(var, extent, body) {
                self.run(var, begin, end, 1, body);
            }
            return;
        }
        if self.wide_loop(var, extent, (begin, end), body) {
            return;
        }
        let mut done = begin;
        let mut rest = if let Extent::Fixed(n) = extent { Some(*n as i64) } else { None };
        for vectors in widths(body, extent, &self.elements) {
            let step = LANES * vectors as i64;
            let mask = self.builder.ins().iconst(types::I64, -step);
            let left = self.builder.ins().isub(end, done);
            let rounds = self.builder.ins().band(left, mask);
            let whole = self.builder.ins().iadd(done, rounds);
            self.vector_loop(VectorLoop { var, vectors }, done, whole, rest.is_some_and(|rest| rest / step == 1), body);
            done = whole;
            rest = rest.map(|rest| rest % step);
        }
        if rest != Some(0) {
            self.run(var, done, end, 1, body);
        }
    }

    /// Vectors of iterations at a time, in one round if `once`; sums begun outside are kept in parts and added in order at the end.
    fn vector_loop(&mut self, vector: VectorLoop, begin: Value, end: Value, once: bool, body: &[Stmt]) {
        self.vector = Some(vector);
        let mut saved = Vec::new();
        for (reg, combine) in sums_of_outside(body.iter()) {
            if let Some(known) = self.accumulators.get(&reg).cloned()
                && known.ty == Type::F32
            {
                saved.push((reg, combine, known.parts[0]));
                self.accumulator(reg, Type::F32, combine, true);
            }
        }
        if once {
            self.vars.insert(vector.var, begin);
            self.body(body);
        } else {
            self.run(vector.var, begin, end, LANES * vector.vectors as i64, body);
        }
        self.vector = None;
        for (reg, combine, total) in saved {
            let known = Sum { parts: vec![total], ty: Type::F32, lanes: false };
            let Some(Sum { parts, .. }) = self.accumulators.insert(reg, known) else { continue };
            let parts: Vec<Value> = parts.into_iter().map(|part| self.builder.use_var(part)).collect();
            self.add_parts(total, combine, &parts);
        }
    }

    /// Adds the lanes of a loop's partial sums to what was there before it, in order.
    fn add_parts(&mut self, total: Variable, combine: Combine, parts: &[Value]) {
        let lanes = parts[1..].iter().fold(parts[0], |sum, &part| self.combined(combine, Type::F32, true, sum, part));
        let mut sum = self.builder.use_var(total);
        for lane in 0..LANES as u8 {
            let part = self.builder.ins().extractlane(lanes, lane);
            sum = self.combined(combine, Type::F32, false, sum, part);
        }
        self.builder.def_var(total, sum);
    }

    fn run(&mut self, var: LoopVar, begin: Value, end: Value, step: i64, body: &[Stmt]) {
        self.count(begin, end, step, |own, at| {
            own.vars.insert(var, at);
            own.body(body);
        });
    }

    /// A loop from one number to another.
    fn count(&mut self, begin: Value, end: Value, step: i64, body: impl FnOnce(&mut Self, Value)) {
        let head = self.builder.create_block();
        let inside = self.builder.create_block();
        let after = self.builder.create_block();
        let at = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[BlockArg::Value(begin)]);
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp(IntCC::SignedLessThan, at, end);
        self.builder.ins().brif(more, inside, &[], after, &[]);
        self.builder.switch_to_block(inside);
        self.builder.seal_block(inside);
        body(self, at);
        let step = self.builder.ins().iconst(types::I64, step);
        let next = self.builder.ins().iadd(at, step);
        self.builder.ins().jump(head, &[BlockArg::Value(next)]);
        self.builder.seal_block(head);
        self.builder.switch_to_block(after);
        self.builder.seal_block(after);
    }
}

/// Bytes from the first vector's elements to those of another.
fn step(ty: Type, vector: usize) -> i32 {
    (ty.bytes() * LANES) as i32 * vector as i32
}

/// How many vectors run side by side, in the loops that follow one another: few instructions leave registers for many.
fn widths(body: &[Stmt], extent: &Extent, elements: &[Type]) -> Vec<usize> {
    let side_by_side = match instructions(body, elements) {
        0..=8 => MOST,
        9..=16 => 2,
        _ => 1,
    };
    let Extent::Fixed(n) = extent else {
        return if side_by_side > 1 { vec![side_by_side, 1] } else { vec![1] };
    };
    let whole = (*n / LANES as u64) as usize;
    let mut widths = Vec::new();
    let mut left = whole;
    let mut width = side_by_side;
    while left > 0 {
        if width <= left {
            widths.push(width);
            left %= width;
        }
        width /= 2;
    }
    widths
}

/// Instructions of a body, by what they cost.
fn instructions(body: &[Stmt], elements: &[Type]) -> u32 {
    let cost = |stmt: &Stmt| match stmt {
        Stmt::Let { instr: Instr::Scalar(op, _), .. } => op.cost(),
        Stmt::Let { instr: Instr::Random { .. } | Instr::Choice(..) | Instr::Clamp { .. }, .. } => 16,
        // Widening takes a few.
        Stmt::Let { instr: Instr::Load { buffer, .. }, .. } if elements[*buffer].loaded() != elements[*buffer] => 12,
        Stmt::Let { .. } | Stmt::Accumulate { .. } | Stmt::Store { .. } => 1,
        Stmt::For { body, .. } => instructions(body, elements),
        Stmt::Accumulator { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => 0,
    };
    body.iter().map(cost).sum()
}
