//! A compiled model as data: columns, tables, variables, training, metrics.

use crate::column::{Column, Drawing};
use crate::device::DeviceFunction;
use crate::plan::{KernelEntry, Plan, VariableId};
use serde::{Deserialize, Serialize};

/// A compiled model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// [`crate::FORMAT`] of the compiler.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// The text it was compiled from.
    pub source: String,
    /// The resolved spec: every default written out.
    pub resolved: String,
    /// SHA-256 of `resolved`, in hexadecimal: the identity of the model.
    pub hash: String,
    /// What made it.
    pub build: BuildInfo,
    /// Where data comes from when a command names none.
    pub data: DataSpec,
    /// The columns, groups expanded.
    pub columns: Vec<Column>,
    /// Embedding tables.
    pub tables: Vec<Table>,
    /// Everything that training changes.
    pub variables: Vec<Variable>,
    /// What the model predicts.
    pub predictions: Vec<Prediction>,
    /// What `train` and `eval` report.
    pub metrics: Vec<Metric>,
    /// The parts of the rows that every metric is reported of as well.
    pub cohorts: Vec<Cohort>,
    /// What models expose, for auxiliary objectives: `ranker.shared`.
    pub exposed: Vec<String>,
    /// What models expose and `eval` looks at.
    pub inspected: Vec<Inspected>,
    /// How it is trained.
    pub train: TrainSpec,
    /// One training step.
    pub step: Plan,
    /// One scoring call.
    pub score: Plan,
    /// Scoring of rows that share their sequences, if the model has keys and computes something from sequences alone.
    pub grouped: Option<GroupedScore>,
    /// The code.
    pub kernels: Vec<KernelEntry>,
    /// Where the code is a module for a device: the functions that each kernel calls there.
    pub device: Option<Vec<Vec<DeviceFunction>>>,
}

/// Scoring in two parts: what rows of one key share is computed once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupedScore {
    /// Computes the shared values, by one row of each key.
    pub once: Plan,
    /// Computes the results of scoring from them.
    pub each: Plan,
    /// The shared values.
    pub values: Vec<SharedValue>,
}

/// A value that rows of one key share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedValue {
    /// The column of whose entries each has one, if it is not one for a row.
    pub of: Option<u32>,
    /// Its numbers, of each entry or of a row.
    pub len: u32,
}

impl SharedValue {
    /// The name of the result that the value at a position is.
    pub fn result(slot: u32) -> String {
        format!("shared.{slot}")
    }
}

/// A value of each row that is no prediction: a result of the scoring plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// The model and what it exposes: `ranker.shared`.
    pub name: String,
    /// Its numbers for each row.
    pub width: u32,
}

impl Inspected {
    /// What names of such results begin with.
    pub const PREFIX: &str = "inspected.";

    /// The name of the result.
    pub fn result(&self) -> String {
        format!("{}{}", Self::PREFIX, self.name)
    }
}

/// What made a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildInfo {
    /// Version of the compiler.
    pub version: String,
    /// `cpu` or `cuda`
    pub target: String,
    /// `x86-64-v3`, …
    pub cpu: String,
    /// Processor features the code uses, by the names the system gives them.
    pub features: Vec<String>,
}

/// The `data` item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// What files hold, where their names do not say.
    pub format: Option<DataFormat>,
    /// Column names of files without a header.
    pub columns: Option<Vec<String>>,
    /// Default training files.
    pub train: Vec<String>,
    /// Default validation files.
    pub valid: Vec<String>,
    /// Default test files.
    pub test: Vec<String>,
    /// Drawn data.
    pub synthetic: Option<Planted>,
    /// What stands between the cells of text, if its format does not say it.
    pub separator: Option<char>,
    /// The column whose equal values make one row of several.
    pub group: Option<String>,
    /// The column by which the rows of a group are ordered; as they come without one.
    pub order: Option<String>,
    /// Whether the last row of each group is for the test, and the one before for validation.
    pub leave_one_out: bool,
}

/// Stands between the cells that a group of rows has in one column.
pub const GROUPED: &str = "\u{1f}";

/// The format of data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataFormat {
    /// Comma separated.
    Csv,
    /// Tab separated.
    Tsv,
    /// `label index:value …`
    Libsvm,
    /// Apache Parquet.
    Parquet,
}

