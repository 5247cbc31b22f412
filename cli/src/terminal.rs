//! What a person sees: colour only on a terminal, tables, error reports with their exit code.

use crate::error::CliError;
use std::io::IsTerminal;
use std::process::ExitCode;

/// A way to paint text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    Plain,
    /// Stands out.
    Bold,
    /// Steps back.
    Dim,
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
    /// One of the colours of programs.
    Cyan,
    /// One of the colours of programs.
    Blue,
    /// One of the colours of programs.
    Magenta,
}

impl Paint {
    /// The colour of the `index`th program.
    pub fn of_program(index: usize) -> Self {
        const COLOURS: [Paint; 5] = [Paint::Cyan, Paint::Magenta, Paint::Green, Paint::Yellow, Paint::Blue];
        COLOURS[index % COLOURS.len()]
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Red => Some("31"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Blue => Some("34"),
            Self::Magenta => Some("35"),
            Self::Cyan => Some("36"),
        }
    }
}

/// Whether a stream wants colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// Colour and cursor movement.
    Colour,
    /// Neither: a pipe, a file, or `NO_COLOR`.
    Plain,
}

impl Palette {
    /// For standard output.
    pub fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if terminal && !refused && !dumb { Self::Colour } else { Self::Plain }
    }

    /// The text in its paint.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        match (self, paint.code()) {
            (Self::Colour, Some(code)) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }
}

/// An empty table: lines drawn on a terminal, plain columns in a pipe.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    if std::io::stdout().is_terminal() {
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    } else {
        table.load_style(comfy_table::presets::NOTHING);
    }
    table.set_header(header.to_vec());
    table
}

/// Prints an error with the chain of its causes to standard error; the exit code comes back.
pub fn report(error: &CliError) -> ExitCode {
    let palette = Palette::stderr();
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let text = source.to_string();
        // Some libraries repeat the message of their source in their own.
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        cause = source.source();
    }
    eprintln!("{} {message}", palette.paint(Paint::Red, "error:"));
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Palette::Plain.paint(Paint::Red, "x"), "x");
        assert_eq!(Palette::Colour.paint(Paint::Plain, "x"), "x");
        assert_eq!(Palette::Colour.paint(Paint::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
