//! The kernel's side of loops that are functions of their own: frames, calls and where the functions lie.

use super::Translator;
use crate::lanes::access;
use crate::wide::{self, Asked, Known, Scalar, Whole, WideLoop};
use cranelift_codegen::FinalizedMachReloc;
use cranelift_codegen::FinalizedRelocTarget;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, ExtFuncData, ExternalName, Function, InstBuilder as _, Signature, StackSlot, StackSlotData, StackSlotKind, UserExternalName,
    Value, types,
};
use cranelift_codegen::isa::CallConv;
use recc_abi::BufferId;
use recc_core::loops::{Combine, Extent, Instr, LoopVar, Reg, Stmt, Type, reads, rename, stored_buffers, sums_of_outside};
use std::collections::BTreeMap;

/// Appends loops' functions to a kernel's code; where each begins.
pub(super) fn append(code: &mut Vec<u8>, loops: &[WideLoop]) -> Vec<usize> {
    let mut entries = Vec::new();
    for wide in loops {
        code.resize(code.len().next_multiple_of(64), 0x90);
        entries.push(code.len() + wide.entry);
        code.extend_from_slice(&wide.bytes);
    }
    entries
}

/// A kernel's text with that of its loops, which are `u0:0` and so on there.
pub(super) fn with_loops(mut text: String, loops: &[WideLoop]) -> String {
    for (number, wide) in loops.iter().enumerate() {
        text.push_str(&format!("\nu0:{number}, {} bits a vector:\n{}", 32 * wide.frame.width.lanes(), wide::print(wide)));
    }
    text
}

/// Fills in where a call goes; none if it is something else.
pub(super) fn link(code: &mut [u8], call: &FinalizedMachReloc, entries: &[usize], function: &Function) -> Option<()> {
    let (Reloc::X86CallPCRel4, FinalizedRelocTarget::ExternalName(ExternalName::User(name))) = (call.kind, &call.target) else {
        return None;
    };
    let number = function.params.user_named_funcs().get(*name)?.index;
    let (entry, place) = (*entries.get(number as usize)? as i64, call.offset as usize);
    let distance = i32::try_from(entry + call.addend - place as i64).ok()?;
    code.get_mut(place..place + 4)?.copy_from_slice(&distance.to_le_bytes());
    Some(())
}

/// A body's statements: those that are the same in all iterations, and the others.
fn parted<'b>(var: LoopVar, body: &'b [Stmt], ids: &[BufferId]) -> (Vec<&'b Stmt>, Vec<&'b Stmt>) {
    let stored: Vec<BufferId> = body.iter().flat_map(stored_buffers).map(|buffer| ids[buffer]).collect();
    let (mut shared, mut varying) = (Vec::new(), Vec::new());
    let mut differ: Vec<Reg> = sums_of_outside(body.iter()).into_iter().map(|(reg, _)| reg).collect();
    for stmt in body {
        if let Stmt::Let { reg, instr, .. } = stmt {
            let (regs, vars) = reads(instr);
            let changes = matches!(instr, Instr::Load { buffer, .. } if stored.contains(&ids[*buffer]));
            if !changes && !vars.contains(&var) && !regs.iter().any(|reg| differ.contains(reg)) {
                shared.push(stmt);
                continue;
            }
            differ.push(*reg);
        }
        if let Stmt::Accumulator { reg, .. } = stmt {
            differ.push(*reg);
        }
        varying.push(stmt);
    }
    (shared, varying)
}

/// Vector loops of one length and what lies between them, as the body of a single vector loop.
struct Joined {
    var: LoopVar,
    extent: Extent,
    body: Vec<Stmt>,
    /// Accumulators that are summed over the loops and then read.
    totals: Vec<(Reg, Combine)>,
}

