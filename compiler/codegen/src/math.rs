//! Exponentials and logarithms as polynomials, on one `f32` or on four at a time: the same operations, so the same bits.
//!
//! Coefficients are those of the Cephes library (Moshier); errors are a few units in the last place. `exp` overflows to infinity
//! above 88.37 and is zero below -87.33.

#![allow(clippy::excessive_precision, reason = "coefficients are written as they are published")]

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder as _, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Arithmetic on `f32` or `f32x4`.
pub(crate) struct Lanes<'b, 'f> {
    pub(crate) builder: &'b mut FunctionBuilder<'f>,
    pub(crate) vector: bool,
    pub(crate) fma: bool,
}

impl Lanes<'_, '_> {
    fn float(&self) -> Type {
        if self.vector { types::F32X4 } else { types::F32 }
    }

    fn int(&self) -> Type {
        if self.vector { types::I32X4 } else { types::I32 }
    }

    pub(crate) fn constant(&mut self, value: f32) -> Value {
        let scalar = self.builder.ins().f32const(value);
        if self.vector { self.builder.ins().splat(types::F32X4, scalar) } else { scalar }
    }

    pub(crate) fn int_constant(&mut self, value: i32) -> Value {
        let scalar = self.builder.ins().iconst(types::I32, i64::from(value as u32));
        if self.vector { self.builder.ins().splat(types::I32X4, scalar) } else { scalar }
    }

    fn bits(&mut self, value: Value) -> Value {
        let flags = little_endian();
        let ty = self.int();
        self.builder.ins().bitcast(ty, flags, value)
    }

    fn float_of(&mut self, bits: Value) -> Value {
        let flags = little_endian();
        let ty = self.float();
        self.builder.ins().bitcast(ty, flags, bits)
    }

    fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.fma {
            return self.builder.ins().fma(a, b, c);
        }
        let product = self.builder.ins().fmul(a, b);
        self.builder.ins().fadd(product, c)
    }

    fn add_constant(&mut self, a: Value, b: f32) -> Value {
        let b = self.constant(b);
        self.builder.ins().fadd(a, b)
    }

    fn mul_constant(&mut self, a: Value, b: f32) -> Value {
        let b = self.constant(b);
        self.builder.ins().fmul(a, b)
    }

    /// 16-bit floats as 32-bit ones; none is infinite.
    pub(crate) fn load_half(&mut self, address: Value, offset: i32) -> Value {
        let half = match self.vector {
            true => self.builder.ins().uload16x4(access(), address, offset),
            false => self.builder.ins().uload16(types::I32, access(), address, offset),
        };
        let thirteen = self.builder.ins().iconst(types::I32, 13);
        let sixteen = self.builder.ins().iconst(types::I32, 16);
        let size_bits = self.int_constant(0x7fff);
        let size = self.builder.ins().band(half, size_bits);
        let shifted = self.builder.ins().ishl(size, thirteen);
        let bias = self.int_constant((127 - 15) << 23);
        let normal = self.builder.ins().iadd(shifted, bias);
        let normal = self.float_of(normal);
        // Below the least normal one the bits are a multiple of 2^-24: made exact by taking the bias off as a number.
        let one_more = self.int_constant((127 - 14) << 23);
        let small = self.builder.ins().iadd(shifted, one_more);
        let small = self.float_of(small);
        let small = self.add_constant(small, -f32::from_bits((127 - 14) << 23));
        let least = self.constant(f32::from_bits((127 - 14) << 23));
        let is_small = self.compare(FloatCC::LessThan, normal, least);
        let value = self.select(is_small, small, normal);
        let sign_bit = self.int_constant(0x8000);
        let sign = self.builder.ins().band(half, sign_bit);
        let sign = self.builder.ins().ishl(sign, sixteen);
        let bits = self.bits(value);
        let signed = self.builder.ins().bor(bits, sign);
        self.float_of(signed)
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

    /// Polynomial, highest power first.
    fn polynomial(&mut self, x: Value, coefficients: &[f32]) -> Value {
        let mut sum = self.constant(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            let c = self.constant(coefficient);
            sum = self.mul_add(sum, x, c);
        }
        sum
    }

    pub(crate) fn compare(&mut self, code: FloatCC, a: Value, b: Value) -> Value {
        if self.vector && !self.fma {
            // Without AVX Cranelift folds unaligned loads into `cmpps`, which faults on them. Adding -0 changes no value, and
            // its result is no load.
            let nothing = self.constant(-0.0);
            let (a, b) = (self.builder.ins().fadd(a, nothing), self.builder.ins().fadd(b, nothing));
            return self.builder.ins().fcmp(code, a, b);
        }
        self.builder.ins().fcmp(code, a, b)
    }

    /// `a` where `condition` holds, else `b`.
    pub(crate) fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        if self.vector {
            let mask = self.float_of(condition);
            return self.builder.ins().bitselect(mask, a, b);
        }
        self.builder.ins().select(condition, a, b)
    }

    /// The larger; NaN if either is.
    pub(crate) fn max(&mut self, a: Value, b: Value) -> Value {
        let greater = self.compare(FloatCC::GreaterThan, a, b);
        let larger = self.select(greater, a, b);
        self.keep_nan(a, larger)
    }

    /// The smaller; NaN if either is.
    pub(crate) fn min(&mut self, a: Value, b: Value) -> Value {
        let less = self.compare(FloatCC::LessThan, a, b);
        let smaller = self.select(less, a, b);
        self.keep_nan(a, smaller)
    }

    fn keep_nan(&mut self, a: Value, other: Value) -> Value {
        let nan = self.compare(FloatCC::Unordered, a, a);
        self.select(nan, a, other)
    }

    pub(crate) fn exp(&mut self, x: Value) -> Value {
        let high = self.constant(88.376_26);
        let low = self.constant(-87.336_54);
        let over = self.compare(FloatCC::GreaterThan, x, high);
        let under = self.compare(FloatCC::LessThan, x, low);
        // n = round(x / ln 2): adding 1.5·2^23 leaves the integer in the low bits.
        let magic = self.constant(12_582_912.0);
        let log2e = self.constant(std::f32::consts::LOG2_E);
        let shifted = self.mul_add(x, log2e, magic);
        let n = self.builder.ins().fsub(shifted, magic);
        let minus_high = self.constant(-0.693_359_4);
        let minus_low = self.constant(2.121_944_4e-4);
        let r = self.mul_add(n, minus_high, x);
        let r = self.mul_add(n, minus_low, r);
        let poly = self.polynomial(r, &[1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
        let square = self.builder.ins().fmul(r, r);
        let sum = self.mul_add(poly, square, r);
        let sum = self.add_constant(sum, 1.0);
        let bits = self.bits(shifted);
        let twenty_three = self.builder.ins().iconst(types::I32, 23);
        let exponent = self.builder.ins().ishl(bits, twenty_three);
        let sum_bits = self.bits(sum);
        let scaled_bits = self.builder.ins().iadd(sum_bits, exponent);
        let scaled = self.float_of(scaled_bits);
        let infinity = self.constant(f32::INFINITY);
        let zero = self.constant(0.0);
        let value = self.select(over, infinity, scaled);
        let value = self.select(under, zero, value);
        self.keep_nan(x, value)
    }

    pub(crate) fn log(&mut self, x: Value) -> Value {
        let bits = self.bits(x);
        // The mantissa in [√½, √2) and the exponent that goes with it.
        let offset = self.int_constant(0x3f35_04f3);
        let shifted = self.builder.ins().isub(bits, offset);
        let twenty_three = self.builder.ins().iconst(types::I32, 23);
        let exponent = self.builder.ins().sshr(shifted, twenty_three);
        let exponent_bits = self.builder.ins().ishl(exponent, twenty_three);
        let mantissa_bits = self.builder.ins().isub(bits, exponent_bits);
        let m = self.float_of(mantissa_bits);
        let m = self.add_constant(m, -1.0);
        let float = self.float();
        let e = self.builder.ins().fcvt_from_sint(float, exponent);
        let z = self.builder.ins().fmul(m, m);
        let poly = self.polynomial(
            m,
            &[
                7.037_683_6e-2,
                -1.151_461e-1,
                1.167_699_9e-1,
                -1.242_014_1e-1,
                1.424_932_3e-1,
                -1.666_805_7e-1,
                2.000_071_5e-1,
                -2.499_999_4e-1,
                3.333_333_1e-1,
            ],
        );
        let y = self.builder.ins().fmul(m, z);
        let y = self.builder.ins().fmul(poly, y);
        let low = self.constant(-2.121_944_4e-4);
        let y = self.mul_add(e, low, y);
        let minus_half = self.constant(-0.5);
        let y = self.mul_add(z, minus_half, y);
        let sum = self.builder.ins().fadd(m, y);
        let high = self.constant(0.693_359_4);
        let value = self.mul_add(e, high, sum);
        let zero = self.constant(0.0);
        let positive = self.compare(FloatCC::GreaterThan, x, zero);
        let is_zero = self.compare(FloatCC::Equal, x, zero);
        let infinity = self.constant(f32::INFINITY);
        let is_infinite = self.compare(FloatCC::Equal, x, infinity);
        let minus_infinity = self.constant(f32::NEG_INFINITY);
        let nan = self.constant(f32::NAN);
        let rest = self.select(is_zero, minus_infinity, nan);
        let value = self.select(positive, value, rest);
        self.select(is_infinite, x, value)
    }

    /// ln(1 + x): the logarithm of the rounded sum, corrected by what rounding lost (Kahan).
    pub(crate) fn log1p(&mut self, x: Value) -> Value {
        let u = self.add_constant(x, 1.0);
        let log = self.log(u);
        let kept = self.add_constant(u, -1.0);
        let ratio = self.builder.ins().fdiv(x, kept);
        let value = self.builder.ins().fmul(log, ratio);
        let one = self.constant(1.0);
        let lost = self.compare(FloatCC::Equal, u, one);
        let value = self.select(lost, x, value);
        // 0/0 and ∞/∞ above.
        let zero = self.constant(0.0);
        let at_edge = self.compare(FloatCC::Equal, u, zero);
        let value = self.select(at_edge, log, value);
        let infinity = self.constant(f32::INFINITY);
        let infinite = self.compare(FloatCC::Equal, u, infinity);
        self.select(infinite, u, value)
    }

    pub(crate) fn sigmoid(&mut self, x: Value) -> Value {
        let minus = self.builder.ins().fneg(x);
        let e = self.exp(minus);
        let sum = self.add_constant(e, 1.0);
        let one = self.constant(1.0);
        self.builder.ins().fdiv(one, sum)
    }

    pub(crate) fn tanh(&mut self, x: Value) -> Value {
        let size = self.builder.ins().fabs(x);
        let double = self.mul_constant(size, 2.0);
        let e = self.exp(double);
        let sum = self.add_constant(e, 1.0);
        let two = self.constant(-2.0);
        let part = self.builder.ins().fdiv(two, sum);
        let large = self.add_constant(part, 1.0);
        // The size is not negative, so its sign bit is free.
        let sign_bit = self.int_constant(i32::MIN);
        let own_bits = self.bits(x);
        let sign = self.builder.ins().band(own_bits, sign_bit);
        let large_bits = self.bits(large);
        let signed = self.builder.ins().bor(large_bits, sign);
        let large = self.float_of(signed);
        let z = self.builder.ins().fmul(x, x);
        let poly = self.polynomial(z, &[-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
        let product = self.builder.ins().fmul(poly, z);
        let small = self.mul_add(product, x, x);
        let limit = self.constant(0.625);
        let near = self.compare(FloatCC::LessThan, size, limit);
        self.select(near, small, large)
    }

    pub(crate) fn softplus(&mut self, x: Value) -> Value {
        let size = self.builder.ins().fabs(x);
        let minus = self.builder.ins().fneg(size);
        let e = self.exp(minus);
        let rest = self.log1p(e);
        let zero = self.constant(0.0);
        let positive = self.max(x, zero);
        self.builder.ins().fadd(positive, rest)
    }

    /// Mixes 32 bits: the function `recc_core::ops::random::mix` states.
    pub(crate) fn mix(&mut self, x: Value) -> Value {
        let x = self.xor_shift(x, 16);
        let factor = self.int_constant(0x7feb_352d);
        let x = self.builder.ins().imul(x, factor);
        let x = self.xor_shift(x, 15);
        let factor = self.int_constant(0x846c_a68b_u32 as i32);
        let x = self.builder.ins().imul(x, factor);
        self.xor_shift(x, 16)
    }

    fn xor_shift(&mut self, x: Value, by: i64) -> Value {
        let by = self.builder.ins().iconst(types::I32, by);
        let shifted = self.builder.ins().ushr(x, by);
        self.builder.ins().bxor(x, shifted)
    }

    /// The random number of an element, whose number is given per lane.
    pub(crate) fn random(&mut self, row_key: Value, element: Value) -> Value {
        let factor = self.int_constant(0x9e37_79b9_u32 as i32);
        let spread = self.builder.ins().imul(element, factor);
        let bits = self.builder.ins().bxor(spread, row_key);
        let bits = self.mix(bits);
        let eight = self.builder.ins().iconst(types::I32, 8);
        let bits = self.builder.ins().ushr(bits, eight);
        let float = self.float();
        let number = self.builder.ins().fcvt_from_sint(float, bits);
        self.mul_constant(number, 1.0 / 16_777_216.0)
    }
}

/// Bit casts between vectors must say a byte order.
fn little_endian() -> cranelift_codegen::ir::MemFlagsData {
    cranelift_codegen::ir::MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little)
}

/// Addresses are inside buffers the runtime allocated; alignment is that of an element only.
pub(crate) fn access() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
