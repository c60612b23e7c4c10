//! `planted(…)`: rows drawn from a model that is known, so that the best reachable metric is known too.
//!
//! Each value of a feature has a weight and a small vector; the logit is the sum of the weights and of all products of vectors, scaled
//! to a spread of about 2. Ids follow a Zipf law with exponent 1.05; numbers are exponential. A label is drawn with the probability
//! the logit gives, or is the size of the logit with noise of deviation 0.5, of levels the nearest one.

use super::{Part, Place, RowReader, TextRows};
use crate::failure::Failure;
use crate::random::{key, mix64, normal, uniform};
use recc_abi::{Column, ColumnKind, Domain, Encoder, Planted, Token};

/// Width of the planted vectors.
const WIDTH: usize = 4;
/// Entries of a sequence are fewer than this.
const LONGEST: u64 = 16;

/// Draws rows.
pub(crate) struct PlantedRows {
    columns: Vec<Column>,
    names: Vec<String>,
    planted: Planted,
    part: Part,
    place: Place,
    rows: u64,
    cumulative: Vec<f64>,
    /// Logits of the rows so far, for the best reachable metric.
    truth: std::sync::Arc<std::sync::Mutex<Vec<f64>>>,
}

impl PlantedRows {
    pub(crate) fn new(columns: &[Column], planted: &Planted, part: Part) -> Self {
        let names = columns.iter().filter_map(|column| column.token.column().map(str::to_owned));
        let mut unique: Vec<String> = Vec::new();
        names.for_each(|name| {
            if !unique.contains(&name) {
                unique.push(name)
            }
        });
        let rows = if part == Part::Train { planted.rows } else { (planted.rows / 10).max(1) };
        let mut total = 0.0;
        let cumulative = (0..planted.vocab).map(|rank| {
            total += 1.0 / (rank as f64 + 1.0).powf(1.05);
            total
        });
        PlantedRows {
            columns: columns.to_vec(),
            names: unique,
            planted: planted.clone(),
            part,
            place: Place::new("synthetic data"),
            rows,
            cumulative: cumulative.collect(),
            truth: std::sync::Arc::default(),
        }
    }

    /// The planted logits, filled as rows are drawn.
    pub(crate) fn truth(&self) -> std::sync::Arc<std::sync::Mutex<Vec<f64>>> {
        self.truth.clone()
    }

    fn zipf(&self, u: f64) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        self.cumulative.partition_point(|sum| *sum < u * total) as u64
    }

    /// Entries of a bag or a sequence; as many as the sequence has that it is aligned with.
    fn count(&self, place: u64, name: &str, kind: &ColumnKind) -> u64 {
        let other = kind.split().and_then(|split| split.aligned).and_then(|other| self.columns[other as usize].token.column());
        let own = key(self.planted.seed, other.unwrap_or(name));
        let bag = matches!(kind, ColumnKind::Ids { ordered: false, .. });
        (uniform(own, place) * if bag { 4.0 } else { LONGEST as f64 }) as u64
    }

    fn draw(&self, place: u64, name: &str, kind: &ColumnKind, score: &mut Score) -> String {
        let own = key(self.planted.seed, name);
        match kind {
            ColumnKind::Number(_) => {
                let value = -(1.0 - uniform(own, place)).ln() * 3.0;
                let text = format!("{value:.3}");
                score.add(own, 0, (1.0 + value).ln() - 1.0);
                text
            }
            ColumnKind::Id { encoder: Encoder::Bucket { bounds } } => {
                let low = bounds.first().copied().unwrap_or(0.0);
                let high = bounds.last().copied().unwrap_or(1.0);
                let value = (low - 1.0) + uniform(own, place) * (high - low + 2.0);
                let text = format!("{value:.3}");
                score.add(own, bounds.partition_point(|bound| *bound <= value) as u64, 1.0);
                text
            }
            ColumnKind::Ids { split, .. } => {
                let count = self.count(place, name, kind);
                let mut parts = Vec::new();
                for at in 0..count {
                    let id = self.zipf(uniform(own ^ 0x5bd1, place.wrapping_mul(LONGEST).wrapping_add(at)));
                    let weight = split.weighted.as_ref().map_or(String::new(), |sign| format!("{sign}{}", 1 + at % 3));
                    parts.push(format!("v{id}{weight}"));
                    score.add(own, id, 1.0 / count as f64);
                }
                parts.join(&split.separator)
            }
            ColumnKind::Numbers { split, times, .. } => {
                let count = self.count(place, name, kind);
                let mut time = 1_600_000_000 + (uniform(own ^ 0x71e5, place) * 1e7) as u64;
                let mut parts = Vec::new();
                for at in 0..count {
                    let value = -(1.0 - uniform(own ^ 0x5bd1, place.wrapping_mul(LONGEST).wrapping_add(at))).ln();
                    time += (value * 3600.0) as u64;
                    parts.push(if *times { time.to_string() } else { format!("{value:.3}") });
                }
                parts.join(&split.separator)
            }
            ColumnKind::Time => (1_600_000_000 + (uniform(own, place) * 1e7) as u64).to_string(),
            ColumnKind::Id { .. } | ColumnKind::Key => {
                let id = self.zipf(uniform(own, place));
                if matches!(kind, ColumnKind::Id { .. }) {
                    score.add(own, id, 1.0);
                }
                format!("v{id}")
            }
            ColumnKind::Label { .. } | ColumnKind::Flag { .. } | ColumnKind::Drawn { .. } => String::new(),
        }
    }
}

