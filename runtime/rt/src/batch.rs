//! One batch as a plan's inputs: columns of numbers and ids, bags, and the grouping of each table's rows.

use crate::cohort::Condition;
use crate::drawn::{Popularity, below, draw_key, some_of};
use crate::failure::Failure;
use crate::ranking::Target;
use crate::spool::{Spool, Window};
use crate::touched::TouchedRows;
use crate::transform::{Fitted, Ids, long, stored_entries, taken_entries};
use rayon::prelude::*;
use recc_abi::{Column, ColumnKind, Drawing, Encoder, InputSource, Plan, RowPart, RowSource, Split, Table};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// The touched rows of a table, and where each occurs per look-up.
#[derive(Debug, Default, Clone)]
pub(crate) struct Grouping {
    pub(crate) rows: Vec<u32>,
    pub(crate) lookups: Vec<Occurrences>,
}

/// Occurrences of touched rows in one look-up.
#[derive(Debug, Default, Clone)]
pub(crate) struct Occurrences {
    pub(crate) begin: Vec<u32>,
    pub(crate) example: Vec<u32>,
    pub(crate) slot: Vec<u32>,
    /// Which of the rows drawn for an entry; empty for others.
    pub(crate) within: Vec<u32>,
}

/// A batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    /// Words of each of the plan's inputs that come from data; empty for others.
    pub(crate) inputs: Vec<Vec<u32>>,
    /// By table.
    pub(crate) groups: Vec<Grouping>,
    /// Labels by prediction; of rankings none.
    pub(crate) labels: Vec<Vec<f32>>,
    /// What is ranked for, by prediction; of others none.
    pub(crate) targets: Vec<Vec<Target>>,
    /// Keys by key column of a metric.
    pub(crate) keys: Vec<Vec<u64>>,
    /// Whether each row is measured, by prediction whose rows a condition chooses, and by cohort.
    pub(crate) flags: Vec<Vec<bool>>,
    /// Columns of bags and sequences.
    pub(crate) entries: Vec<Entries>,
}

impl Batch {
    /// How many entries a column has.
    pub(crate) fn entries_of(&self, column: u32) -> usize {
        self.entries.iter().find(|entries| entries.column == column).map_or(0, |entries| entries.count)
    }

    /// How many rows of a table are touched.
    pub(crate) fn touched(&self, table: u32) -> usize {
        self.groups.get(table as usize).map_or(0, |group| group.rows.len())
    }
}

/// The entries of a column over a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) column: u32,
    /// The input that says where each example's begin.
    pub(crate) input: usize,
    pub(crate) count: usize,
    /// Most of one example.
    pub(crate) longest: usize,
}

/// What assembling needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Layout<'p> {
    pub(crate) columns: &'p [Column],
    pub(crate) tables: &'p [Table],
    pub(crate) fitted: &'p Fitted,
    /// First word of each column's part of a record.
    pub(crate) words: &'p [usize],
    pub(crate) width: usize,
    /// First row of each member, by table.
    pub(crate) bases: &'p [Vec<u64>],
    /// Rows of each table.
    pub(crate) row_counts: &'p [u64],
    /// Label columns of the predictions.
    pub(crate) labels: &'p [u32],
    /// Key columns of the metrics.
    pub(crate) keys: &'p [u32],
    /// The condition of each column that is one.
    pub(crate) conditions: &'p [Option<Condition>],
    /// Columns of conditions that metrics need.
    pub(crate) flags: &'p [u32],
    /// By prediction, of a ranking: the sequence whose last entry is the target, or the id that is.
    pub(crate) ranked: &'p [Option<u32>],
    /// Whether rows are ranked for, which training does not.
    pub(crate) ranks: bool,
    /// Whether the last entry of such a sequence is held back, as what comes next.
    pub(crate) holds_back: bool,
    /// How often rows are targets, by the column that these are of: where they are drawn so, or their shares are asked for.
    pub(crate) popularity: &'p BTreeMap<u32, Popularity>,
    /// What an epoch of training draws rows and lengths by; nothing else does.
    pub(crate) draw: Option<u64>,
}

/// The rows of tables that the ids of a column's records stand for.
#[derive(Clone, Copy)]
struct RowsOf<'p> {
    ids: &'p Ids,
    /// Where a part of them indexes the table: which, and the divisor.
    part: Option<(RowPart, u32)>,
}

impl RowsOf<'_> {
    fn row(&self, id: u32) -> u32 {
        let row = self.ids.row(id);
        self.part.map_or(row, |(part, divisor)| part.of(row, divisor))
    }
}