/// `synthetic: planted(…)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planted {
    /// Training rows; validation and test get a tenth each on top.
    pub rows: u64,
    /// Seed of the draw.
    pub seed: u64,
    /// Distinct values of each id feature.
    pub vocab: u64,
}

/// An embedding table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its path: `deepfm.emb`.
    pub path: String,
    /// Width of a row.
    pub dim: u32,
    /// One member per group column, or a single one; their rows follow one another.
    pub members: Vec<TableMember>,
    /// The variable that holds the rows.
    pub variable: VariableId,
    /// Whether an update visits every row or the touched ones.
    pub all_rows: bool,
    /// The columns of each look-up that training differentiates.
    pub lookups: Vec<Vec<u32>>,
}

/// Rows of a table that belong to one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableMember {
    /// Its path: `deepfm.emb.C3`, or the table's own.
    pub path: String,
    /// The columns whose ids index it.
    pub columns: Vec<u32>,
    /// Rows beside row 0, where the spec says; else from the columns.
    pub rows: Option<u64>,
}

/// Something training changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// Its stable path; state of an optimizer is `<path>.<slot>`.
    pub path: String,
    /// Shape; of a table's variable the shape of a row.
    pub shape: Vec<u64>,
    /// The table whose rows it has.
    pub table: Option<u32>,
    /// Initial values.
    pub init: Init,
    /// What it is for.
    pub role: Role,
    /// Whether scoring reads it; heads of auxiliary objectives are for training alone.
    pub scored: bool,
}

/// What a variable is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Trained.
    Parameter,
    /// Kept between steps but not trained.
    State,
    /// An optimizer's state.
    Optimizer,
}

/// Initial values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// The same everywhere.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform on [-bound, bound).
    Uniform {
        /// The bound.
        bound: f64,
    },
}

/// A prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Its label's name; of a softmax a name of its own.
    pub name: String,
    /// Position of the label in `Program::columns`; of a softmax that of the sequence whose next entry is predicted, or of the id that is.
    pub label: u32,
    /// How its value is meant.
    pub link: Link,
    /// What it is trained with.
    pub loss: LossKind,
    /// The rows that its loss and its metrics are of: a column of conditions; all without one.
    pub rows: Option<u32>,
    /// The member of the ensemble whose own prediction it is; none for what the program predicts.
    pub model: Option<String>,
    /// How many members' weights fused it, if any: the result `<name>.weights`.
    pub weights: Option<u32>,
}

/// How the value of a prediction is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Link {
    /// The logit of a probability.
    Logit,
    /// A number.
    Value,
    /// The mean of a label's levels, which are whole numbers from 1, by their probabilities.
    Ordinal {
        /// How many.
        levels: u32,
    },
    /// Which row of a table: its product with a query, the result `<name>.query`, is the row's logit.
    Softmax(Ranking),
}

impl Link {
    /// Whether it is a softmax over drawn rows.
    fn draws(&self) -> bool {
        matches!(self, Link::Softmax(Ranking { negatives: Some(_), .. }))
    }

    /// The loss it has until an objective says otherwise.
    pub fn usual_loss(&self) -> LossKind {
        match self {
            Link::Logit => LossKind::Bce,
            Link::Value => LossKind::Mse,
            Link::Ordinal { .. } => LossKind::Ordinal,
            Link::Softmax(_) => LossKind::CrossEntropy,
        }
    }
}

/// Rows that targets are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negatives {
    /// How many for each target, or for a batch.
    pub count: u32,
    /// How.
    pub drawing: Drawing,
    /// Whether the cross entropy counts a drawn row by how often it is expected, so that the drawn ones stand for all.
    pub corrected: bool,
}

/// What a softmax ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The table whose rows, but row 0, are the candidates: its position in `Program::tables`.
    pub table: u32,
    /// What products are divided by.
    pub temperature: f64,
    /// Whether queries and rows are brought to length 1 before.
    pub normalize: bool,
    /// Rows drawn in training; none where a target is compared with all.
    pub negatives: Option<Negatives>,
    /// Whether what a row has seen may come again: it is a candidate then.
    pub repeats: bool,
}

impl Prediction {
    /// Whether it is a probability, given as a logit.
    pub fn is_logit(&self) -> bool {
        self.link == Link::Logit
    }

    /// Whether its loss is known from its value and its label. That of a ranking is over drawn rows, which only training has, and that of levels
    /// by their thresholds.
    pub fn has_loss(&self) -> bool {
        matches!(self.link, Link::Logit | Link::Value)
    }

