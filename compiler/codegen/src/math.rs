//! Scalar instructions, exponentials and logarithms by operations that every back end has, on one `f32` or on several at a time: the
//! same operations, so the same bits.
//!
//! Coefficients are those of the Cephes library (Moshier); errors are a few units in the last place. `exp` overflows to infinity
//! above 88.37 and is zero below -87.33.

#![allow(clippy::excessive_precision, reason = "coefficients are written as they are published")]

use recc_core::scalar::ScalarOp;

/// What two numbers are compared for; false if either is NaN, but for those that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    Equal,
    /// Either is NaN.
    Unordered,
    /// Less, or either is NaN.
    LessOrUnordered,
    /// Greater, or either is NaN.
    GreaterOrUnordered,
}

/// Operations on `f32`, 32-bit integers and truth values, one or several side by side.
pub(crate) trait Arithmetic {
    /// A number, an integer or a truth value.
    type Value: Copy;

    fn constant(&mut self, value: f32) -> Self::Value;
    fn int_constant(&mut self, value: i32) -> Self::Value;

    fn add(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn sub(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn mul(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn div(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn sqrt(&mut self, a: Self::Value) -> Self::Value;
    fn neg(&mut self, a: Self::Value) -> Self::Value;
    fn abs(&mut self, a: Self::Value) -> Self::Value;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(&mut self, a: Self::Value, b: Self::Value, c: Self::Value) -> Self::Value;
    /// The larger; NaN if either is, and `b` if they are equal.
    fn max(&mut self, a: Self::Value, b: Self::Value) -> Self::Value {
        let greater = self.compare(Comparison::Greater, a, b);
        let larger = self.select(greater, a, b);
        self.keep_nan(a, larger)
    }
    /// The smaller; NaN if either is, and `b` if they are equal.
    fn min(&mut self, a: Self::Value, b: Self::Value) -> Self::Value {
        let less = self.compare(Comparison::Less, a, b);
        let smaller = self.select(less, a, b);
        self.keep_nan(a, smaller)
    }

    fn compare(&mut self, comparison: Comparison, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a` where `condition` holds, else `b`.
    fn select(&mut self, condition: Self::Value, a: Self::Value, b: Self::Value) -> Self::Value;
    fn both(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn either(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn not(&mut self, a: Self::Value) -> Self::Value;

    /// A number's bits as an integer.
    fn bits(&mut self, number: Self::Value) -> Self::Value;
    /// The number of some bits.
    fn number_of(&mut self, bits: Self::Value) -> Self::Value;
    /// An integer as a number.
    fn float_of(&mut self, integer: Self::Value) -> Self::Value;
    fn int_add(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn int_sub(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn int_mul(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn bit_and(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn bit_or(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn bit_xor(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn shift_left(&mut self, a: Self::Value, by: u8) -> Self::Value;
    /// Zeroes come in.
    fn shift_right(&mut self, a: Self::Value, by: u8) -> Self::Value;
    /// The sign comes in.
    fn shift_right_signed(&mut self, a: Self::Value, by: u8) -> Self::Value;

    /// A scalar instruction on `f32` and truth values.
    fn scalar(&mut self, op: ScalarOp, x: &[Self::Value]) -> Self::Value {
        match op {
            ScalarOp::Add => self.add(x[0], x[1]),
            ScalarOp::Sub => self.sub(x[0], x[1]),
            ScalarOp::Mul => self.mul(x[0], x[1]),
            ScalarOp::Div => self.div(x[0], x[1]),
            ScalarOp::Neg => self.neg(x[0]),
            ScalarOp::Abs => self.abs(x[0]),
            ScalarOp::Sqrt => self.sqrt(x[0]),
            ScalarOp::Min => self.min(x[0], x[1]),
            ScalarOp::Max => self.max(x[0], x[1]),
            ScalarOp::Exp => self.exp(x[0]),
            ScalarOp::Log => self.log(x[0]),
            ScalarOp::Log1p => self.log1p(x[0]),
            ScalarOp::Sigmoid => self.sigmoid(x[0]),
            ScalarOp::Tanh => self.tanh(x[0]),
            ScalarOp::Softplus => self.softplus(x[0]),
            ScalarOp::Sin => self.sine(x[0], 0),
            ScalarOp::Cos => self.sine(x[0], 1),
            ScalarOp::Atan2 => self.atan2(x[0], x[1]),
            ScalarOp::Lt => self.compare(Comparison::Less, x[0], x[1]),
            ScalarOp::Le => self.compare(Comparison::LessOrEqual, x[0], x[1]),
            ScalarOp::Eq => self.compare(Comparison::Equal, x[0], x[1]),
            ScalarOp::And => self.both(x[0], x[1]),
            ScalarOp::Or => self.either(x[0], x[1]),
            ScalarOp::Not => self.not(x[0]),
            ScalarOp::Select => self.select(x[0], x[1], x[2]),
            ScalarOp::Widen | ScalarOp::Narrow => unreachable!("{} has 64 bits on one side", op.name()),
        }
    }

    /// `other`, but `a` where that is NaN.
    fn keep_nan(&mut self, a: Self::Value, other: Self::Value) -> Self::Value {
        let nan = self.compare(Comparison::Unordered, a, a);
        self.select(nan, a, other)
    }

    fn add_constant(&mut self, a: Self::Value, b: f32) -> Self::Value {
        let b = self.constant(b);
        self.add(a, b)
    }

    fn mul_constant(&mut self, a: Self::Value, b: f32) -> Self::Value {
        let b = self.constant(b);
        self.mul(a, b)
    }

    /// Polynomial, highest power first.
    fn polynomial(&mut self, x: Self::Value, coefficients: &[f32]) -> Self::Value {
        let mut sum = self.constant(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            let c = self.constant(coefficient);
            sum = self.mul_add(sum, x, c);
        }
        sum
    }

    fn exp(&mut self, x: Self::Value) -> Self::Value {
        let high = self.constant(88.376_26);
        let low = self.constant(-87.336_54);
        let over = self.compare(Comparison::Greater, x, high);
        let under = self.compare(Comparison::Less, x, low);
        // n = round(x / ln 2): adding 1.5·2^23 leaves the integer in the low bits.
        let magic = self.constant(12_582_912.0);
        let log2e = self.constant(std::f32::consts::LOG2_E);
        let shifted = self.mul_add(x, log2e, magic);
        let n = self.sub(shifted, magic);
        let minus_high = self.constant(-0.693_359_4);
        let minus_low = self.constant(2.121_944_4e-4);
        let r = self.mul_add(n, minus_high, x);
        let r = self.mul_add(n, minus_low, r);
        let poly = self.polynomial(r, &[1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
        let square = self.mul(r, r);
        let sum = self.mul_add(poly, square, r);
        let sum = self.add_constant(sum, 1.0);
        let bits = self.bits(shifted);
        let exponent = self.shift_left(bits, 23);
        let sum_bits = self.bits(sum);
        let scaled = self.int_add(sum_bits, exponent);
        let scaled = self.number_of(scaled);
        let infinity = self.constant(f32::INFINITY);
        let zero = self.constant(0.0);
        let value = self.select(over, infinity, scaled);
        let value = self.select(under, zero, value);
        self.keep_nan(x, value)
    }

    fn log(&mut self, x: Self::Value) -> Self::Value {
        let bits = self.bits(x);
        // The mantissa in [√½, √2) and the exponent that goes with it.
        let offset = self.int_constant(0x3f35_04f3);
        let shifted = self.int_sub(bits, offset);
        let exponent = self.shift_right_signed(shifted, 23);
        let exponent_bits = self.shift_left(exponent, 23);
        let mantissa = self.int_sub(bits, exponent_bits);
        let m = self.number_of(mantissa);
        let m = self.add_constant(m, -1.0);
        let e = self.float_of(exponent);
        let z = self.mul(m, m);
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
        let y = self.mul(m, z);
        let y = self.mul(poly, y);
        let low = self.constant(-2.121_944_4e-4);
        let y = self.mul_add(e, low, y);
        let minus_half = self.constant(-0.5);
        let y = self.mul_add(z, minus_half, y);
        let sum = self.add(m, y);
        let high = self.constant(0.693_359_4);
        let value = self.mul_add(e, high, sum);
        let zero = self.constant(0.0);
        let positive = self.compare(Comparison::Greater, x, zero);
        let is_zero = self.compare(Comparison::Equal, x, zero);
        let infinity = self.constant(f32::INFINITY);
        let is_infinite = self.compare(Comparison::Equal, x, infinity);
        let minus_infinity = self.constant(f32::NEG_INFINITY);
        let nan = self.constant(f32::NAN);
        let rest = self.select(is_zero, minus_infinity, nan);
        let value = self.select(positive, value, rest);
        self.select(is_infinite, x, value)
    }

    /// ln(1 + x): the logarithm of the rounded sum, corrected by what rounding lost (Kahan).
    fn log1p(&mut self, x: Self::Value) -> Self::Value {
        let u = self.add_constant(x, 1.0);
        let log = self.log(u);
        let kept = self.add_constant(u, -1.0);
        let ratio = self.div(x, kept);
        let value = self.mul(log, ratio);
        let one = self.constant(1.0);
        let lost = self.compare(Comparison::Equal, u, one);
        let value = self.select(lost, x, value);
        // 0/0 and ∞/∞ above.
        let zero = self.constant(0.0);
        let at_edge = self.compare(Comparison::Equal, u, zero);
        let value = self.select(at_edge, log, value);
        let infinity = self.constant(f32::INFINITY);
        let infinite = self.compare(Comparison::Equal, u, infinity);
        self.select(infinite, u, value)
    }

    fn sigmoid(&mut self, x: Self::Value) -> Self::Value {
        let minus = self.neg(x);
        let e = self.exp(minus);
        let sum = self.add_constant(e, 1.0);
        let one = self.constant(1.0);
        self.div(one, sum)
    }

    fn tanh(&mut self, x: Self::Value) -> Self::Value {
        let size = self.abs(x);
        let double = self.mul_constant(size, 2.0);
        let e = self.exp(double);
        let sum = self.add_constant(e, 1.0);
        let two = self.constant(-2.0);
        let part = self.div(two, sum);
        let large = self.add_constant(part, 1.0);
        // The size is not negative, so its sign bit is free.
        let sign_bit = self.int_constant(i32::MIN);
        let own_bits = self.bits(x);
        let sign = self.bit_and(own_bits, sign_bit);
        let large_bits = self.bits(large);
        let signed = self.bit_or(large_bits, sign);
        let large = self.number_of(signed);
        let z = self.mul(x, x);
        let poly = self.polynomial(z, &[-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
        let product = self.mul(poly, z);
        let small = self.mul_add(product, x, x);
        let limit = self.constant(0.625);
        let near = self.compare(Comparison::Less, size, limit);
        self.select(near, small, large)
    }

    fn softplus(&mut self, x: Self::Value) -> Self::Value {
        let size = self.abs(x);
        let minus = self.neg(size);
        let e = self.exp(minus);
        let rest = self.log1p(e);
        let zero = self.constant(0.0);
        let positive = self.max(x, zero);
        self.add(positive, rest)
    }

    /// The sine of an angle and some quarters of a turn; NaN of what is not finite. Angles beyond some ten thousand lose
    /// accuracy, and from some millions on all but the range from -1 to 1.
    fn sine(&mut self, x: Self::Value, quarters: i32) -> Self::Value {
        // As in `exp`, the nearest number of quarters of a turn is left in the low bits.
        let magic = self.constant(12_582_912.0);
        let per_quarter = self.constant(std::f32::consts::FRAC_2_PI);
        let shifted = self.mul_add(x, per_quarter, magic);
        let n = self.sub(shifted, magic);
        let mut r = x;
        for part in [-1.570_312_5, -4.837_512_969_970_703e-4, -7.549_789_948_768_648e-8] {
            let part = self.constant(part);
            r = self.mul_add(n, part, r);
        }
        // Of an angle so large that its quarters have no exact number what is left would lie outside the polynomials.
        let (least, most) = (self.constant(-0.79), self.constant(0.79));
        let r = self.max(r, least);
        let r = self.min(r, most);
        let z = self.mul(r, r);
        let poly = self.polynomial(z, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
        let cube = self.mul(z, r);
        let odd = self.mul_add(poly, cube, r);
        let poly = self.polynomial(z, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
        let fourth = self.mul(z, z);
        let minus_half = self.constant(-0.5);
        let one = self.constant(1.0);
        let even = self.mul_add(z, minus_half, one);
        let even = self.mul_add(poly, fourth, even);
        let bits = self.bits(shifted);
        let first = self.int_constant(quarters);
        let quarter = self.int_add(bits, first);
        // The lowest bit as the sign of one, the next one as the sign of the result.
        let lowest = self.shift_left(quarter, 31);
        let one_bits = self.int_constant(1.0f32.to_bits() as i32);
        let choice = self.bit_or(lowest, one_bits);
        let choice = self.number_of(choice);
        let zero = self.constant(0.0);
        let is_even = self.compare(Comparison::Less, choice, zero);
        let value = self.select(is_even, even, odd);
        let sign = self.shift_right(quarter, 1);
        let sign = self.shift_left(sign, 31);
        let value = self.bits(value);
        let value = self.bit_xor(value, sign);
        self.number_of(value)
    }

    /// The angle of a point, by the arc tangent of the smaller coordinate over the larger.
    fn atan2(&mut self, y: Self::Value, x: Self::Value) -> Self::Value {
        let (high, wide) = (self.abs(y), self.abs(x));
        let (small, large) = (self.min(high, wide), self.max(high, wide));
        let (zero, one) = (self.constant(0.0), self.constant(1.0));
        // Neither 0/0 nor ∞/∞ has a value; their angles have.
        let same = self.compare(Comparison::Equal, small, large);
        let ratio = self.div(small, large);
        let ratio = self.select(same, one, ratio);
        let nothing = self.compare(Comparison::Equal, large, zero);
        let ratio = self.select(nothing, zero, ratio);
        // Above tan(π/8): atan(t) = π/4 + atan((t - 1) / (t + 1)).
        let limit = self.constant(0.414_213_57);
        let near_one = self.compare(Comparison::Greater, ratio, limit);
        let (less, more) = (self.add_constant(ratio, -1.0), self.add_constant(ratio, 1.0));
        let moved = self.div(less, more);
        let t = self.select(near_one, moved, ratio);
        let eighth = self.constant(std::f32::consts::FRAC_PI_4);
        let base = self.select(near_one, eighth, zero);
        let z = self.mul(t, t);
        let poly = self.polynomial(z, &[8.053_745e-2, -1.387_768_6e-1, 1.997_771_1e-1, -3.333_295e-1]);
        let cube = self.mul(z, t);
        let angle = self.mul_add(poly, cube, t);
        let angle = self.add(base, angle);
        let quarter = self.constant(std::f32::consts::FRAC_PI_2);
        let rest = self.sub(quarter, angle);
        let steep = self.compare(Comparison::Greater, high, wide);
        let angle = self.select(steep, rest, angle);
        let half = self.constant(std::f32::consts::PI);
        let rest = self.sub(half, angle);
        // By the signs' bits: zeroes have them too.
        let sign_bit = self.int_constant(i32::MIN);
        let one_bits = self.int_constant(1.0f32.to_bits() as i32);
        let own = self.bits(x);
        let own = self.bit_and(own, sign_bit);
        let own = self.bit_or(own, one_bits);
        let own = self.number_of(own);
        let left = self.compare(Comparison::Less, own, zero);
        let angle = self.select(left, rest, angle);
        let sign = self.bits(y);
        let sign = self.bit_and(sign, sign_bit);
        let bits = self.bits(angle);
        let signed = self.bit_or(bits, sign);
        self.number_of(signed)
    }

    /// Mixes 32 bits: the function `recc_core::ops::random::mix` states.
    fn mix(&mut self, x: Self::Value) -> Self::Value {
        let x = self.xor_shift(x, 16);
        let factor = self.int_constant(0x7feb_352d);
        let x = self.int_mul(x, factor);
        let x = self.xor_shift(x, 15);
        let factor = self.int_constant(0x846c_a68b_u32 as i32);
        let x = self.int_mul(x, factor);
        self.xor_shift(x, 16)
    }

    fn xor_shift(&mut self, x: Self::Value, by: u8) -> Self::Value {
        let shifted = self.shift_right(x, by);
        self.bit_xor(x, shifted)
    }

    /// The random number of an element, whose number is given per lane.
    fn random(&mut self, row_key: Self::Value, element: Self::Value) -> Self::Value {
        let factor = self.int_constant(0x9e37_79b9_u32 as i32);
        let spread = self.int_mul(element, factor);
        let bits = self.bit_xor(spread, row_key);
        let bits = self.mix(bits);
        let bits = self.shift_right(bits, 8);
        let number = self.float_of(bits);
        self.mul_constant(number, 1.0 / 16_777_216.0)
    }
}
