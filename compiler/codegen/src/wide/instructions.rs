//! The processor's instructions by what they do, for both widths.

use super::Width;
use super::code::{Binary, Logic, Shift, Unary};
use crate::math::Comparison;
use iced_x86::{Code, Register};

/// How `a * b + c` overwrites one of its operands.
#[derive(Clone, Copy)]
pub(super) enum MulAdd {
    /// The first becomes `first * third + second`; the third may lie in memory.
    Times132,
    /// The first becomes `second * first + third`.
    Times213,
    /// The first becomes `second * third + first`.
    Times231,
}

impl Width {
    fn pick(self, ymm: Code, zmm: Code) -> Code {
        match self {
            Width::Ymm => ymm,
            Width::Zmm => zmm,
        }
    }

    /// Vector registers, the first ones first.
    pub(super) fn vectors(self) -> Vec<Register> {
        let (first, count) = match self {
            Width::Ymm => (Register::YMM0, 16),
            Width::Zmm => (Register::ZMM0, 32),
        };
        (0..count).map(|at| first + at).collect()
    }

    /// Registers for truth values; narrow vectors have none of their own. The first mask register means "all lanes" and the second
    /// holds the lanes of the last iterations.
    pub(super) fn masks(self) -> Vec<Register> {
        match self {
            Width::Ymm => Vec::new(),
            Width::Zmm => (2..8).map(|at| Register::K0 + at).collect(),
        }
    }

    pub(super) fn binary(self, op: Binary) -> Code {
        match op {
            Binary::Add => self.pick(Code::VEX_Vaddps_ymm_ymm_ymmm256, Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er),
            Binary::Sub => self.pick(Code::VEX_Vsubps_ymm_ymm_ymmm256, Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er),
            Binary::Mul => self.pick(Code::VEX_Vmulps_ymm_ymm_ymmm256, Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er),
            Binary::Div => self.pick(Code::VEX_Vdivps_ymm_ymm_ymmm256, Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er),
            Binary::Min => self.pick(Code::VEX_Vminps_ymm_ymm_ymmm256, Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae),
            Binary::Max => self.pick(Code::VEX_Vmaxps_ymm_ymm_ymmm256, Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae),
            Binary::And => self.pick(Code::VEX_Vandps_ymm_ymm_ymmm256, Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32),
            Binary::Or => self.pick(Code::VEX_Vorps_ymm_ymm_ymmm256, Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32),
            Binary::Xor => self.pick(Code::VEX_Vxorps_ymm_ymm_ymmm256, Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32),
            Binary::AddInt => self.pick(Code::VEX_Vpaddd_ymm_ymm_ymmm256, Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32),
            Binary::SubInt => self.pick(Code::VEX_Vpsubd_ymm_ymm_ymmm256, Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32),
            Binary::MulInt => self.pick(Code::VEX_Vpmulld_ymm_ymm_ymmm256, Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32),
            Binary::MinInt => self.pick(Code::VEX_Vpminsd_ymm_ymm_ymmm256, Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32),
            Binary::MaxInt => self.pick(Code::VEX_Vpmaxsd_ymm_ymm_ymmm256, Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32),
        }
    }

    pub(super) fn mul_add(self, form: MulAdd) -> Code {
        match form {
            MulAdd::Times132 => self.pick(Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er),
            MulAdd::Times213 => self.pick(Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er),
            MulAdd::Times231 => self.pick(Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er),
        }
    }

    pub(super) fn unary(self, op: Unary) -> Code {
        match op {
            Unary::Sqrt => self.pick(Code::VEX_Vsqrtps_ymm_ymmm256, Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er),
            Unary::FloatOfInt => self.pick(Code::VEX_Vcvtdq2ps_ymm_ymmm256, Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er),
            Unary::IntOfFloat => self.pick(Code::VEX_Vcvttps2dq_ymm_ymmm256, Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae),
        }
    }

    pub(super) fn shift(self, op: Shift) -> Code {
        match op {
            Shift::Left => self.pick(Code::VEX_Vpslld_ymm_ymm_imm8, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8),
            Shift::Right => self.pick(Code::VEX_Vpsrld_ymm_ymm_imm8, Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8),
            Shift::RightSigned => self.pick(Code::VEX_Vpsrad_ymm_ymm_imm8, Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8),
        }
    }

    pub(super) fn compare(self) -> Code {
        self.pick(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae)
    }

    pub(super) fn logic(self, op: Logic) -> Code {
        match op {
            Logic::And => self.pick(Code::VEX_Vandps_ymm_ymm_ymmm256, Code::VEX_Kandw_kr_kr_kr),
            Logic::Or => self.pick(Code::VEX_Vorps_ymm_ymm_ymmm256, Code::VEX_Korw_kr_kr_kr),
            Logic::Not => self.pick(Code::VEX_Vxorps_ymm_ymm_ymmm256, Code::VEX_Knotw_kr_kr),
        }
    }

    pub(super) fn load(self) -> Code {
        self.pick(Code::VEX_Vmovups_ymm_ymmm256, Code::EVEX_Vmovups_zmm_k1z_zmmm512)
    }

    pub(super) fn store(self) -> Code {
        self.pick(Code::VEX_Vmovups_ymmm256_ymm, Code::EVEX_Vmovups_zmmm512_k1z_zmm)
    }

    /// The first lane to memory.
    pub(super) fn store_one(self) -> Code {
        self.pick(Code::VEX_Vmovss_m32_xmm, Code::EVEX_Vmovss_m32_k1_xmm)
    }

    /// The number of a vector register.
    pub(super) fn number(self, register: Register) -> u32 {
        register as u32 - self.vectors()[0] as u32
    }

    /// Turns the lanes by a power of two. Narrow vectors whose halves are alike turn by less than a half inside of each.
    pub(super) fn turn(self, by: u8) -> (Code, u32) {
        match (self, by) {
            (Width::Zmm, by) => (Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8, u32::from(by)),
            (Width::Ymm, 4) => (Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, 1),
            (Width::Ymm, 2) => (Code::VEX_Vpermilps_ymm_ymmm256_imm8, 0b01_00_11_10),
            (Width::Ymm, _) => (Code::VEX_Vpermilps_ymm_ymmm256_imm8, 0b00_11_10_01),
        }
    }

    pub(super) fn copy(self) -> Code {
        self.pick(Code::VEX_Vmovaps_ymm_ymmm256, Code::EVEX_Vmovaps_zmm_k1z_zmmm512)
    }

    /// A number in memory in all lanes.
    pub(super) fn spread(self) -> Code {
        self.pick(Code::VEX_Vbroadcastss_ymm_m32, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32)
    }
}

/// The number by which the instruction knows a comparison.
pub(super) fn predicate(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Equal => 0,
        Comparison::Less => 1,
        Comparison::LessOrEqual => 2,
        Comparison::Unordered => 3,
        Comparison::LessOrUnordered => 9,
        Comparison::GreaterOrUnordered => 6,
        Comparison::Greater => 14,
    }
}
