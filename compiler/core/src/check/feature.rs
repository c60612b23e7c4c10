//! What a feature is, once its line is checked.

use recc_syntax::ast::{self, Name, Span};

/// The kinds of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Label {
        binary: bool,
    },
    Number,
    Id,
    /// Several ids: a bag, or a sequence, whose order counts.
    Ids {
        ordered: bool,
    },
    Time,
    /// A sequence of numbers or times.
    Steps {
        times: bool,
    },
    Key,
}

/// A feature or a group of features.
#[derive(Clone, Debug)]
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) kind: Kind,
    /// Positions of its columns.
    pub(super) columns: Vec<u32>,
    pub(super) group: bool,
    /// Steps of a number's pipeline behind `fill`.
    pub(super) steps: Vec<Step>,
    pub(super) used: bool,
    /// Columns that are known to exist and are right so far.
    pub(super) sound: bool,
}

impl Feature {
    /// Whether it is a number of each row that may weigh a loss.
    pub(super) fn weighs(&self) -> bool {
        matches!(self.kind, Kind::Number | Kind::Label { binary: false }) && !self.group && self.steps.is_empty()
    }
}

/// One step of a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: Name,
    pub(super) args: Vec<ast::Argument>,
    pub(super) span: Span,
}