impl<'p> Layout<'p> {
    /// The column that says where a column's entries begin.
    fn entries_of(&self, column: u32) -> u32 {
        recc_abi::entries_of(self.columns, column)
    }

    /// What the ids of a column's records are.
    fn ids(&self, column: u32) -> RowsOf<'p> {
        let ids = self.fitted.ids(Fitted::vocab_column(self.columns, column as usize));
        RowsOf { ids, part: self.columns[column as usize].kind.encoder().and_then(Encoder::part) }
    }

    /// Whether a ranking predicts the next entry of a column, and not its id.
    fn is_sequence(&self, column: u32) -> bool {
        self.columns[column as usize].kind.has_entries()
    }

    /// Whether the last entry of a column is not shown.
    fn is_held_back(&self, column: u32) -> bool {
        let own = self.entries_of(column);
        self.holds_back && self.ranked.iter().flatten().any(|&ranked| self.entries_of(ranked) == own)
    }

    /// Whether a condition holds for a row.
    fn holds(&self, window: &Window, row: u32, column: u32) -> bool {
        let record = &window.records[row as usize * self.width..(row as usize + 1) * self.width];
        self.conditions[column as usize].as_ref().is_some_and(|condition| condition.holds(record, &window.bags, self.fitted))
    }

    /// For each step the row of the next one, or the row of an id; 0 where there is none or an unknown one.
    fn target_rows<'a>(self, window: &'a Window, rows: &'a [u32], column: u32) -> impl Iterator<Item = u32> + 'a
    where
        'p: 'a,
    {
        let (known, ahead) = (self.ids(column), usize::from(self.is_sequence(column)));
        rows.iter().flat_map(move |&row| {
            let ids = predicted_ids(window, self, row, column);
            (0..ids.len()).map(move |at| ids.get(at + ahead).map_or(0, |&target| known.row(target)))
        })
    }

    /// The first row of a column's member of a table.
    pub(crate) fn base(&self, table: usize, column: u32) -> u64 {
        let member = self.tables[table].members.iter().position(|member| member.columns.contains(&column));
        member.map_or(0, |member| self.bases[table][member])
    }
}

/// How often each row is a target in the training data, for the columns of which a model asks; without data every row alike.
pub(crate) fn popularity(layout: Layout<'_>, plan: &Plan, spool: Option<&Spool>) -> Result<BTreeMap<u32, Popularity>, Failure> {
    let asked = |input: &recc_abi::Input| {
        let (column, for_shares) = match input.source {
            InputSource::Drawn { column } => (column, false),
            InputSource::LogShare { column } => (column, true),
            _ => return None,
        };
        let ColumnKind::Drawn { of, table, drawing, .. } = layout.columns[column as usize].kind else { return None };
        (for_shares || drawing == Drawing::Popularity).then_some((of, table))
    };
    let mut counts: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (of, table) in plan.inputs.iter().filter_map(asked) {
        counts.insert(of, vec![0; layout.row_counts[table as usize] as usize]);
    }
    if let (Some(spool), false) = (spool, counts.is_empty()) {
        spool.epoch(0, 0, false, 4096, &mut |window, order| {
            for (&column, counts) in &mut counts {
                layout.target_rows(window, order, column).for_each(|row| counts[row as usize] += 1);
            }
            Ok(())
        })?;
    }
    // Row 0 is none of the targets.
    Ok(counts.into_iter().map(|(column, counts)| (column, Popularity::new(&counts[1..]))).collect())
}

/// Batches side by side, at most: each keeps two bits for every row of a table.
const MOST_ASSEMBLERS: usize = 8;

/// Makes batches; keeps what grouping needs from one to the next.
pub(crate) struct Assembler<'p> {
    layout: Layout<'p>,
    plan: &'p Plan,
    /// Per table: what numbers its touched rows; none where no row is grouped.
    touched: Vec<Option<TouchedRows>>,
}

/// Makes several batches side by side, each of which depends on its own rows alone.
pub(crate) struct Assemblers<'p> {
    all: Vec<Assembler<'p>>,
    pool: &'p rayon::ThreadPool,
}

impl<'p> Assemblers<'p> {
    /// As many as the pool has threads, where those have nothing else to do because a device computes the steps; else one.
    pub(crate) fn new(layout: Layout<'p>, plan: &'p Plan, on_device: bool, pool: &'p rayon::ThreadPool) -> Self {
        let count = if on_device { pool.current_num_threads().min(MOST_ASSEMBLERS) } else { 1 };
        Assemblers { all: (0..count).map(|_| Assembler::new(layout, plan)).collect(), pool }
    }

