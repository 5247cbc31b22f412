//! What the apiserver in memory notes of a call, and what can go wrong with one.

/// One call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scenario) struct Call {
    pub(in crate::scenario) method: String,
    pub(in crate::scenario) path: String,
    pub(in crate::scenario) is_watch: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(in crate::scenario) enum Wrong {
    /// This code instead of an answer.
    Code(u16),
    /// 429, with a wait of so many seconds.
    TooMany(u32),
    /// The namespace is going away.
    Terminating,
    /// No answer, ever.
    Silence,
}

/// One of these, for so many calls.
pub(super) struct Fault {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) times: usize,
    pub(super) wrong: Wrong,
}
