//! A spec for rows that are events: what comes next for each user.

use super::columns::Column;
use super::{DataFile, feature_of, is_name};
use recc_rt::Failure;
use recc_syntax::quoted;
use std::fmt::Write as _;
use std::path::Path;

const USERS: [&str; 7] = ["user", "u", "session", "visitor", "customer", "member", "device"];
const ITEMS: [&str; 11] = ["item", "i", "product", "movie", "film", "song", "track", "article", "news", "video", "book"];
const TIMES: [&str; 9] = ["time", "timestamp", "time_stamp", "date", "ts", "unixtime", "event_time", "pos", "position"];
/// Names that the spec uses itself.
const TAKEN: [&str; 4] = ["history", "items", "next", "h"];
/// Values in the sample from which a softmax is over drawn rows.
const MANY: usize = 5_000;

/// The columns that say who did what, and when.
pub(super) struct Events {
    user: usize,
    item: usize,
    time: Option<usize>,
}

impl Events {
    /// The columns by their names; none without a user and an item.
    pub(super) fn named(columns: &[Column]) -> Option<Events> {
        let find = |names: &[&str]| columns.iter().position(|column| column.is_named(names));
        let (user, item) = (find(&USERS)?, find(&ITEMS)?);
        Some(Events { user, item, time: columns.iter().position(|column| column.whole && column.is_named(&TIMES)) })
    }

    /// With what `--next` and `--by` name.
    pub(super) fn asked(columns: &[Column], next: &str, by: Option<&str>, path: &Path) -> Result<Events, Failure> {
        let find = |flag: &str, name: &str| {
            columns.iter().position(|column| column.name == name).ok_or_else(|| {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                Failure::input(format!("{flag} {name}: {} has no such column\nhelp: the columns are {}", path.display(), names.join(", ")))
            })
        };
        let item = find("--next", next)?;
        let usual = || columns.iter().position(|column| column.is_named(&USERS));
        let user = by.map(|by| find("--by", by)).transpose()?.or_else(usual);
        let Some(user) = user.filter(|user| *user != item) else {
            let what = match user {
                Some(_) => format!("the column {next:?} is to be predicted, and another one says whose events these are"),
                None => "no column's name says whose events these are".to_owned(),
            };
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            return Err(Failure::input(format!(
                "{}: {what}\nhelp: name it with --by; the columns are {}",
                path.display(),
                names.join(", ")
            )));
        };
        let is_time = |at: &usize| columns[*at].whole && columns[*at].is_named(&TIMES);
        Ok(Events { user, item, time: (0..columns.len()).filter(|at| *at != user && *at != item).find(is_time) })
    }

    /// The spec.
    pub(super) fn spec(&self, name: &str, file: &DataFile<'_>, columns: &[Column]) -> String {
        let column = |at: usize| &columns[at].name;
        let (user, item) = (column(self.user), column(self.item));
        let as_setting = |at: usize| if is_name(column(at)) { column(at).clone() } else { quoted(column(at)) };
        let order = match self.time {
            Some(time) => format!("the order of {:?}", column(time)),
            None => "the order of the file".to_owned(),
        };
        let mut out = format!(
            "// The next {item:?} of each {user:?} in {order}, as {} looks; change what is meant otherwise.\n",
            file.path.display()
        );
        out.push_str("use std.sequence.sasrec\n\nconst STEPS = 51  // the last one is what comes next\n\n");
        let ordered = self.time.map_or(String::new(), |time| format!("order: {}, ", as_setting(time)));
        let train = quoted(&file.path.display().to_string()) + &file.separator_setting();
        let _ = writeln!(out, "data {{ train: {train}, group: {}, {ordered}split: leave_one_out }}\n", as_setting(self.user));
        let (mut key, mut source) = feature_of(column(self.user), self.user);
        if TAKEN.contains(&key.as_str()) {
            (key, source) = (format!("by_{key}"), format!("column({})", quoted(column(self.user))));
        }
        let from = if source == key { String::new() } else { format!(" = {source}") };
        let _ = writeln!(out, "features {{\nkey {key}{from}\nseq history = column({}) |> vocab |> take_last(STEPS)\n}}\n", quoted(item));
        let _ = writeln!(out, "model {name} {{\ntable items {{ keys: history, dim: 64, init: normal(0.02) }}\n");
        out.push_str("let h = sasrec(items[history], max: STEPS, dropout: 0.2)\n");
        let negatives = if columns[self.item].distinct > MANY { ", negatives: 256" } else { "" };
        let _ = writeln!(out, "predict next = softmax(h, over: items, target: shift(history){negatives})\n}}\n");
        out.push_str("objective { next: cross_entropy }\nmetrics { report: [hr(10), ndcg(10), mrr] }\n");
        out.push_str(
            "train { batch: 128, epochs: 30, dense: adam(lr: 1e-3), tables: adam(lr: 1e-3), stop: patience(3, on: ndcg(10)), seed: 1 }\n",
        );
        recc_syntax::format(&out)
    }
}
