//! Why a command ends early: a status and a message that says what to do.

use std::fmt;

/// A failure of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Exit status: 1 the input is at fault, 2 wrong usage, 70 a bug.
    pub status: u8,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Failure {
    /// Spec, data or weights are at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Failure { status: 1, message: message.into() }
    }
    /// The command line is at fault.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { status: 2, message: message.into() }
    }
    /// This program is at fault.
    pub fn internal(phase: &str, message: impl fmt::Display) -> Self {
        Failure {
            status: 70,
            message: format!(
                "internal error in {phase}: {message}\nhelp: this is a bug of recc; please report it with the spec and this message"
            ),
        }
    }
    /// A file could not be read or written.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Failure::input(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
