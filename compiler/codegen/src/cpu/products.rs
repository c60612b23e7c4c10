//! Matrix products and softmaxes over tables: calls of the runtime.

use super::Translator;
use crate::lanes::access;
use cranelift_codegen::ir::{AbiParam, InstBuilder as _, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use recc_abi::{KernelFunctions, PartitionPart, STORED_F16, STORED_I8};
use recc_core::loops::{ItemStrides, MatMul, Matrix, Partition, Size, Type, Vectors};
use std::mem::offset_of;

/// What a matrix product is for: an item, or all of them with the first one's number, and the entries.
#[derive(Clone, Copy)]
struct Run {
    item: Value,
    begin: Value,
    end: Value,
}

impl Translator<'_> {
    fn size(&mut self, size: Size, run: Run) -> Value {
        let (count, factor) = match size {
            Size::Fixed(n) => return self.builder.ins().iconst(types::I64, n),
            Size::Items(factor) => (self.rows, factor),
            Size::Entries(factor) => (self.builder.ins().isub(run.end, run.begin), factor),
        };
        let factor = self.builder.ins().iconst(types::I64, factor);
        self.builder.ins().imul(count, factor)
    }

    /// The address of a matrix of an item, or of the first.
    fn matrix(&mut self, matrix: &Matrix, item_stride: i64, run: Run) -> Value {
        let bytes = self.elements[matrix.buffer].bytes();
        let mut address = self.builder.ins().iadd_imm_s(self.bases[matrix.buffer], matrix.offset * bytes);
        for (number, stride) in [(run.item, item_stride), (run.begin, matrix.entry)] {
            if stride != 0 {
                let factor = self.builder.ins().iconst(types::I64, stride * bytes);
                let moved = self.builder.ins().imul(number, factor);
                address = self.builder.ins().iadd(address, moved);
            }
        }
        address
    }

    /// Where an item's entries begin.
    fn begin_of(&mut self, begins: usize, item: Value) -> Value {
        let offset = self.builder.ins().ishl_imm_s(item, 2);
        let address = self.builder.ins().iadd(self.bases[begins], offset);
        let begin = self.builder.ins().load(types::I32, access(), address, 0);
        self.builder.ins().sextend(types::I64, begin)
    }

    pub(super) fn product(&mut self, product: &MatMul) {
        let zero = self.builder.ins().iconst(types::I64, 0);
        let one = self.builder.ins().iconst(types::I64, 1);
        let nothing = ItemStrides { dst: 0, a: 0, b: 0 };
        let Some(each) = product.each else {
            let (begin, end) = match product.entries {
                Some(begins) => (self.begin_of(begins, zero), self.begin_of(begins, self.rows)),
                None => (zero, zero),
            };
            return self.call_product(product, nothing, Run { item: zero, begin, end }, (one, nothing));
        };
        if product.entries.is_none() && product.heads.is_none() {
            let run = Run { item: zero, begin: zero, end: zero };
            return self.call_product(product, nothing, run, (self.rows, each));
        }
        let rows = self.rows;
        self.count(zero, rows, 1, |own, item| {
            let run = match product.entries {
                Some(begins) => {
                    let begin = own.begin_of(begins, item);
                    let next = own.builder.ins().iadd_imm_s(item, 1);
                    Run { item, begin, end: own.begin_of(begins, next) }
                }
                None => Run { item, begin: zero, end: zero },
            };
            let (times, apart) = product.heads.unwrap_or((1, nothing));
            let times = own.builder.ins().iconst(types::I64, times);
            own.call_product(product, each, run, (times, apart));
        });
    }

    /// Calls the runtime for some products side by side.
    fn call_product(&mut self, product: &MatMul, item: ItemStrides, run: Run, (times, each): (Value, ItemStrides)) {
        let mut args = vec![self.functions, self.size(product.m, run), self.size(product.n, run), self.size(product.k, run)];
        args.push(self.matrix(&product.dst, item.dst, run));
        args.push(self.builder.ins().iconst(types::I64, product.dst.row));
        for (matrix, stride) in [(&product.a, item.a), (&product.b, item.b)] {
            args.push(self.matrix(matrix, stride, run));
            args.push(self.builder.ins().iconst(types::I64, matrix.row));
            args.push(self.builder.ins().iconst(types::I64, matrix.column));
        }
        args.push(self.builder.ins().iconst(types::I64, i64::from(product.accumulate)));
        args.push(times);
        let stored = match self.elements[product.b.buffer] {
            Type::F16 => STORED_F16,
            Type::I8 => STORED_I8,
            _ => 0,
        };
        let last = [each.dst, each.a, each.b, i64::from(product.bf16), stored];
        args.extend(last.map(|value| self.builder.ins().iconst(types::I64, value)));
        args.push(match product.scales {
            Some(scales) => self.bases[scales],
            None => self.builder.ins().iconst(types::I64, 0),
        });
        self.call(offset_of!(KernelFunctions, matmul), &args);
    }

    /// Calls a function of the runtime by its place among them.
    fn call(&mut self, function: usize, args: &[Value]) {
        let signature = match self.signatures.get(&args.len()) {
            Some(known) => *known,
            None => {
                let mut signature = Signature::new(CallConv::SystemV);
                signature.params = vec![AbiParam::new(types::I64); args.len()];
                let known = self.builder.import_signature(signature);
                self.signatures.insert(args.len(), known);
                known
            }
        };
        let callee = self.builder.ins().load(types::I64, access(), self.functions, function as i32);
        self.builder.ins().call_indirect(signature, callee, args);
    }

    pub(super) fn partition(&mut self, partition: &Partition) {
        let zero = self.builder.ins().iconst(types::I64, 0);
        let (begin, end) = match partition.entries {
            Some(begins) => (self.begin_of(begins, zero), self.begin_of(begins, self.rows)),
            None => (zero, zero),
        };
        let run = Run { item: zero, begin, end };
        let items = self.size(partition.items, run);
        let others = self.begin_of(partition.others, zero);
        let (queries, rows, first) = match partition.part {
            PartitionPart::LogSums | PartitionPart::MeanRows => (items, others, zero),
            PartitionPart::SumsOfQueries => (others, items, self.start),
        };
        let numbers = [partition.part as i64, partition.width].map(|number| self.builder.ins().iconst(types::I64, number));
        let [log_sums, factors] = match &partition.sums {
            Some(sums) => sums.map(|own| self.first_of(own, run)),
            None => [zero; 2],
        };
        let [query, row, dst] = [partition.queries, partition.rows, partition.dst].map(|own| self.first_of(own, run));
        let args = [numbers[0], numbers[1], queries, rows, first, query, row, log_sums, factors, dst];
        self.call(offset_of!(KernelFunctions, partition), &args);
    }

    /// The address of an item's numbers, or of the first entry's.
    fn first_of(&mut self, own: Vectors, run: Run) -> Value {
        let matrix = Matrix { buffer: own.buffer, offset: 0, row: 0, column: 1, entry: own.entry };
        self.matrix(&matrix, 0, run)
    }
}