    /// Whether the program gives its value for each row: not a member's on its way, nor a ranking.
    pub fn scores_rows(&self) -> bool {
        self.model.is_none() && self.ranking().is_none()
    }

    /// What it ranks, if it is a softmax.
    pub fn ranking(&self) -> Option<&Ranking> {
        match &self.link {
            Link::Softmax(ranking) => Some(ranking),
            Link::Logit | Link::Value | Link::Ordinal { .. } => None,
        }
    }

    /// The name of its result in a plan; the link's ends in `.link`.
    pub fn result(&self) -> String {
        match &self.model {
            Some(model) => format!("{model}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// A named part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Its name.
    pub name: String,
    /// Position of its condition in `Program::columns`.
    pub column: u32,
}

/// The losses of a link z and a label y.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum LossKind {
    /// Binary cross entropy of a logit: softplus(z) - y·z. Of a softmax, for each step that has a target, with the target's logit s and those of the drawn rows s_k:
    /// softplus(-s) + Σ_k softplus(s_k) (Kang and McAuley 2018).
    Bce,
    /// Focal loss of a logit (Lin et al. 2017): (1 - p)^gamma · -ln p, with p the probability of the label's own side.
    Focal {
        /// How little what is known already counts.
        gamma: f64,
        /// Weight of positive examples, 1 - alpha being that of the others; without it both count 1.
        alpha: Option<f64>,
    },
    /// Squared error: (z - y)².
    Mse,
    /// Absolute error: |z - y|.
    Mae,
    /// Huber's loss: half the squared error up to `delta`, beyond it linear.
    Huber {
        /// Where it becomes linear.
        delta: f64,
    },
    /// Cross entropy of a softmax, over the target and the drawn rows or over all: the log of its sum less the target's logit, for each step that has a target.
    CrossEntropy,
    /// Negative log likelihood of a label's level, by logits of being above each level but the last: z less thresholds that rise (McCullagh 1980).
    Ordinal,
    /// Bayesian personalised ranking of a softmax (Rendle et al. 2009): the mean of softplus(s_k - s) over the drawn rows, for each step that has a target.
    Bpr,
    /// Generalised binary cross entropy of a softmax over drawn rows (Petrov and Macdonald 2023): (beta softplus(-s) + Σ_k softplus(s_k)) / (k + 1), for each step that
    /// has a target, with beta = 1 - calibration (1 - alpha) and alpha the share of the rows other than the target that are drawn.
    Gbce {
        /// From 0, which is the plain loss, to 1, where logits are as without drawing.
        calibration: f64,
    },
}

impl LossKind {
    /// Whether it is a loss of what a link gives.
    pub fn fits(self, link: &Link) -> bool {
        match self {
            LossKind::Bce => *link == Link::Logit || link.draws(),
            LossKind::Focal { .. } => *link == Link::Logit,
            LossKind::Mse | LossKind::Mae | LossKind::Huber { .. } => *link == Link::Value,
            LossKind::CrossEntropy => matches!(link, Link::Softmax(_)),
            LossKind::Bpr | LossKind::Gbce { .. } => link.draws(),
            LossKind::Ordinal => matches!(link, Link::Ordinal { .. }),
        }
    }
}

/// One figure to report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As written: `gauc(by: user_id)`.
    pub name: String,
    /// Which.
    pub kind: MetricKind,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricKind {
    /// Area under the ROC curve.
    Auc,
    /// AUC within the groups of a key, weighted by rows.
    Gauc {
        /// Position of the key in `Program::columns`.
        key: u32,
    },
    /// Mean negative log likelihood.
    Logloss,
    /// Log loss over that of predicting the mean label.
    Ne,
    /// Sum of predictions over sum of labels.
    Calibration,
    /// Root of the mean squared error.
    Rmse,
    /// Share of the targets among the first `k` candidates.
    Hr {
        /// How many.
        k: u32,
    },
    /// Mean of 1 / log2(rank + 1), of targets among the first `k` candidates.
    Ndcg {
        /// How many.
        k: u32,
    },
    /// Mean of 1 / rank of the targets.
    Mrr,
    /// Mean negative log likelihood of the targets by a softmax over all rows.
    LogPerplexity,
}

impl MetricKind {
    /// Whether a model with a larger figure is better.
    pub fn higher_is_better(self) -> bool {
        match self {
            MetricKind::Auc | MetricKind::Gauc { .. } | MetricKind::Hr { .. } | MetricKind::Ndcg { .. } | MetricKind::Mrr => true,
            MetricKind::Logloss | MetricKind::Ne | MetricKind::Calibration | MetricKind::Rmse | MetricKind::LogPerplexity => false,
        }
    }

    /// Whether it is a metric of what a link gives.
    pub fn fits(self, link: &Link) -> bool {
        match self {
            MetricKind::Auc | MetricKind::Gauc { .. } | MetricKind::Logloss | MetricKind::Ne | MetricKind::Calibration => {
                *link == Link::Logit
            }
            MetricKind::Rmse => matches!(link, Link::Value | Link::Ordinal { .. }),
            MetricKind::Hr { .. } | MetricKind::Ndcg { .. } | MetricKind::Mrr | MetricKind::LogPerplexity => {
                matches!(link, Link::Softmax(_))
            }
        }
    }
}

/// The `train` item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Examples per step.
    pub batch: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether epochs permute the rows.
    pub shuffle: bool,
    /// Factors of the learning rates by step and epoch; they multiply.
    pub schedules: Vec<Schedule>,
    /// `rate: plateau(…)`
    pub plateau: Option<Plateau>,
    /// `stop: patience(…)`
    pub stop: Option<Stopping>,
    /// What "best" means.
    pub best: Monitor,
}

/// A factor of the learning rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// `step / steps` over the first steps.
    Warmup {
        /// How many.
        steps: u64,
    },
    /// From 1 to `least` along half a cosine (Loshchilov and Hutter 2017), and `least` from then on.
    Cosine {
        /// Over so many epochs; without a number over all of the run.
        epochs: Option<u32>,
        /// The last factor.
        least: f64,
    },
    /// `factor` once more for each so many epochs that are over.
    Step {
        /// So many.
        every: u32,
        /// The factor.
        factor: f64,
    },
}

