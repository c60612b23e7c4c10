//! Arithmetic in Cranelift IR, on one `f32` or on four.

use crate::math::{Arithmetic, Comparison};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{Endianness, InstBuilder as _, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Arithmetic on `f32` or `f32x4`.
pub(crate) struct Lanes<'b, 'f> {
    pub(crate) builder: &'b mut FunctionBuilder<'f>,
    pub(crate) vector: bool,
    pub(crate) fma: bool,
}

impl Arithmetic for Lanes<'_, '_> {
    type Value = Value;

    fn constant(&mut self, value: f32) -> Value {
        let scalar = self.builder.ins().f32const(value);
        if self.vector { self.builder.ins().splat(types::F32X4, scalar) } else { scalar }
    }

    fn int_constant(&mut self, value: i32) -> Value {
        let scalar = self.builder.ins().iconst(types::I32, i64::from(value as u32));
        if self.vector { self.builder.ins().splat(types::I32X4, scalar) } else { scalar }
    }

    fn add(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fadd(a, b)
    }

    fn sub(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fsub(a, b)
    }

    fn mul(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fmul(a, b)
    }

    fn div(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().fdiv(a, b)
    }

    fn sqrt(&mut self, a: Value) -> Value {
        self.builder.ins().sqrt(a)
    }

    fn neg(&mut self, a: Value) -> Value {
        self.builder.ins().fneg(a)
    }

    fn abs(&mut self, a: Value) -> Value {
        self.builder.ins().fabs(a)
    }

    fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.fma {
            return self.builder.ins().fma(a, b, c);
        }
        let product = self.builder.ins().fmul(a, b);
        self.builder.ins().fadd(product, c)
    }

    fn compare(&mut self, comparison: Comparison, a: Value, b: Value) -> Value {
        let code = match comparison {
            Comparison::Less => FloatCC::LessThan,
            Comparison::LessOrEqual => FloatCC::LessThanOrEqual,
            Comparison::Greater => FloatCC::GreaterThan,
            Comparison::Equal => FloatCC::Equal,
            Comparison::Unordered => FloatCC::Unordered,
            Comparison::LessOrUnordered => FloatCC::UnorderedOrLessThan,
            Comparison::GreaterOrUnordered => FloatCC::UnorderedOrGreaterThan,
        };
        if self.vector && !self.fma {
            // Without AVX Cranelift folds unaligned loads into `cmpps`, which faults on them. Adding -0 changes no value, and
            // its result is no load.
            let nothing = self.constant(-0.0);
            let (a, b) = (self.builder.ins().fadd(a, nothing), self.builder.ins().fadd(b, nothing));
            return self.builder.ins().fcmp(code, a, b);
        }
        self.builder.ins().fcmp(code, a, b)
    }

    fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        if self.vector {
            let mask = self.number_of(condition);
            return self.builder.ins().bitselect(mask, a, b);
        }
        self.builder.ins().select(condition, a, b)
    }

    fn both(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().band(a, b)
    }

    fn either(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().bor(a, b)
    }

    fn not(&mut self, a: Value) -> Value {
        if self.vector {
            return self.builder.ins().bnot(a);
        }
        let one = self.builder.ins().iconst(types::I8, 1);
        self.builder.ins().bxor(a, one)
    }

    fn bits(&mut self, number: Value) -> Value {
        let ty = self.int();
        self.builder.ins().bitcast(ty, little_endian(), number)
    }

    fn number_of(&mut self, bits: Value) -> Value {
        let ty = self.float();
        self.builder.ins().bitcast(ty, little_endian(), bits)
    }

    fn float_of(&mut self, integer: Value) -> Value {
        let ty = self.float();
        self.builder.ins().fcvt_from_sint(ty, integer)
    }

    fn int_add(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().iadd(a, b)
    }

    fn int_sub(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().isub(a, b)
    }

    fn int_mul(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().imul(a, b)
    }

    fn bit_and(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().band(a, b)
    }

    fn bit_or(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().bor(a, b)
    }

    fn bit_xor(&mut self, a: Value, b: Value) -> Value {
        self.builder.ins().bxor(a, b)
    }

    fn shift_left(&mut self, a: Value, by: u8) -> Value {
        let by = self.builder.ins().iconst(types::I32, i64::from(by));
        self.builder.ins().ishl(a, by)
    }

    fn shift_right(&mut self, a: Value, by: u8) -> Value {
        let by = self.builder.ins().iconst(types::I32, i64::from(by));
        self.builder.ins().ushr(a, by)
    }

    fn shift_right_signed(&mut self, a: Value, by: u8) -> Value {
        let by = self.builder.ins().iconst(types::I32, i64::from(by));
        self.builder.ins().sshr(a, by)
    }
}

impl Lanes<'_, '_> {
    fn float(&self) -> Type {
        if self.vector { types::F32X4 } else { types::F32 }
    }

    fn int(&self) -> Type {
        if self.vector { types::I32X4 } else { types::I32 }
    }

    /// 16-bit floats as 32-bit ones; none is infinite.
    pub(crate) fn load_half(&mut self, address: Value, offset: i32) -> Value {
        let half = match self.vector {
            true => self.builder.ins().uload16x4(access(), address, offset),
            false => self.builder.ins().uload16(types::I32, access(), address, offset),
        };
        let size_bits = self.int_constant(0x7fff);
        let size = self.bit_and(half, size_bits);
        let shifted = self.shift_left(size, 13);
        let bias = self.int_constant((127 - 15) << 23);
        let normal = self.int_add(shifted, bias);
        let normal = self.number_of(normal);
        // Below the least normal one the bits are a multiple of 2^-24: made exact by taking the bias off as a number.
        let one_more = self.int_constant((127 - 14) << 23);
        let small = self.int_add(shifted, one_more);
        let small = self.number_of(small);
        let small = self.add_constant(small, -f32::from_bits((127 - 14) << 23));
        let least = self.constant(f32::from_bits((127 - 14) << 23));
        let is_small = self.compare(Comparison::Less, normal, least);
        let value = self.select(is_small, small, normal);
        let sign_bit = self.int_constant(0x8000);
        let sign = self.bit_and(half, sign_bit);
        let sign = self.shift_left(sign, 16);
        let bits = self.bits(value);
        let signed = self.bit_or(bits, sign);
        self.number_of(signed)
    }

    /// 8-bit integers as floats.
    pub(crate) fn load_byte(&mut self, address: Value, offset: i32) -> Value {
        if !self.vector {
            let byte = self.builder.ins().sload8(types::I32, access(), address, offset);
            return self.builder.ins().fcvt_from_sint(types::F32, byte);
        }
        let four = self.builder.ins().load(types::I32, access(), address, offset);
        let four = self.builder.ins().scalar_to_vector(types::I32X4, four);
        let bytes = self.builder.ins().bitcast(types::I8X16, little_endian(), four);
        let words = self.builder.ins().swiden_low(bytes);
        let words = self.builder.ins().swiden_low(words);
        self.builder.ins().fcvt_from_sint(types::F32X4, words)
    }
}

/// Bit casts between vectors must say a byte order.
fn little_endian() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// Addresses are inside buffers the runtime allocated; alignment is that of an element only.
pub(crate) fn access() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
