//! "Did you mean": the nearest known word.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    // Longer words are longer than any key and typing errors: do not spend time on them.
    if word.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= tolerance(&word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// One error per three letters: "cors" is near "cores", "pol" is not near "log".
fn tolerance(word: &str, candidate: &str) -> usize {
    let letters = word.chars().count().min(candidate.chars().count());
    (letters / 3).max(1)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other
/// (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, &l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &r) in right.iter().enumerate() {
            let change = last[j] + usize::from(l != r);
            let mut cost = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && l == right[j - 1] && left[i - 1] == r {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("size", "size", 0),
            ("sizes", "size", 1),
            ("szie", "size", 1),
            ("sise", "size", 1),
            ("kitten", "sitting", 3),
        ];
        for (left, right, expected) in table {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["listen", "max_queues", "queue_depth", "max_io"];
        assert_eq!(nearest("listne", keys), Some("listen"));
        assert_eq!(nearest("Max-Queues", keys), Some("max_queues"));
        assert_eq!(nearest("queuedepth", keys), Some("queue_depth"));
        assert_eq!(nearest("frobnicate", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"l".repeat(1000), keys), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(left in ".{0,12}", right in ".{0,12}") {
            let longest = left.chars().count().max(right.chars().count());
            prop_assert_eq!(distance(&left, &right), distance(&right, &left));
            prop_assert!(distance(&left, &right) <= longest);
            prop_assert_eq!(distance(&left, &right) == 0, left == right);
        }
    }
}
