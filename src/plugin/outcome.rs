//! How it went when somebody was told.

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was told.
    Done,
    /// It does not want this, and trying again would not change that.
    Failed(String),
    /// Nobody is there to be told now.
    Away(String),
}