/// The vector loops of a body joined, if all have one length and nothing else runs for several elements.
fn joined(body: &[&Stmt]) -> Option<Joined> {
    let (mut own, mut out, mut totals): (Option<(LoopVar, u64)>, _, _) = (None, Vec::new(), Vec::new());
    for stmt in body {
        match stmt {
            Stmt::For { var, extent: Extent::Fixed(n), vector: true, body } => {
                let (first, count) = *own.get_or_insert((*var, *n));
                if count != *n {
                    return None;
                }
                out.extend(body.iter().cloned().map(|stmt| rename(stmt, *var, first)));
            }
            Stmt::Accumulator { reg, combine, .. } => {
                totals.push((*reg, *combine));
                out.push((*stmt).clone());
            }
            Stmt::Let { .. } | Stmt::Store { .. } => out.push((*stmt).clone()),
            // A sum of one element a round would be added in every lane.
            Stmt::For { .. } | Stmt::Accumulate { .. } | Stmt::MatMul(_) | Stmt::Partition(_) => return None,
        }
    }
    own.map(|(var, count)| Joined { var, extent: Extent::Fixed(count), body: out, totals })
}

/// The register that a statement defines.
fn defined(stmt: &Stmt) -> Option<(Reg, Known)> {
    let Stmt::Let { reg, ty, instr } = stmt else { return None };
    let constant = if let Instr::Const(value) = instr { Some(*value) } else { None };
    Some((*reg, Known { ty: *ty, constant }))
}

