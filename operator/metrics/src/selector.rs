//! A label selector, as Kubernetes writes it: text → [`Selector`] → which series. Pure.
//!
//! `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, parted by commas. A series without a label fits `!=`
//! and `notin`, as everywhere in Kubernetes. Comparisons of numbers (`>`, `<`) make no sense here and are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest text read, bytes.
pub const MAX_BYTES: usize = 1_024;
/// Longest key and value, bytes, as Kubernetes has it: a prefix of 253, `/`, a name of 63.
const MAX_KEY: usize = 317;
const MAX_VALUE: usize = 63;

/// Which series are meant. Empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the label selector at {at:?}: {detail}")]
pub struct SelectorError {
    at: String,
    detail: &'static str,
}

impl SelectorError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        "SelectorInvalid"
    }
}

impl Selector {
    /// A series with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.condition {
                Condition::Exists => value.is_some(),
                Condition::Absent => value.is_none(),
                Condition::In(values) => value.is_some_and(|value| values.contains(value)),
                Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_BYTES {
            return Err(refuse(&text[..text.floor_char_boundary(40)], "it is too long"));
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        split(text)?.into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Requirement { key, condition }) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match condition {
                Condition::Exists => write!(f, "{key}")?,
                Condition::Absent => write!(f, "!{key}")?,
                Condition::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Condition::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Condition::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Condition::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

/// Requirements, parted by the commas that stand outside of parentheses.
fn split(text: &str) -> Result<Vec<&str>, SelectorError> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, char) in text.char_indices() {
        match char {
            '(' if inside => return Err(refuse(&text[begin..], "parentheses stand in parentheses")),
            '(' => inside = true,
            ')' if !inside => return Err(refuse(&text[begin..], "a parenthesis was never opened")),
            ')' => inside = false,
            ',' if !inside => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(refuse(&text[begin..], "a parenthesis is not closed"));
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, SelectorError> {
    let text = text.trim();
    let one = |value: &str| Ok(vec![self::value(value)?]);
    let (key, condition) = if let Some(list) = text.strip_suffix(')') {
        let (head, list) = list.split_once('(').ok_or_else(|| refuse(text, "a parenthesis is missing"))?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        let mut words = head.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, Condition::In(values)),
            (Some(key), Some("notin"), None) => (key, Condition::NotIn(values)),
            _ => return Err(refuse(text, "before a list stand a key and in or notin")),
        }
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Condition::NotIn(one(value)?))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Condition::In(one(value)?))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Condition::Absent)
    } else {
        (text, Condition::Exists)
    };
    let key = key.trim();
    let good = !key.is_empty() && key.len() <= MAX_KEY && key.chars().all(|c| is_of_name(c) || c == '/');
    if !good {
        return Err(refuse(text, "a key is made of letters, digits, '-', '_', '.' and '/'"));
    }
    Ok(Requirement { key: key.to_owned(), condition })
}

fn value(text: &str) -> Result<String, SelectorError> {
    let text = text.trim();
    if text.len() <= MAX_VALUE && text.chars().all(is_of_name) {
        Ok(text.to_owned())
    } else {
        Err(refuse(text, "a value is made of at most 63 letters, digits, '-', '_' and '.'"))
    }
}

fn is_of_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.')
}

fn refuse(at: &str, detail: &'static str) -> SelectorError {
    SelectorError { at: at.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn series_are_taken_as_kubernetes_takes_them() {
        let asr = labels(&[("deployment", "quickstart"), ("component", "asr")]);
        for (text, takes) in [
            ("", true),
            ("  ", true),
            ("deployment=quickstart,component=asr", true),
            ("deployment==quickstart", true),
            (" deployment = quickstart , component = asr ", true),
            ("deployment=other", false),
            ("component!=tts", true),
            ("component!=asr", false),
            ("component in (asr, tts)", true),
            ("component in (tts)", false),
            ("component notin (tts),deployment", true),
            ("deployment,!zone", true),
            ("!deployment", false),
            ("zone", false),
            ("zone!=a", true),
            ("zone notin (a,b)", true),
            ("zone=", false),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&asr), takes, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_by_name() {
        for text in [
            "=",
            "a=b=c",
            "a>1",
            "a<1",
            ",",
            "a,",
            "a in",
            "a in b",
            "a in (b",
            "a in b)",
            "a in ((b))",
            ")",
            "a xin (b)",
            "a b",
            "a=\u{fc}",
            "!",
            "!!a",
            "a in (b) c",
            "a=(b)",
            &"a".repeat(MAX_BYTES + 1),
            &format!("a={}", "b".repeat(64)),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert!(error.to_string().starts_with("failed to read the label selector"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = text.parse::<Selector>();
        }

        #[test]
        fn what_is_written_is_read_again(
            requirements in proptest::collection::vec(
                ("[a-z][a-z0-9./_-]{0,20}", proptest::collection::vec("[a-zA-Z0-9._-]{0,10}", 1..4), 0..4_u8), 1..5)
        ) {
            let requirements = requirements.into_iter().map(|(key, values, kind)| Requirement {
                key,
                condition: match kind {
                    0 => Condition::Exists,
                    1 => Condition::Absent,
                    2 => Condition::In(values),
                    _ => Condition::NotIn(values),
                },
            });
            let selector = Selector(requirements.collect());
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }
    }
}
