//! `check --cost`: what a model holds, and what an example costs it.

use recc_abi::{Column, ColumnKind, Element, ItemSpace, Role, TableMember, Variable};
use recc_core::loops::cost;
use recc_core::plan::Planned;
use recc_core::spec::{Spec, Table};
use recc_core::{Built, build};
use recc_rt::{Failure, size_text};
use std::fmt::Write as _;

/// What one example takes.
#[derive(Default)]
struct Example {
    /// Operations on numbers.
    operations: f64,
    /// Bytes loaded and stored, most of them in caches.
    moved: f64,
    /// Bytes of rows of tables.
    rows: f64,
}

/// The costs of a spec as text.
pub(crate) fn text(spec: &Spec) -> Result<String, Failure> {
    let built = build(spec).map_err(|error| Failure::internal("build", error.to_string()))?;
    let mut out = format!("{}\n\n", spec.name);
    let dense: u64 = spec.variables.iter().filter(|own| own.table.is_none() && own.role == Role::Parameter).map(numbers).sum();
    let state: u64 = built.variables.iter().filter(|own| own.table.is_none() && own.role == Role::Optimizer).map(numbers).sum();
    let _ = writeln!(
        out,
        "  {} parameters beside tables: {}, with the optimizer's state {}",
        grouped(dense),
        size(4 * dense),
        size(4 * (dense + state))
    );
    for (number, table) in (0u32..).zip(&spec.tables) {
        table_line(&mut out, spec, &built, number, table);
    }
    let (step, score) = (example(&built.step_plan, spec, &built, true), example(&built.score_plan, spec, &built, false));
    let bags = spec.columns.iter().any(|column| matches!(column.kind, ColumnKind::Ids { .. } | ColumnKind::Numbers { .. }));
    let _ = writeln!(
        out,
        "\n  {:<34} {:>15} {:>12}",
        if bags { "an example, lists of one entry" } else { "an example" },
        "a training step",
        "scoring"
    );
    let mut row = |what: &str, value: &dyn Fn(&Example) -> String| {
        let _ = writeln!(out, "  {what:<34} {:>15} {:>12}", value(&step), value(&score));
    };
    row("operations", &|own| amount(own.operations));
    row("bytes loaded and stored", &|own| size(own.moved as u64));
    row("bytes of rows of tables", &|own| size(own.rows as u64));
    let ratio = |own: &Example| own.operations / own.rows.max(1.0);
    row("operations for a byte of rows", &|own| few(ratio(own)));
    let _ = writeln!(
        out,
        "\n  Rows of large tables come from memory, all else from caches. Training is bound by arithmetic where a processor does fewer than {}\n  operations while a byte comes from memory, else by memory; scoring where it does fewer than {}. `bench --profile` measures both.",
        few(ratio(&step)),
        few(ratio(&score))
    );
    Ok(out)
}

/// Operations on numbers that a training step takes for an example whose lists have one entry.
pub(crate) fn operations(spec: &Spec) -> Result<f64, Failure> {
    let built = build(spec).map_err(|error| Failure::internal("build", error.to_string()))?;
    Ok(example(&built.step_plan, spec, &built, true).operations)
}

fn numbers(variable: &Variable) -> u64 {
    variable.shape.iter().product()
}

fn table_line(out: &mut String, spec: &Spec, built: &Built, number: u32, table: &Table) {
    let row = 4 * table.dim;
    let with_state: u64 = built.variables.iter().filter(|own| own.table == Some(number)).map(|own| 4 * numbers(own)).sum();
    let rows: Option<u64> = table.members.iter().map(|member| rows_of(member, &spec.columns)).sum();
    let what = match rows {
        Some(rows) => {
            format!("{} rows of {}: {}, with the optimizer's state {}", grouped(rows), table.dim, size(rows * row), size(rows * with_state))
        }
        None => format!(
            "rows of {}, as many as training finds values: {} each, with the optimizer's state {}",
            table.dim,
            size(row),
            size(with_state)
        ),
    };
    let _ = writeln!(out, "  {}: {what}", table.path);
}

/// Rows of a member with row 0, where the spec alone tells.
fn rows_of(member: &TableMember, columns: &[Column]) -> Option<u64> {
    let of = |&column: &u32| match columns[column as usize].kind.encoder() {
        Some(encoder) => encoder.rows_reached().map(|rows| rows + 1),
        // Drawn from the rows that others reach.
        None => Some(0),
    };
    match member.rows {
        Some(rows) => Some(rows + 1),
        None => member.columns.iter().map(of).try_fold(0, |most, rows| Some(most.max(rows?))),
    }
}

fn example(planned: &Planned, spec: &Spec, built: &Built, trains: bool) -> Example {
    let mut found = Example::default();
    for job in planned.plan.launches.iter().flat_map(|launch| &launch.jobs).filter(|job| job.space == ItemSpace::Examples) {
        for kernel in &job.kernels {
            let own = cost(&planned.kernels[*kernel as usize]);
            found.operations += own.flops;
            found.moved += own.bytes;
        }
    }
    for (number, table) in (0u32..).zip(&spec.tables) {
        let row = (4 * table.dim) as f64;
        let state: u64 = built.variables.iter().filter(|own| own.table == Some(number)).map(|own| 4 * numbers(own)).sum();
        let lookups = table.members.iter().flat_map(|member| &member.columns).map(|&column| match spec.columns[column as usize].kind {
            ColumnKind::Drawn { count, drawing, .. } if trains && drawing.is_shared() => f64::from(count) / spec.train.batch as f64,
            ColumnKind::Drawn { count, .. } if trains => f64::from(count),
            ColumnKind::Drawn { .. } => 0.0,
            _ => 1.0,
        });
        // An update reads and writes a row and its state.
        let stored = table.storage.bytes() * table.dim + if table.storage == Element::I8 { 4 } else { 0 };
        let bytes = if trains { row + 2.0 * state as f64 } else { stored as f64 };
        found.rows += lookups.sum::<f64>() * bytes;
    }
    found
}

/// `277`, `3.2`, `0.12`
fn few(number: f64) -> String {
    let places = [(10.0, 0), (1.0, 1)].into_iter().find(|(least, _)| number >= *least).map_or(2, |(_, places)| places);
    format!("{number:.places$}")
}

/// `1,047,040`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
    parts.join(",")
}

/// `3.42 M`
fn amount(number: f64) -> String {
    let units = ["", " k", " M", " G", " T"];
    let power = ((number.max(1.0).log10() / 3.0) as usize).min(units.len() - 1);
    if power == 0 { format!("{number:.0}") } else { format!("{:.2}{}", number / 1000f64.powi(power as i32), units[power]) }
}

fn size(bytes: u64) -> String {
    size_text(bytes as f64)
}
