//! Kernels as text.

use super::{Affine, BufferArg, Combine, Extent, Instr, Kernel, LoopVar, MatMul, Matrix, Partition, Reg, Size, Stmt, Term, Type, Vectors};
use recc_abi::PartitionPart;
use std::fmt::{self, Display, Write as _};

impl Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl Display for LoopVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::I32 => "i32",
            Type::Bool => "bool",
            Type::F16 => "f16",
            Type::I8 => "i8",
        })
    }
}

impl Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for (term, stride) in &self.terms {
            let name = match term {
                Term::Var(var) => var.to_string(),
                Term::Reg(reg) => reg.to_string(),
            };
            parts.push(if *stride == 1 { name } else { format!("{stride}*{name}") });
        }
        if self.offset != 0 || parts.is_empty() {
            parts.push(self.offset.to_string());
        }
        f.write_str(&parts.join(" + "))
    }
}

impl Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Items => f.write_str("items"),
            Extent::Fixed(n) => write!(f, "{n}"),
            Extent::Between(begin, end) => write!(f, "{begin}..{end}"),
        }
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(n) => write!(f, "{n}"),
            Size::Items(1) => f.write_str("items"),
            Size::Items(n) => write!(f, "{n}*items"),
            Size::Entries(1) => f.write_str("entries"),
            Size::Entries(n) => write!(f, "{n}*entries"),
        }
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {} {{", self.name)?;
        for (index, buffer) in self.buffers.iter().enumerate() {
            let BufferArg { id, name, ty, item_stride, moves, len: _ } = buffer;
            let stride = if *item_stride == 0 {
                String::new()
            } else {
                format!(", {item_stride} an item{}", if *moves { "" } else { " of the tile" })
            };
            writeln!(f, "  b{index}: {ty} = buffer {} `{name}`{stride}", id.0)?;
        }
        let mut out = String::new();
        print_body(&mut out, &self.body, 1);
        f.write_str(&out)?;
        writeln!(f, "}}")
    }
}

fn print_body(out: &mut String, body: &[Stmt], depth: usize) {
    for stmt in body {
        let _ = write!(out, "{:width$}", "", width = depth * 2);
        match stmt {
            Stmt::Let { reg, ty, instr } => {
                let _ = writeln!(out, "{reg}: {ty} = {}", print_instr(instr));
            }
            Stmt::Accumulator { reg, ty, combine } => {
                let _ = writeln!(out, "{reg}: {ty} = {} accumulator", combine.scalar().name());
            }
            Stmt::Accumulate { reg, combine, value } => {
                let sign = match combine {
                    Combine::Add => "+=",
                    Combine::Max => "max=",
                    Combine::Min => "min=",
                };
                let _ = writeln!(out, "{reg} {sign} {value}");
            }
            Stmt::Store { buffer, index, value, accumulate } => {
                let _ = writeln!(out, "b{buffer}[{index}] {} {value}", if *accumulate { "+=" } else { "=" });
            }
            Stmt::For { var, extent, vector, body } => {
                let _ = writeln!(out, "for {var} in {extent}{} {{", if *vector { " vector" } else { "" });
                print_body(out, body, depth + 1);
                let _ = writeln!(out, "{:width$}}}", "", width = depth * 2);
            }
            Stmt::MatMul(product) => {
                let MatMul { m, n, k, dst, a, b, scales, accumulate, each, bf16, entries, heads } = &**product;
                let sign = if *accumulate { "+=" } else { "=" };
                let apart = |each: &super::ItemStrides| format!("{}, {} and {} apart", each.dst, each.a, each.b);
                let mut each = each.map_or(String::new(), |each| format!(", for each item, {}", apart(&each)));
                if let Some((count, heads)) = heads {
                    each += &format!(", {count} times, {}", apart(heads));
                }
                if let Some(entries) = entries {
                    each += &format!(", entries from b{entries}");
                }
                let _ = writeln!(
                    out,
                    "{} {sign} {} @ {}{}   // {m}x{k} @ {k}x{n}{each}{}",
                    matrix(dst),
                    matrix(a),
                    matrix(b),
                    scales.map_or(String::new(), |scales| format!(" * b{scales}[row]")),
                    if *bf16 { ", bf16" } else { "" }
                );
            }
            Stmt::Partition(own) => {
                let _ = writeln!(out, "{}", partition(own));
            }
        }
    }
}

/// A part of a softmax over a table.
fn partition(partition: &Partition) -> String {
    let Partition { part, width, items, entries, others, queries, rows, sums, dst } = partition;
    let vectors = |own: &Vectors, width: i64| {
        let entry = if own.entry == 0 { String::new() } else { format!("{}*entry + ", own.entry) };
        format!("b{}[{entry}{width}*item]", own.buffer)
    };
    let (call, count) = match part {
        PartitionPart::LogSums => ("log_sums", 1),
        PartitionPart::MeanRows => ("mean_rows", *width),
        PartitionPart::SumsOfQueries => ("sums_of_queries", *width),
    };
    let sums: String = sums.iter().flatten().map(|own| format!(", {}", vectors(own, 1))).collect();
    let entries = entries.map_or(String::new(), |entries| format!(", entries from b{entries}"));
    let (queries, rows) = (vectors(queries, *width), vectors(rows, *width));
    format!("{} = {call}({queries}, {rows}{sums})   // {items} by b{others}[0]{entries}", vectors(dst, count))
}

fn matrix(matrix: &Matrix) -> String {
    let entry = if matrix.entry == 0 { String::new() } else { format!("{}*entry + ", matrix.entry) };
    format!("b{}[{entry}{} + {}*row + {}*column]", matrix.buffer, matrix.offset, matrix.row, matrix.column)
}

fn print_instr(instr: &Instr) -> String {
    match instr {
        Instr::Const(value) => format!("{value:?}"),
        Instr::Load { buffer, index } => format!("b{buffer}[{index}]"),
        Instr::Scalar(op, operands) => {
            let operands: Vec<String> = operands.iter().map(ToString::to_string).collect();
            format!("{}({})", op.name(), operands.join(", "))
        }
        Instr::RowKey { key, row } => format!("row_key({key}, {row})"),
        Instr::Random { row_key, element } => format!("random({row_key}, {element})"),
        Instr::AddInt(a, b) => format!("{a} + {b}"),
        Instr::CountBetween(a, b) => format!("count({a} - {b})"),
        Instr::Place(place) => format!("place({place})"),
        Instr::Choice(number, n) => format!("choice({number}, 0..{n})"),
        Instr::Clamp { number, begin, end } => format!("clamp({number}, {begin}..{end})"),
    }
}
