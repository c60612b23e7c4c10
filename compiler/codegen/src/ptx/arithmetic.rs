//! Arithmetic in PTX, for one thread.

use super::code::{Class, Code, Value};
use crate::math::{Arithmetic, Comparison};

impl Code {
    /// An instruction on two or more numbers of one type.
    fn float(&mut self, name: &str, operands: &[Value]) -> Value {
        let class = operands[0].class();
        self.set(class, &format!("{name}.{}", class.suffix()), operands)
    }

    fn truth(&mut self, name: &str, operands: &[Value]) -> Value {
        self.set(Class::Truth, name, operands)
    }
}

/// Additions and products are rounded each (`.rn`): without that, the driver may join them.
impl Arithmetic for Code {
    type Value = Value;

    fn constant(&mut self, value: f32) -> Value {
        Value::F32(value)
    }
    fn int_constant(&mut self, value: i32) -> Value {
        Value::Int(value)
    }
    fn add(&mut self, a: Value, b: Value) -> Value {
        self.float("add.rn", &[a, b])
    }
    fn sub(&mut self, a: Value, b: Value) -> Value {
        self.float("sub.rn", &[a, b])
    }
    fn mul(&mut self, a: Value, b: Value) -> Value {
        self.float("mul.rn", &[a, b])
    }
    fn div(&mut self, a: Value, b: Value) -> Value {
        self.float("div.rn", &[a, b])
    }
    fn sqrt(&mut self, a: Value) -> Value {
        self.float("sqrt.rn", &[a])
    }
    fn neg(&mut self, a: Value) -> Value {
        self.float("neg", &[a])
    }
    fn abs(&mut self, a: Value) -> Value {
        self.float("abs", &[a])
    }
    fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.float("fma.rn", &[a, b, c])
    }
    fn compare(&mut self, comparison: Comparison, a: Value, b: Value) -> Value {
        let name = match comparison {
            Comparison::Less => "lt",
            Comparison::LessOrEqual => "le",
            Comparison::Greater => "gt",
            Comparison::Equal => "eq",
            Comparison::Unordered => "nan",
            Comparison::LessOrUnordered => "ltu",
            Comparison::GreaterOrUnordered => "gtu",
        };
        self.truth(&format!("setp.{name}.{}", a.class().suffix()), &[a, b])
    }
    fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let class = a.class();
        if class == Class::Truth {
            let (yes, no) = (self.both(condition, a), self.not(condition));
            let no = self.both(no, b);
            return self.either(yes, no);
        }
        self.set(class, &format!("selp.{}", class.suffix()), &[a, b, condition])
    }
    fn both(&mut self, a: Value, b: Value) -> Value {
        self.truth("and.pred", &[a, b])
    }
    fn either(&mut self, a: Value, b: Value) -> Value {
        self.truth("or.pred", &[a, b])
    }
    fn not(&mut self, a: Value) -> Value {
        self.truth("not.pred", &[a])
    }
    fn bits(&mut self, number: Value) -> Value {
        match number {
            Value::F32(number) => Value::Int(number.to_bits().cast_signed()),
            number => self.int("mov.b32", &[number]),
        }
    }
    fn number_of(&mut self, bits: Value) -> Value {
        match bits {
            Value::Int(bits) => Value::F32(f32::from_bits(bits.cast_unsigned())),
            bits => self.set(Class::F32, "mov.b32", &[bits]),
        }
    }
    fn float_of(&mut self, integer: Value) -> Value {
        self.set(Class::F32, "cvt.rn.f32.s32", &[integer])
    }
    fn int_add(&mut self, a: Value, b: Value) -> Value {
        self.int("add.s32", &[a, b])
    }
    fn int_sub(&mut self, a: Value, b: Value) -> Value {
        self.int("sub.s32", &[a, b])
    }
    fn int_mul(&mut self, a: Value, b: Value) -> Value {
        self.int("mul.lo.s32", &[a, b])
    }
    fn bit_and(&mut self, a: Value, b: Value) -> Value {
        self.int("and.b32", &[a, b])
    }
    fn bit_or(&mut self, a: Value, b: Value) -> Value {
        self.int("or.b32", &[a, b])
    }
    fn bit_xor(&mut self, a: Value, b: Value) -> Value {
        self.int("xor.b32", &[a, b])
    }
    fn shift_left(&mut self, a: Value, by: u8) -> Value {
        self.int("shl.b32", &[a, Value::Int(i32::from(by))])
    }
    fn shift_right(&mut self, a: Value, by: u8) -> Value {
        self.int("shr.u32", &[a, Value::Int(i32::from(by))])
    }
    fn shift_right_signed(&mut self, a: Value, by: u8) -> Value {
        self.int("shr.s32", &[a, Value::Int(i32::from(by))])
    }
}
