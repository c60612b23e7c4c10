//! Instructions from registers to a register, on their bits.

use half::{bf16, f16};

/// What an instruction computes from up to three operands.
pub(crate) type Evaluate = fn(u64, u64, u64) -> u64;

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn of_single(value: f32) -> u64 {
    u64::from(value.to_bits())
}

fn int(bits: u64) -> i32 {
    bits as u32 as i32
}

fn of_int(value: i32) -> u64 {
    u64::from(value as u32)
}

/// A product of integers as wide as an address.
fn wide(a: u64, b: u64) -> u64 {
    (i64::from(int(a)) * i64::from(int(b))) as u64
}

/// The two factors of a word, the first one in its lower half.
pub(crate) fn pair(word: u64) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| bf16::from_bits(bits).to_f32())
}

/// What an instruction computes, by its name without the registers.
pub(crate) fn evaluate(name: &str) -> Option<Evaluate> {
    Some(match name {
        "mov.b32" | "mov.u32" | "mov.f32" => |a, _, _| a & 0xffff_ffff,
        "mov.b64" | "mov.f64" => |a, _, _| a,
        "add.rn.f32" => |a, b, _| of_single(single(a) + single(b)),
        "sub.rn.f32" => |a, b, _| of_single(single(a) - single(b)),
        "mul.rn.f32" => |a, b, _| of_single(single(a) * single(b)),
        "div.rn.f32" => |a, b, _| of_single(single(a) / single(b)),
        "fma.rn.f32" => |a, b, c| of_single(single(a).mul_add(single(b), single(c))),
        "sqrt.rn.f32" => |a, _, _| of_single(single(a).sqrt()),
        "neg.f32" => |a, _, _| of_single(-single(a)),
        "abs.f32" => |a, _, _| of_single(single(a).abs()),
        "add.rn.f64" => |a, b, _| (double(a) + double(b)).to_bits(),
        "sub.rn.f64" => |a, b, _| (double(a) - double(b)).to_bits(),
        "mul.rn.f64" => |a, b, _| (double(a) * double(b)).to_bits(),
        "div.rn.f64" => |a, b, _| (double(a) / double(b)).to_bits(),
        "fma.rn.f64" => |a, b, c| double(a).mul_add(double(b), double(c)).to_bits(),
        "sqrt.rn.f64" => |a, _, _| double(a).sqrt().to_bits(),
        "neg.f64" => |a, _, _| (-double(a)).to_bits(),
        "abs.f64" => |a, _, _| double(a).abs().to_bits(),
        "add.s32" => |a, b, _| of_int(int(a).wrapping_add(int(b))),
        "sub.s32" => |a, b, _| of_int(int(a).wrapping_sub(int(b))),
        "mul.lo.s32" => |a, b, _| of_int(int(a).wrapping_mul(int(b))),
        "mad.lo.s32" => |a, b, c| of_int(int(a).wrapping_mul(int(b)).wrapping_add(int(c))),
        "min.s32" => |a, b, _| of_int(int(a).min(int(b))),
        "max.s32" => |a, b, _| of_int(int(a).max(int(b))),
        // What a device gives for a division by 0 is not defined.
        "div.u32" => |a, b, _| u64::from((a as u32).checked_div(b as u32).unwrap_or(u32::MAX)),
        "rem.u32" => |a, b, _| u64::from((a as u32).checked_rem(b as u32).unwrap_or(u32::MAX)),
        "and.b32" | "and.pred" => |a, b, _| a & b,
        "or.b32" | "or.pred" => |a, b, _| a | b,
        "xor.b32" => |a, b, _| a ^ b,
        "not.pred" => |a, _, _| a ^ 1,
        "shl.b32" => |a, b, _| u64::from((a as u32).checked_shl(b as u32).unwrap_or(0)),
        "shr.u32" => |a, b, _| u64::from((a as u32).checked_shr(b as u32).unwrap_or(0)),
        "shr.s32" => |a, b, _| of_int(int(a) >> (b as u32).min(31)),
        "add.s64" => |a, b, _| a.wrapping_add(b),
        "mad.lo.s64" => |a, b, c| a.wrapping_mul(b).wrapping_add(c),
        "mul.wide.s32" => |a, b, _| wide(a, b),
        "mad.wide.s32" => |a, b, c| wide(a, b).wrapping_add(c),
        "cvt.u32.u64" => |a, _, _| a & 0xffff_ffff,
        "cvt.s64.s32" => |a, _, _| i64::from(int(a)) as u64,
        "cvt.rn.bf16x2.f32" => |a, b, _| {
            let half = |bits| u64::from(bf16::from_f32(single(bits)).to_bits());
            half(a) << 16 | half(b)
        },
        "cvt.f32.f16" => |a, _, _| of_single(f16::from_bits(a as u16).to_f32()),
        "cvt.rn.f32.s32" => |a, _, _| of_single(int(a) as f32),
        // What is no number becomes 0, and what lies outside the nearest there is: as Rust has it.
        "cvt.rzi.s32.f32" => |a, _, _| of_int(single(a) as i32),
        "cvt.f64.f32" => |a, _, _| f64::from(single(a)).to_bits(),
        "cvt.rn.f32.f64" => |a, _, _| of_single(double(a) as f32),
        "selp.b32" | "selp.f32" | "selp.f64" | "selp.b64" => |a, b, c| if c & 1 == 1 { a } else { b },
        "setp.lt.f32" => |a, b, _| u64::from(single(a) < single(b)),
        "setp.le.f32" => |a, b, _| u64::from(single(a) <= single(b)),
        "setp.gt.f32" => |a, b, _| u64::from(single(a) > single(b)),
        "setp.eq.f32" => |a, b, _| u64::from(single(a) == single(b)),
        "setp.nan.f32" => |a, b, _| u64::from(single(a).is_nan() || single(b).is_nan()),
        "setp.ltu.f32" => |a, b, _| u64::from(single(a).partial_cmp(&single(b)).is_none_or(std::cmp::Ordering::is_lt)),
        "setp.gtu.f32" => |a, b, _| u64::from(single(a).partial_cmp(&single(b)).is_none_or(std::cmp::Ordering::is_gt)),
        "setp.lt.f64" => |a, b, _| u64::from(double(a) < double(b)),
        "setp.le.f64" => |a, b, _| u64::from(double(a) <= double(b)),
        "setp.gt.f64" => |a, b, _| u64::from(double(a) > double(b)),
        "setp.eq.f64" => |a, b, _| u64::from(double(a) == double(b)),
        "setp.nan.f64" => |a, b, _| u64::from(double(a).is_nan() || double(b).is_nan()),
        "setp.lt.s32" => |a, b, _| u64::from(int(a) < int(b)),
        "setp.le.s32" => |a, b, _| u64::from(int(a) <= int(b)),
        "setp.ge.s32" => |a, b, _| u64::from(int(a) >= int(b)),
        "setp.eq.s32" => |a, b, _| u64::from(int(a) == int(b)),
        _ => return None,
    })
}
