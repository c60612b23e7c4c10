//! The standard library, inside the compiler.

/// Modules by name, and their text.
pub(crate) const MODULES: &[(&str, &str)] = &[
    ("std.balance", include_str!("../../../stdlib/balance.rec")),
    ("std.dense", include_str!("../../../stdlib/dense.rec")),
    ("std.embedding", include_str!("../../../stdlib/embedding.rec")),
    ("std.ensemble", include_str!("../../../stdlib/ensemble.rec")),
    ("std.interaction", include_str!("../../../stdlib/interaction.rec")),
    ("std.multitask", include_str!("../../../stdlib/multitask.rec")),
    ("std.sequence", include_str!("../../../stdlib/sequence.rec")),
];