impl Translator<'_> {
    /// A vector loop as a function of its own and a call of it, if it can be had that way.
    pub(super) fn wide_loop(&mut self, var: LoopVar, extent: &Extent, (begin, end): (Value, Value), body: &[Stmt]) -> bool {
        let Some(width) = self.width else { return false };
        let (shared, varying) = parted(var, body, &self.ids);
        let own: BTreeMap<Reg, Known> = shared.iter().filter_map(|stmt| defined(stmt)).collect();
        let outside = |reg: Reg| own.get(&reg).copied().or_else(|| self.known(reg));
        let asked = Asked { var, extent, body: &varying, elements: &self.elements, ids: &self.ids, outside: &outside, totals: &[] };
        let Some(wide) = wide::compile(&asked, width) else { return false };
        if matches!(extent, Extent::Fixed(_)) {
            self.call_wide(var, (begin, end), &shared, wide);
            return true;
        }
        // Without an iteration nothing of it may be computed: there may be no element to load.
        let (inside, after) = (self.builder.create_block(), self.builder.create_block());
        let any = self.builder.ins().icmp(IntCC::SignedLessThan, begin, end);
        self.builder.ins().brif(any, inside, &[], after, &[]);
        self.builder.switch_to_block(inside);
        self.builder.seal_block(inside);
        self.call_wide(var, (begin, end), &shared, wide);
        self.builder.ins().jump(after, &[]);
        self.builder.switch_to_block(after);
        self.builder.seal_block(after);
        true
    }

    /// A loop around short vector loops as a function of its own and a call of it, if it can be had that way.
    pub(super) fn wide_nest(&mut self, var: LoopVar, extent: &Extent, body: &[Stmt]) -> bool {
        // Of one round no number moves; those between bounds may be none, and what all share is computed before.
        let several = matches!(extent, Extent::Items | Extent::Fixed(2..));
        let Some(width) = self.width.filter(|_| self.vector.is_none() && several) else { return false };
        let (shared, varying) = parted(var, body, &self.ids);
        let Some(Joined { var: lanes, extent: own_extent, body, totals }) = joined(&varying) else { return false };
        let own: BTreeMap<Reg, Known> = shared.iter().filter_map(|stmt| defined(stmt)).collect();
        let outside = |reg: Reg| own.get(&reg).copied().or_else(|| self.known(reg));
        let around = Stmt::For { var, extent: extent.clone(), vector: false, body };
        let (elements, ids) = (&self.elements, &self.ids);
        let asked = Asked { var: lanes, extent: &own_extent, body: &[&around], elements, ids, outside: &outside, totals: &totals };
        let Some(wide) = wide::compile_nest(&asked, width) else { return false };
        let zero = self.builder.ins().iconst(types::I64, 0);
        self.call_wide(lanes, (zero, zero), &shared, wide);
        true
    }

    /// What is known of a register that holds one number.
    fn known(&self, reg: Reg) -> Option<Known> {
        if let Some(sum) = self.accumulators.get(&reg) {
            return (!sum.lanes).then_some(Known { ty: sum.ty, constant: None });
        }
        let held = self.regs.get(&reg).filter(|held| !held.lanes)?;
        Some(Known { ty: held.ty, constant: self.constants.get(&reg).copied() })
    }

    fn call_wide(&mut self, var: LoopVar, (begin, end): (Value, Value), shared: &[&Stmt], wide: WideLoop) {
        for stmt in shared {
            self.body(std::slice::from_ref(*stmt));
        }
        let frame = wide.frame;
        let slot = self.builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, frame.bytes(), 4));
        let count = self.builder.ins().isub(end, begin);
        self.builder.ins().stack_store(types::I64, count, slot, 0);
        self.vars.insert(var, begin);
        for (at, (buffer, index)) in wide.streams.iter().enumerate() {
            let (address, offset, _) = self.address(*buffer, index);
            let address = self.builder.ins().iadd_imm_s(address, i64::from(offset));
            self.builder.ins().stack_store(types::I64, address, slot, frame.stream(at));
        }
        for (at, whole) in wide.wholes.iter().enumerate() {
            let whole = match whole {
                Whole::Items => self.rows,
                Whole::Reg(reg) => {
                    let whole = self.held(*reg).one();
                    self.builder.ins().sextend(types::I64, whole)
                }
            };
            self.builder.ins().stack_store(types::I64, whole, slot, frame.whole(at));
        }
        for (at, scalar) in wide.scalars.iter().enumerate() {
            self.store_scalar(scalar, slot, frame.scalar(at), frame.copies());
        }
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.push(AbiParam::new(types::I64));
        let signature = self.builder.import_signature(signature);
        let name = self.builder.func.declare_imported_user_function(UserExternalName::new(0, self.wide.len() as u32));
        let name = ExternalName::user(name);
        let callee = self.builder.import_function(ExtFuncData { name, signature, colocated: true, patchable: false });
        let address = self.builder.ins().stack_addr(types::I64, slot, 0);
        self.builder.ins().call(callee, &[address]);
        for (at, (reg, combine)) in wide.sums.iter().enumerate() {
            let Some(total) = self.accumulators.get(reg).map(|sum| sum.parts[0]) else { continue };
            let parts: Vec<Value> = (0..frame.width.lanes() as i32 / 4)
                .map(|part| self.builder.ins().load(types::F32X4, access(), address, frame.sum(at) + 16 * part))
                .collect();
            self.add_parts(total, *combine, &parts);
        }
        self.wide.push(wide);
    }

    /// A number that is the same in all iterations, as often as the function wants it.
    fn store_scalar(&mut self, scalar: &Scalar, slot: StackSlot, offset: i32, copies: usize) {
        let (value, wide) = match scalar {
            Scalar::Reg(reg) => {
                let held = self.held(*reg);
                match held.ty {
                    Type::Bool => (self.builder.ins().bmask(types::I32, held.one()), types::I32X4),
                    Type::I32 => (held.one(), types::I32X4),
                    _ => (held.one(), types::F32X4),
                }
            }
            Scalar::Place(place) => {
                let number = self.place(place);
                (self.builder.ins().ireduce(types::I32, number), types::I32X4)
            }
        };
        if copies == 1 {
            self.builder.ins().stack_store(types::I64, value, slot, offset);
            return;
        }
        let four = self.builder.ins().splat(wide, value);
        for copy in 0..copies as i32 / 4 {
            self.builder.ins().stack_store(types::I64, four, slot, offset + 16 * copy);
        }
    }
}
