//! Words for people: of bounded length, on one line, and without figures that change every second.

/// Longest message of a condition or an Event, bytes.
pub(super) const MAX_MESSAGE: usize = 1_024;
/// Longest piece that another program said, bytes.
pub(super) const MAX_PIECE: usize = 400;

/// On one line and at most `max` bytes long; what is cut off is shown as `…`.
pub(super) fn cut(text: &str, max: usize) -> String {
    const ELLIPSIS: char = '…';
    let mut line = String::with_capacity(text.len().min(max));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > max {
            let room = max.saturating_sub(ELLIPSIS.len_utf8());
            line.truncate(line.floor_char_boundary(room));
            line.push(ELLIPSIS);
            break;
        }
    }
    line
}

/// What another program said, cut to a piece of a message and without the dot at its end.
pub(super) fn piece(text: &str) -> String {
    cut(text.trim().trim_end_matches('.'), MAX_PIECE)
}

/// `1 replica`, `2 replicas`.
pub(super) fn count(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The first percentage in a text, rounded down to tens.
pub(super) fn tens_of_percent(text: &str) -> Option<u32> {
    let before = text[..text.find('%')?].trim_end();
    let digits = before
        .rfind(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let percent: f64 = before[digits..].parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some((percent / 10.0) as u32 * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_stays_within_its_bound() {
        let long = "ü".repeat(1_000);
        let text = cut(&long, 1_024);
        assert!(text.len() <= 1_024 && text.ends_with('…'), "{} bytes", text.len());
        assert_eq!(cut("two\n  lines\tand a tab ", 100), "two lines and a tab");
    }

    #[test]
    fn percentages_go_in_steps_of_ten() {
        for (text, tens) in [
            ("47 % of 20.1 GB", Some(40)),
            ("downloaded 9.9%", Some(0)),
            ("100%", Some(100)),
            ("1234 %", None),
            ("ü%", None),
            ("none", None),
        ] {
            assert_eq!(tens_of_percent(text), tens, "{text}");
        }
    }
}
