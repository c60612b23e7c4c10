//! A spec for rows that are examples, with a label.

use super::columns::{Column, Looks};
use super::{DataFile, Parts, feature_of, is_name};
use std::fmt::Write as _;

/// A spec for the columns of a data file.
pub(super) fn spec(name: &str, file: &DataFile<'_>, columns: &[Column], label: usize) -> String {
    Writer { name, file, columns, label }.spec()
}

struct Writer<'w> {
    name: &'w str,
    file: &'w DataFile<'w>,
    columns: &'w [Column],
    label: usize,
}

impl Writer<'_> {
    fn feature(&self, at: usize) -> (String, String) {
        feature_of(&self.columns[at].name, at)
    }

    /// Columns of a kind, without the label.
    fn of(&self, is: impl Fn(&Looks) -> bool) -> Vec<usize> {
        (0..self.columns.len()).filter(|&at| at != self.label && is(&self.columns[at].looks)).collect()
    }

    fn spec(&self) -> String {
        let binary = self.columns[self.label].looks == Looks::Binary;
        let numbers = self.of(|looks| matches!(looks, Looks::Number { .. }));
        let ids = self.of(|looks| matches!(looks, Looks::Id | Looks::Binary));
        let bags = self.of(|looks| matches!(looks, Looks::Bag(_)));
        // Columns that are features by their own names make one group, with one look-up.
        let (group, single): (Vec<usize>, Vec<usize>) = ids.iter().partition(|&&at| is_name(&self.columns[at].name));
        let (label, source) = self.feature(self.label);
        let mut out = format!("// Features as the columns of {} look like; change what is meant otherwise.\n", self.file.path.display());
        for column in self.columns {
            let why = match column.looks {
                Looks::Constant => "it is the same in every row",
                Looks::RowNumber => "it is another in every row",
                Looks::Leak => "each of its values comes with one label only, which gives the label away",
                Looks::Outcome => "it is named as a label is; predict it too, or make it an input if it is known before",
                Looks::Binary | Looks::Number { .. } | Looks::Id | Looks::Bag(_) => continue,
            };
            let _ = writeln!(out, "// The column {:?} is left out: {why}.", column.name);
        }
        let fm = !group.is_empty();
        out.push_str("use std.dense.{linear, mlp}\n");
        if fm {
            out.push_str("use std.interaction.fm\n");
        }
        let parts = Parts::beside(self.file.path);
        let _ = write!(out, "\ndata {{ {} }}\n\nfeatures {{\n", parts.settings(self.file));
        let kind = if binary { "binary" } else { "number" };
        let from = if source == label { String::new() } else { format!(" = {source}") };
        let _ = writeln!(out, "label {label}: {kind}{from}");
        let mut inputs = Vec::new();
        for at in numbers {
            let (name, source) = self.feature(at);
            let Looks::Number { fill, log } = self.columns[at].looks else { continue };
            let steps = format!("{}{}", if fill { " |> fill(0)" } else { "" }, if log { " |> log1p" } else { " |> standardize" });
            let _ = writeln!(out, "number {name} = {source}{steps}");
            inputs.push(name);
        }
        let mut tables = String::new();
        if fm {
            let members: Vec<&str> = group.iter().map(|&at| self.columns[at].name.as_str()).collect();
            let large = group.iter().any(|&at| self.columns[at].distinct > 1000);
            let vocab = if large { "vocab(min_count: 2)" } else { "vocab" };
            let _ = writeln!(out, "id C[{}] = C |> {vocab}", members.join(", "));
            tables.push_str("table emb { keys: C, dim: 16 }\n");
            inputs.insert(0, "flatten(e)".to_owned());
        }
        for at in single {
            let (name, source) = self.feature(at);
            let _ = writeln!(out, "id {name} = {source} |> vocab");
            let _ = writeln!(tables, "table {name}_rows {{ keys: {name}, dim: 16 }}");
            inputs.push(format!("{name}_rows[{name}]"));
        }
        for at in bags {
            let (name, source) = self.feature(at);
            let Looks::Bag(sign) = self.columns[at].looks else { continue };
            let _ = writeln!(out, "ids {name} = {source} |> split(\"{sign}\") |> vocab");
            let _ = writeln!(tables, "table {name}_rows {{ keys: {name}, dim: 16 }}");
            inputs.push(format!("mean({name}_rows[{name}], axis: {name})"));
        }
        let _ = write!(out, "}}\n\nmodel {} {{\n{tables}\n", self.name);
        if fm {
            out.push_str("let e = emb[C]\n");
        }
        let inputs = if inputs.len() > 8 { format!("\n{},\n", inputs.join(",\n")) } else { inputs.join(", ") };
        let _ = writeln!(out, "let deep = concat({inputs}) |> mlp([128, 64], dropout: 0.1) |> linear(1)");
        let z = if fm { "fm(e) + deep" } else { "deep" };
        let (link, loss, metrics, best) =
            if binary { ("logit", "bce", "[auc, logloss]", "auc") } else { ("value", "mse", "[rmse]", "rmse") };
        let _ = write!(out, "predict {label} = {link}({z})\n}}\n\nobjective {{ {label}: {loss} }}\nmetrics {{ report: {metrics} }}\n");
        // Without rows to validate nothing says when to stop.
        let epochs = if parts.valid.is_some() { format!("epochs: 20, stop: patience(2, on: {best})") } else { "epochs: 3".to_owned() };
        let _ = writeln!(out, "train {{ batch: 1024, {epochs}, dense: adam(lr: 1e-3), tables: adam(lr: 1e-3), seed: 1 }}");
        recc_syntax::format(&out)
    }
}
