//! Label and field selectors, as list, watch and deletecollection take them.
//!
//! Texts of errors are those of apimachinery (`pkg/labels`, `pkg/fields`): they go into a 400 as they are.

mod field;
mod label;
mod lexer;
#[cfg(test)]
mod tests;

pub use field::FieldSelector;
pub use label::LabelSelector;

/// Why a selector was not read. Display is the text of the 400; what to do is to correct the selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SelectorError {
    pub message: String,
}

impl SelectorError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
