//! Percentiles and word error rates. Pure.

/// Percentiles of a set of figures, in their own unit; not a number when there are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// How many figures.
    pub count: usize,
    /// Half of them are at or below.
    pub p50: f64,
    /// 90 % are at or below.
    pub p90: f64,
    /// 99 % are at or below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// Of any figures, in any order (nearest rank).
    pub fn of(figures: &[f32]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f64| {
            let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
            sorted.get(rank - 1).map_or(f64::NAN, |figure| f64::from(*figure))
        };
        Self { count: sorted.len(), p50: at(0.50), p90: at(0.90), p99: at(0.99), max: at(1.0) }
    }
}

/// Word errors against references, added up over many texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WordErrors {
    /// Words that had to be put in, left out or replaced.
    pub errors: usize,
    /// Words of the references.
    pub words: usize,
}

impl WordErrors {
    /// Of one text; case and punctuation do not count.
    pub fn of(reference: &str, text: &str) -> Self {
        let (reference, text) = (words(reference), words(text));
        Self { errors: distance(&reference, &text), words: reference.len() }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { errors: self.errors + other.errors, words: self.words + other.words }
    }

    /// Errors a word; errors count in full where there is no word.
    pub fn rate(self) -> f64 {
        self.errors as f64 / self.words.max(1) as f64
    }
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Pairs of positions at which two texts have the same word: a longest common subsequence. Case does not count.
pub fn common_words(said: &[&str], heard: &[&str]) -> Vec<(usize, usize)> {
    let same = |i: usize, j: usize| said[i].to_lowercase() == heard[j].to_lowercase();
    // `longest[i][j]`: how many words the texts from `i` and from `j` on have in common.
    let mut longest = vec![vec![0_usize; heard.len() + 1]; said.len() + 1];
    for i in (0..said.len()).rev() {
        for j in (0..heard.len()).rev() {
            longest[i][j] =
                if same(i, j) { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < said.len() && j < heard.len() {
        if same(i, j) {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[i + 1][j] >= longest[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Levenshtein distance in words.
fn distance(from: &[String], to: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, word) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let figures: Vec<f32> = (1..=100).rev().map(|n| n as f32).collect();
        let d = Distribution::of(&figures);
        assert_eq!(d, Distribution { count: 100, p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        assert_eq!(Distribution::of(&[7.0]).p99.to_bits(), 7.0_f64.to_bits());
        assert!(Distribution::of(&[]).p50.is_nan());
    }

    #[test]
    fn word_errors_count_words_not_letters() {
        let check =
            |reference, text, errors| assert_eq!(WordErrors::of(reference, text).errors, errors, "{text}");
        check("call me back", "call me back", 0);
        check("call me back", "Call me, back!", 0);
        check("call me back", "call back", 1);
        check("call me back", "please call me bag", 2);
        check("call me back", "", 3);
        check("", "oh", 1);
        assert!((WordErrors::of("a b c d", "a b c").rate() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn common_words_keep_their_order_and_skip_the_others() {
        let common = |said: &str, heard: &str| {
            common_words(&said.split(' ').collect::<Vec<_>>(), &heard.split(' ').collect::<Vec<_>>())
        };
        assert_eq!(common("call me back", "Call me back"), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(common("call me back", "please call back"), [(0, 1), (2, 2)]);
        assert_eq!(common("the cat the dog", "the dog"), [(0, 0), (3, 1)]);
        assert_eq!(common("yes", "no"), []);
    }

    proptest::proptest! {
        #[test]
        fn distances_are_symmetric_and_bounded(a in "[ab ]{0,20}", b in "[ab ]{0,20}") {
            let (a, b) = (words(&a), words(&b));
            let d = distance(&a, &b);
            proptest::prop_assert_eq!(d, distance(&b, &a));
            proptest::prop_assert!(d <= a.len().max(b.len()) && d >= a.len().abs_diff(b.len()));
        }
    }
}