    /// How many batches it makes at once.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The batches of some windows' rows, in order.
    pub(crate) fn assemble(&mut self, work: &[(&Window, &[u32])]) -> Vec<Batch> {
        if let [(window, rows)] = work {
            return vec![self.all[0].assemble(window, rows)];
        }
        let own = self.all.par_iter_mut().zip(work);
        self.pool.install(|| own.map(|(assembler, (window, rows))| assembler.assemble(window, rows)).collect())
    }
}

impl<'p> Assembler<'p> {
    pub(crate) fn new(layout: Layout<'p>, plan: &'p Plan) -> Self {
        let grouped = |table: usize| {
            plan.inputs.iter().any(|input| matches!(input.source, InputSource::Rows { table: own, .. } if own as usize == table))
        };
        let rows = layout.row_counts.iter().enumerate();
        let touched = rows.map(|(table, &rows)| grouped(table).then(|| TouchedRows::new(rows as usize))).collect();
        Assembler { touched, layout, plan }
    }

    /// The batch of some of a window's rows.
    pub(crate) fn assemble(&mut self, window: &Window, rows: &[u32]) -> Batch {
        let layout = self.layout;
        let record = |row: u32| &window.records[row as usize * layout.width..(row as usize + 1) * layout.width];
        let word = |column: u32| layout.words[column as usize];
        let mut batch = Batch { rows: rows.len(), ..Batch::default() };
        for input in &self.plan.inputs {
            let values = match &input.source {
                // A condition is a column of its own, whose words are in no record.
                InputSource::Numbers { columns } => match columns.as_slice() {
                    [column] if layout.conditions[*column as usize].is_some() => {
                        rows.iter().map(|&row| if layout.holds(window, row, *column) { 1f32 } else { 0.0 }.to_bits()).collect()
                    }
                    columns => rows.iter().flat_map(|&row| columns.iter().map(move |&column| record(row)[word(column)])).collect(),
                },
                InputSource::Time { column } => rows.iter().map(|&row| record(row)[word(*column)]).collect(),
                InputSource::Ids { columns } => self.ids(window, rows, columns),
                InputSource::EntryBegin { column } => {
                    let begins = self.begins(window, rows, *column);
                    let longest = begins.windows(2).map(|own| own[1] - own[0]).max().unwrap_or(0) as usize;
                    let (input, count) = (batch.inputs.len(), begins[rows.len()] as usize);
                    batch.entries.push(Entries { column: *column, input, count, longest });
                    begins
                }
                InputSource::Entries { column } => self.bag(window, rows, *column),
                InputSource::EntryNumbers { column } | InputSource::EntryTimes { column } => self.steps(window, rows, *column),
                InputSource::Drawn { column } => self.drawn(window, rows, *column),
                InputSource::HasTarget { column } => self.has_target(window, rows, *column),
                InputSource::LogShare { column } => self.log_shares(&batch, window, rows, *column),
                InputSource::RowNumber => rows.iter().map(|&row| window.rows[row as usize]).collect(),
                InputSource::Shared { .. }
                | InputSource::RowBase { .. }
                | InputSource::Moments { .. }
                | InputSource::RandomKey { .. }
                | InputSource::RateScale => Vec::new(),
                InputSource::TargetCount { column } => {
                    let count = self.layout.target_rows(window, rows, *column).filter(|target| *target > 0).count();
                    vec![(count.max(1) as f32).to_bits()]
                }
                // Not of the rows, or not of their columns.
                InputSource::BiasCorrection { .. }
                | InputSource::BatchRows
                | InputSource::Rows { .. }
                | InputSource::Count { .. }
                | InputSource::RowCount { .. }
                | InputSource::OtherRows { .. }
                | InputSource::StepNumber => Vec::new(),
            };
            batch.inputs.push(values);
        }
        let label = |(&column, ranked): (&u32, &Option<u32>)| match ranked {
            None => rows.iter().map(|&row| f32::from_bits(record(row)[word(column)])).collect(),
            Some(_) => Vec::new(),
        };
        batch.labels = layout.labels.iter().zip(layout.ranked).map(label).collect();
        let ranked_for =
            |ranked: &Option<u32>| ranked.filter(|_| layout.ranks).map_or(Vec::new(), |column| self.targets(window, rows, column));
        batch.targets = layout.ranked.iter().map(ranked_for).collect();
        let flag = |column: u32| rows.iter().map(|&row| layout.holds(window, row, column)).collect();
        batch.flags = layout.flags.iter().map(|&column| flag(column)).collect();
        batch.keys = layout.keys.iter().map(|&column| rows.iter().map(|&row| long(record(row), word(column))).collect()).collect();
        for table in 0..layout.tables.len() {
            let group = match (0..table).find(|&other| self.groups_alike(other, table)) {
                Some(other) => batch.groups[other].clone(),
                None => self.group(table, &batch, window, rows),
            };
            batch.groups.push(group);
        }
        batch
    }