/// The planted logit, added up feature by feature.
#[derive(Default)]
struct Score {
    linear: f64,
    sum: [f64; WIDTH],
    squares: f64,
    features: usize,
}

impl Score {
    fn add(&mut self, feature: u64, value: u64, size: f64) {
        let place = mix64(feature ^ mix64(value));
        self.linear += 0.6 * normal(place, 0) * size;
        for (at, sum) in self.sum.iter_mut().enumerate() {
            let part = normal(place, 1 + at as u64) * size;
            *sum += part;
            self.squares += part * part;
        }
        self.features += 1;
    }

    fn logit(&self) -> f64 {
        let pairs = 0.5 * (self.sum.iter().map(|sum| sum * sum).sum::<f64>() - self.squares);
        let n = self.features.max(1) as f64;
        let spread = (0.36 * n + 0.5 * n * (n - 1.0).max(0.0) * 0.25 * WIDTH as f64).sqrt();
        2.0 * (self.linear + 0.5 * pairs) / spread.max(1e-9) - 0.5
    }
}

impl RowReader for PlantedRows {
    fn columns(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, rows: &mut TextRows) -> Result<bool, Failure> {
        if self.place.row >= self.rows {
            return Ok(false);
        }
        let part = match self.part {
            Part::Train => 0,
            Part::Valid => 1,
            Part::Test => 2,
        };
        let place = mix64(self.planted.seed ^ (part << 60) ^ self.place.row);
        let mut score = Score::default();
        let mut cells: Vec<(String, String)> = Vec::new();
        for column in &self.columns {
            if let Token::Part { column: name, separator, at, .. } = &column.token {
                let text = self.draw(place, &column.name, &column.kind, &mut score);
                match cells.iter_mut().find(|(known, _)| known == name) {
                    Some((_, cell)) if *at > 0 => *cell = format!("{cell}{separator}{text}"),
                    Some(_) => {}
                    None => cells.push((name.clone(), text)),
                }
            }
            if let Token::Column(name) = &column.token {
                if matches!(column.kind, ColumnKind::Label { .. }) || cells.iter().any(|(known, _)| known == name) {
                    continue;
                }
                cells.push((name.clone(), self.draw(place, name, &column.kind, &mut score)));
            }
        }
        let logit = score.logit();
        for column in &self.columns {
            if let (ColumnKind::Label { binary }, Token::Column(name)) = (&column.kind, &column.token) {
                let own = key(self.planted.seed ^ 0x1abe1, name);
                let number = (logit + 0.5 * normal(own, place)).abs();
                let text = match column.domain {
                    Some(Domain::Levels(levels)) => (1.0 + number).round().min(f64::from(levels)).to_string(),
                    _ if *binary => u8::from(uniform(own, place) < 1.0 / (1.0 + (-logit).exp())).to_string(),
                    _ => format!("{number:.4}"),
                };
                cells.push((name.clone(), text));
            }
        }
        for name in &self.names {
            let text = cells.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text);
            rows.push(text.as_bytes());
        }
        if let Ok(mut truth) = self.truth.lock() {
            truth.push(logit);
        }
        self.place.row += 1;
        Ok(true)
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
