//! Matrix products: calls of the runtime.

use super::Translator;
use crate::lanes::access;
use cranelift_codegen::ir::{AbiParam, InstBuilder as _, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use recc_abi::{STORED_F16, STORED_I8};
use recc_core::loops::{ItemStrides, MatMul, Matrix, Size, Type};

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
        let signature = match self.matmul {
            Some(known) => known,
            None => {
                let mut signature = Signature::new(CallConv::SystemV);
                signature.params = vec![AbiParam::new(types::I64); args.len()];
                let known = self.builder.import_signature(signature);
                self.matmul = Some(known);
                known
            }
        };
        let callee = self.builder.ins().load(types::I64, access(), self.functions, 0);
        self.builder.ins().call_indirect(signature, callee, &args);
    }
}