    /// Whether two tables have the same rows looked up by the same columns, so that one grouping is good for both.
    fn groups_alike(&self, a: usize, b: usize) -> bool {
        let (first, second) = (&self.layout.tables[a], &self.layout.tables[b]);
        let columns = |table: &recc_abi::Table| table.members.iter().map(|member| member.columns.clone()).collect::<Vec<_>>();
        first.lookups == second.lookups
            && first.all_rows == second.all_rows
            && columns(first) == columns(second)
            && self.layout.row_counts[a] == self.layout.row_counts[b]
            && self.touched[a].is_some() == self.touched[b].is_some()
    }

    /// Rows of ids, example by example.
    fn ids(&self, window: &Window, rows: &[u32], columns: &[u32]) -> Vec<u32> {
        let layout = self.layout;
        let own = |&column: &u32| (layout.words[column as usize], layout.ids(column));
        let columns: Vec<(usize, RowsOf<'_>)> = columns.iter().map(own).collect();
        let mut found = Vec::with_capacity(rows.len() * columns.len());
        for &row in rows {
            let record = &window.records[row as usize * layout.width..(row as usize + 1) * layout.width];
            found.extend(columns.iter().map(|(word, ids)| ids.row(record[*word])));
        }
        found
    }

    /// Where the entries of each example's bag begin, and where the last one's end.
    fn begins(&self, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        let mut total = 0;
        let ends = rows.iter().map(|&row| {
            total += bag_of(window, self.layout, row, column).len() as u32;
            total
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Numbers or times of sequences as records hold them.
    fn steps(&self, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        let own = rows.iter().flat_map(|&row| bag_of(window, self.layout, row, column));
        // What follows the last one is read and not used.
        own.copied().chain([0]).collect()
    }

    /// What each row of a ranking is ranked for: the last entry of its sequence, where it is held back, or its id, where that is known.
    fn targets(&self, window: &Window, rows: &[u32], column: u32) -> Vec<Target> {
        let layout = self.layout;
        let known = layout.ids(column);
        let target = |&row: &u32| {
            if !layout.is_sequence(column) {
                let id = window.records[row as usize * layout.width + layout.words[column as usize]];
                let row = if layout.holds_back { known.row(id) } else { 0 };
                return Target { row, exists: layout.holds_back, seen: Vec::new() };
            }
            let record = &window.records[row as usize * layout.width..];
            let part = layout.words[column as usize];
            let several = taken_entries(record, part, &window.bags).len() > 1;
            let ids = stored_entries(record, part, &window.bags);
            let (next, before) = match ids.split_last() {
                Some((next, before)) if layout.holds_back && several => (Some(next), before),
                _ => (None, ids),
            };
            Target {
                row: next.map_or(0, |&next| known.row(next)),
                exists: next.is_some(),
                seen: before.iter().map(|&id| known.row(id)).collect(),
            }
        };
        rows.iter().map(target).collect()
    }

    /// For each step whether a known value comes next, or for each id whether it is one.
    fn has_target(&self, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        self.layout.target_rows(window, rows, column).map(|target| f32::from(u8::from(target > 0)).to_bits()).collect()
    }

    /// Rows of a table drawn for each step or id: uniformly among all but row 0 and the target's. Drawn for the whole batch, any but row 0.
    fn drawn(&self, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        let layout = self.layout;
        let ColumnKind::Drawn { of, table, count, drawing } = layout.columns[column as usize].kind else { return Vec::new() };
        let candidates = layout.row_counts[table as usize] as u32 - 1;
        // By the batch's first row: another one in each batch of an epoch.
        let first = rows.first().map_or(0, |&row| window.rows[row as usize]);
        let key = draw_key(layout.draw.unwrap_or(0) ^ u64::from(column) << 32, first, u32::MAX);
        match drawing {
            Drawing::Each => {}
            Drawing::Shared => return (0..count).map(|at| 1 + below(key, at, candidates)).collect(),
            Drawing::Popularity => {
                let row = |at: u32| layout.popularity.get(&of).map_or(0, |known| known.draw(key ^ u64::from(at)));
                return (0..count).map(row).collect();
            }
            Drawing::Batch => return some_of(self.layout.target_rows(window, rows, of).filter(|row| *row > 0).collect(), count, key),
        }
        let place = rows.iter().flat_map(|&row| {
            let steps = predicted_ids(window, layout, row, of).len() as u64;
            (0..steps).map(move |step| u64::from(row) << 32 | step)
        });
        let mut drawn = Vec::new();
        for (place, next) in place.zip(self.layout.target_rows(window, rows, of)) {
            let key = draw_key(layout.draw.unwrap_or(0), window.rows[(place >> 32) as usize], place as u32);
            let others = if next > 0 { candidates - 1 } else { candidates };
            drawn.extend((0..count).map(|at| {
                let own = 1 + below(key, at, others);
                own + u32::from(next > 0 && own >= next)
            }));
        }
        drawn
    }

    /// The log of the share of the training data's targets that each drawn row is.
    fn log_shares(&self, batch: &Batch, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        let ColumnKind::Drawn { of, .. } = self.layout.columns[column as usize].kind else { return Vec::new() };
        let popularity = self.layout.popularity.get(&of);
        let share = |row: u32| popularity.map_or(0.0, |known| known.log_share(row)).to_bits();
        let known = self.plan.inputs.iter().position(|input| input.source == InputSource::Drawn { column });
        match known.and_then(|at| batch.inputs.get(at)) {
            Some(drawn) => drawn.iter().copied().map(share).collect(),
            None => self.drawn(window, rows, column).into_iter().map(share).collect(),
        }
    }

    fn bag(&self, window: &Window, rows: &[u32], column: u32) -> Vec<u32> {
        let layout = self.layout;
        let known = layout.ids(column);
        let mut ids = Vec::new();
        for &row in rows {
            ids.extend(bag_of(window, layout, row, column).iter().map(|&id| known.row(id)));
        }
        // What follows the last entry is read and not used.
        ids.push(0);
        ids
    }

    /// Groups the occurrences of each touched row, rows in increasing order (all of them, where the update visits all).
    fn group(&mut self, table: usize, batch: &Batch, window: &Window, rows: &[u32]) -> Grouping {
        let (layout, plan) = (self.layout, self.plan);
        let spec = &layout.tables[table];
        let mut group = Grouping::default();
        if self.touched[table].is_none() || spec.lookups.is_empty() {
            return group;
        }
        // What the plan reads is there already. A look-up whose rows only the update visits is not.
        let known = |source: InputSource| {
            let at = plan.inputs.iter().position(|input| input.source == source);
            at.map(|at| Cow::Borrowed(batch.inputs[at].as_slice()))
        };
        let is_bag = |column: u32| matches!(layout.columns[column as usize].kind, ColumnKind::Ids { .. });
        let drawn = |column: u32| match layout.columns[column as usize].kind {
            ColumnKind::Drawn { of, count, drawing, .. } => Some((of, count, drawing.is_shared())),
            _ => None,
        };
        // Each occurrence's place among the touched rows, by look-up.
        let mut found: Vec<Vec<u32>> = Vec::new();
        for columns in &spec.lookups {
            let first = columns[0];
            let bases: Vec<u32> = columns.iter().map(|&column| layout.base(table, column) as u32).collect();
            let ids = match is_bag(first) {
                _ if drawn(first).is_some() => {
                    known(InputSource::Drawn { column: first }).unwrap_or_else(|| self.drawn(window, rows, first).into())
                }
                true => known(InputSource::Entries { column: first }).unwrap_or_else(|| self.bag(window, rows, first).into()),
                false => known(InputSource::Ids { columns: columns.clone() }).unwrap_or_else(|| self.ids(window, rows, columns).into()),
            };
            // Behind the entries there is one more that is no id.
            let ids = if is_bag(first) { &ids[..ids.len() - 1] } else { &ids };
            found.push(match bases.as_slice() {
                [0] => ids.to_vec(),
                bases => ids.chunks_exact(bases.len()).flat_map(|ids| ids.iter().zip(bases).map(|(id, base)| id + base)).collect(),
            });
        }
        group.rows = match &mut self.touched[table] {
            Some(touched) if !spec.all_rows => touched.number(&mut found),
            _ => (0..layout.row_counts[table] as u32).collect(),
        };
        let touched = group.rows.len();
        for (columns, places) in spec.lookups.iter().zip(found) {
            let first = columns[0];
            group.lookups.push(if let Some((_, count, true)) = drawn(first) {
                // Of no example: the gradient exists once, with a row for each.
                sorted(&places, touched, std::iter::once((0, 0..count)))
            } else if let Some((of, count, false)) = drawn(first)
                && layout.is_sequence(of)
            {
                let of = layout.entries_of(of);
                let begins = known(InputSource::EntryBegin { column: of }).unwrap_or_else(|| self.begins(window, rows, of).into());
                let own = begins.windows(2).map(|own| own[0] * count..own[1] * count);
                let mut found = sorted(&places, touched, own.enumerate());
                found.within = found.slot.iter().map(|slot| slot % count).collect();
                found.slot.iter_mut().for_each(|slot| *slot /= count);
                found
            } else if is_bag(first) {
                let of = layout.entries_of(first);
                let begins = known(InputSource::EntryBegin { column: of }).unwrap_or_else(|| self.begins(window, rows, first).into());
                sorted(&places, touched, begins.windows(2).map(|own| own[0]..own[1]).enumerate())
            } else {
                let each = drawn(first).map_or(columns.len() as u32, |(_, count, _)| count);
                sorted(&places, touched, std::iter::repeat_n(0..each, batch.rows).enumerate())
            });
        }
        group
    }
}

/// A row's entries of a column, less one that is held back.
fn bag_of<'w>(window: &'w Window, layout: Layout<'_>, row: u32, column: u32) -> &'w [u32] {
    let all = taken_entries(&window.records[row as usize * layout.width..], layout.words[column as usize], &window.bags);
    if layout.is_held_back(column) && all.len() > 1 {
        return &all[..all.len() - 1];
    }
    let own = layout.entries_of(column);
    match (layout.draw, layout.columns[own as usize].kind.split()) {
        (Some(draw), Some(split @ Split { stochastic: Some(_), .. })) => {
            let place = crate::random::uniform(draw ^ u64::from(own) << 32, u64::from(window.rows[row as usize]));
            &all[all.len() - split.stochastic_length(all.len(), place)..]
        }
        _ => all,
    }
}

/// The ids of a row among which a softmax finds its targets: a sequence's, or the id itself.
fn predicted_ids<'w>(window: &'w Window, layout: Layout<'_>, row: u32, column: u32) -> &'w [u32] {
    let at = row as usize * layout.width + layout.words[column as usize];
    if layout.is_sequence(column) { bag_of(window, layout, row, column) } else { &window.records[at..=at] }
}

/// Occurrences by touched row, each row's in the order of the batch (counting sort). The examples come with the slots of their occurrences.
fn sorted(places: &[u32], rows: usize, examples: impl Iterator<Item = (usize, Range<u32>)>) -> Occurrences {
    // Where each row's next occurrence goes; behind the last one it is where the next row's begin.
    let mut next = vec![0u32; rows + 1];
    for &place in places {
        next[place as usize + 1] += 1;
    }
    for row in 0..rows {
        next[row + 1] += next[row];
    }
    let begin = next.clone();
    let mut example = vec![0; places.len()];
    let mut slot = vec![0; places.len()];
    let mut places = places.iter();
    for (own_example, slots) in examples {
        for (own_slot, &place) in slots.zip(&mut places) {
            let next = &mut next[place as usize];
            example[*next as usize] = own_example as u32;
            slot[*next as usize] = own_slot;
            *next += 1;
        }
    }
    Occurrences { begin, example, slot, within: Vec::new() }
}

/// Whether a plan's input is one part of a row grouping.
pub(crate) fn grouping_part<'b>(batch: &'b Batch, source: &InputSource) -> Option<&'b [u32]> {
    let InputSource::Rows { table, source } = source else { return None };
    let group = batch.groups.get(*table as usize)?;
    let lookup = |lookup: &u32| group.lookups.get(*lookup as usize);
    match source {
        RowSource::Rows => Some(&group.rows),
        RowSource::Begin { lookup: own } => lookup(own).map(|own| own.begin.as_slice()),
        RowSource::Example { lookup: own } => lookup(own).map(|own| own.example.as_slice()),
        RowSource::Slot { lookup: own } => lookup(own).map(|own| own.slot.as_slice()),
        RowSource::Within { lookup: own } => lookup(own).map(|own| own.within.as_slice()),
    }
}