impl Schedule {
    /// The factor in a step, counted from 1, of a run of so many epochs of so many steps.
    pub fn factor(self, step: u64, steps_per_epoch: u64, run: u32) -> f64 {
        match self {
            Schedule::Warmup { steps } => (step as f64 / steps as f64).min(1.0),
            Schedule::Cosine { epochs, least } => {
                let part = ((step - 1) as f64 / (f64::from(epochs.unwrap_or(run)) * steps_per_epoch as f64)).min(1.0);
                least + (1.0 - least) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
            Schedule::Step { every, factor } => factor.powi(((step - 1) / steps_per_epoch / u64::from(every)).min(1 << 20) as i32),
        }
    }
}

/// The optimizers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum OptimizerKind {
    /// Gradient descent.
    Sgd,
    /// Adagrad.
    Adagrad,
    /// Adagrad with one sum per row.
    RowwiseAdagrad,
    /// Adam.
    Adam,
    /// Adam with decoupled decay.
    Adamw,
}

/// A metric to watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    /// The metric; `None` is the loss.
    pub metric: Option<Metric>,
    /// The prediction it is of.
    pub prediction: u32,
    /// Whether higher is better.
    pub higher: bool,
}

/// Cuts the learning rates when a metric stops to gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// What is watched.
    pub on: Monitor,
    /// The cut.
    pub factor: f64,
    /// Epochs without gain before a cut.
    pub patience: u32,
    /// Rates are not cut below this share of the first.
    pub least: f64,
}

/// Ends training when a metric stops to gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// What is watched.
    pub on: Monitor,
    /// Epochs without gain before the end.
    pub patience: u32,
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn schedules_give_known_factors() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        let warmup = Schedule::Warmup { steps: 4 };
        close(warmup.factor(1, 10, 2), 0.25);
        close(warmup.factor(9, 10, 2), 1.0);
        let cosine = Schedule::Cosine { epochs: None, least: 0.2 };
        close(cosine.factor(1, 10, 2), 1.0);
        close(cosine.factor(11, 10, 2), 0.6);
        close(cosine.factor(100, 10, 2), 0.2);
        let step = Schedule::Step { every: 2, factor: 0.5 };
        close(step.factor(20, 10, 2), 1.0);
        close(step.factor(21, 10, 2), 0.5);
        close(step.factor(41, 10, 2), 0.25);
    }
}
