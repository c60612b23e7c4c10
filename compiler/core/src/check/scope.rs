//! Scopes of names, and the tree of paths that names parameters.

use super::value::Value;
use recc_abi::VariableId;
use recc_syntax::ast::Span;

/// A name bound in a body.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) span: Span,
    pub(super) mutable: bool,
    pub(super) used: bool,
    /// Whether an unused one is worth a warning.
    pub(super) watched: bool,
}

/// A place in the tree of parameter paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathId(usize);

#[derive(Debug)]
struct PathNode {
    name: String,
    parent: Option<PathId>,
    children: Vec<PathId>,
    /// Those of the children that are told apart by their order: calls, parameters and layers.
    ordered: Vec<PathId>,
    /// The next of those to visit again when a layer is applied again.
    cursor: usize,
    variable: Option<VariableId>,
    /// The place in the text that made it.
    site: Option<Span>,
}

/// The tree: model, bindings, block calls, parameters.
#[derive(Debug, Default)]
pub(super) struct Paths {
    nodes: Vec<PathNode>,
}

impl Paths {
    pub(super) fn root(&mut self, name: &str) -> PathId {
        self.push(name, None, None)
    }

    /// The root of a name: the same one in each walk.
    pub(super) fn root_again(&mut self, name: &str) -> PathId {
        let known = self.nodes.iter().position(|node| node.parent.is_none() && node.name == name);
        known.map_or_else(|| self.root(name), PathId)
    }

    fn push(&mut self, name: &str, parent: Option<PathId>, site: Option<Span>) -> PathId {
        let id = PathId(self.nodes.len());
        self.nodes.push(PathNode {
            name: name.to_owned(),
            parent,
            children: Vec::new(),
            ordered: Vec::new(),
            cursor: 0,
            variable: None,
            site,
        });
        if let Some(parent) = parent {
            self.nodes[parent.0].children.push(id);
        }
        id
    }

    /// A child by name, one for each name: bindings.
    pub(super) fn binding(&mut self, parent: PathId, name: &str) -> PathId {
        let known = self.nodes[parent.0].children.iter().copied().find(|child| self.nodes[child.0].name == name);
        known.unwrap_or_else(|| self.push(name, Some(parent), None))
    }

    /// The next child of a name: block calls and parameters. Visited again in the same order when a layer is applied again.
    pub(super) fn enter(&mut self, parent: PathId, name: &str, site: Option<Span>) -> PathId {
        let cursor = self.nodes[parent.0].cursor;
        if let Some(&child) = self.nodes[parent.0].ordered.get(cursor) {
            self.nodes[parent.0].cursor += 1;
            self.nodes[child.0].cursor = 0;
            return child;
        }
        let child = self.push(name, Some(parent), site);
        self.nodes[parent.0].ordered.push(child);
        self.nodes[parent.0].cursor += 1;
        child
    }

    /// Makes the next visit begin at the first child.
    pub(super) fn rewind(&mut self, id: PathId) {
        self.nodes[id.0].cursor = 0;
    }

    /// The same for every place: the whole model is walked again.
    pub(super) fn rewind_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.cursor = 0);
    }

    pub(super) fn variable(&self, id: PathId) -> Option<VariableId> {
        self.nodes[id.0].variable
    }

    pub(super) fn set_variable(&mut self, id: PathId, variable: VariableId) {
        self.nodes[id.0].variable = Some(variable);
    }

    /// `deepfm.deep.mlp.linear[0].w`: an index where the parent has several children of the name.
    pub(super) fn text(&self, id: PathId) -> String {
        self.render(id, true)
    }

    /// The same, known before later siblings are: an index from the second on.
    pub(super) fn early_text(&self, id: PathId) -> String {
        self.render(id, false)
    }

    fn render(&self, id: PathId, complete: bool) -> String {
        let node = &self.nodes[id.0];
        let Some(parent) = node.parent else { return node.name.clone() };
        let same: Vec<PathId> =
            self.nodes[parent.0].children.iter().copied().filter(|child| self.nodes[child.0].name == node.name).collect();
        let index = same.iter().position(|child| *child == id).unwrap_or(0);
        let head = self.render(parent, complete);
        if complete && same.len() > 1 || index > 0 { format!("{head}.{}[{index}]", node.name) } else { format!("{head}.{}", node.name) }
    }

    /// Two calls of one block at different places directly under a binding: their indices change when they are reordered.
    pub(super) fn ambiguous_calls(&self, binding: PathId) -> Option<(String, Span, Span)> {
        let children = &self.nodes[binding.0].children;
        for (at, child) in children.iter().enumerate() {
            for later in &children[at + 1..] {
                let (a, b) = (&self.nodes[child.0], &self.nodes[later.0]);
                if let (Some(first), Some(second)) = (a.site, b.site)
                    && a.name == b.name
                    && first != second
                    && self.holds_variables(*child)
                {
                    return Some((a.name.clone(), first, second));
                }
            }
        }
        None
    }

    fn holds_variables(&self, id: PathId) -> bool {
        self.nodes[id.0].variable.is_some() || self.nodes[id.0].children.iter().any(|child| self.holds_variables(*child))
    }
}
