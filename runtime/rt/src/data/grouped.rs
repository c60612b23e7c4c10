//! Rows of one group as one row: each column's cells in order, one behind another.
//!
//! All rows are read before the first group is given out: the rows of a group may lie anywhere.

use super::{Part, Place, RowReader, Rows, TextRows};
use crate::failure::Failure;
use indexmap::IndexMap;
use recc_abi::{DataSpec, GROUPED};

/// The cells of a group, row by row.
struct Group {
    rows: TextRows,
    /// The rows by what they are ordered by.
    order: Vec<(f64, usize)>,
}

pub(super) struct GroupedRows {
    columns: Vec<String>,
    place: Place,
    groups: std::vec::IntoIter<Group>,
    /// Rows that each group leaves out at its end.
    left_out: usize,
    group: usize,
}

impl GroupedRows {
    /// Reads all rows of files. With leave-one-out training sees all but the last two rows of a group, and validation all but the last.
    pub(super) fn new(rows: &mut Rows, spec: &DataSpec, group: &str, part: Part) -> Result<Self, Failure> {
        let columns = rows.columns().to_vec();
        let find = |name: &str| {
            columns.iter().position(|column| column == name).ok_or_else(|| {
                let known = columns.join(", ");
                Failure::input(format!(
                    "{}: there is no column {name:?} to group or order rows by\nhelp: the columns are {known}",
                    rows.place()
                ))
            })
        };
        let (group, order) = (find(group)?, spec.order.as_deref().map(find).transpose()?);
        let mut groups: IndexMap<Vec<u8>, Group, foldhash::fast::RandomState> = IndexMap::default();
        rows.for_each_chunk(|rows, first| {
            for (at, row) in rows.iter().enumerate() {
                let place = match order {
                    None => 0.0,
                    Some(order) => number(row.cell(order)).map_err(|text| {
                        let shown = String::from_utf8_lossy(row.cell(order)).into_owned();
                        Failure::input(format!("{}, column {:?}: {shown:?} {text}", first.after(at), columns[order]))
                    })?,
                };
                if let Some(column) = (0..columns.len()).find(|&at| row.cell(at).contains(&GROUPED.as_bytes()[0])) {
                    return Err(Failure::input(format!(
                        "{}, column {:?}: the cell holds the sign 0x1f, which stands between the rows of a group\nhelp: remove it from the data",
                        first.after(at),
                        columns[column]
                    )));
                }
                let key = row.cell(group);
                let own = match groups.get_mut(key) {
                    Some(own) => own,
                    None => groups.entry(key.to_vec()).or_insert(Group { rows: TextRows::new(columns.len()), order: Vec::new() }),
                };
                own.order.push((place, own.order.len()));
                row.iter().for_each(|cell| own.rows.push(cell));
            }
            Ok(())
        })?;
        // Stable: rows of one place stay in the order of the files.
        groups.values_mut().for_each(|own| own.order.sort_by(|a, b| a.0.total_cmp(&b.0)));
        let left_out = match part {
            _ if !spec.leave_one_out => 0,
            Part::Train => 2,
            Part::Valid => 1,
            Part::Test => 0,
        };
        groups.retain(|_, own| own.order.len() > left_out);
        let name = |key: &Vec<u8>| format!("{} {:?}", columns[group], String::from_utf8_lossy(key));
        let names = groups.keys().map(name).collect();
        let place = Place { names: Some(names), ..Place::new(rows.source()) };
        let groups: Vec<Group> = groups.into_values().collect();
        Ok(GroupedRows { columns, place, groups: groups.into_iter(), left_out, group })
    }
}

/// What rows are ordered by: a number.
fn number(text: &[u8]) -> Result<f64, String> {
    let found = std::str::from_utf8(text.trim_ascii()).ok().and_then(|text| text.parse::<f64>().ok());
    found
        .filter(|number| number.is_finite())
        .ok_or_else(|| "is no number, and rows are ordered by it\nhelp: order by a number, such as a time in seconds".to_owned())
}

impl RowReader for GroupedRows {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure> {
        if let Some(group) = self.groups.next() {
            self.place.row += 1;
            let kept = group.order.len() - self.left_out;
            let mut cell = Vec::new();
            for column in 0..self.columns.len() {
                cell.clear();
                for (at, &(_, row)) in group.order[..kept].iter().enumerate() {
                    if at > 0 {
                        if column == self.group {
                            break;
                        }
                        cell.extend_from_slice(GROUPED.as_bytes());
                    }
                    cell.extend_from_slice(group.rows.row(row).cell(column));
                }
                rows.push(&cell);
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
