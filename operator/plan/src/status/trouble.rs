//! What keeps something from being ready, and what a condition says of it.

/// Whose turn it is. Failing comes before waiting: it is what people must know first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Something is wrong; it may heal, but somebody should look.
    Failing,
    /// It takes its time, as it should.
    Waiting,
}

/// What keeps something from being ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trouble {
    pub(super) class: Class,
    pub(super) reason: &'static str,
    /// Which child it is, what is so, and what to do.
    pub(super) message: String,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) truth: Truth,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn failing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Failing, reason, message: message.into() }
    }

    pub(super) fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Waiting, reason, message: message.into() }
    }

    pub(super) fn fails(&self) -> bool {
        self.class == Class::Failing
    }
}

impl Truth {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    pub(super) fn yes(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { truth: Truth::True, reason: reason.into(), message: message.into() }
    }

    pub(super) fn no(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { truth: Truth::False, reason: reason.into(), message: message.into() }
    }

    pub(super) fn unknown(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { truth: Truth::Unknown, reason: reason.into(), message: message.into() }
    }

    pub(super) fn is(&self, truth: Truth) -> bool {
        self.truth == truth
    }
}
