//! What the operator may have meant.

/// How alike two words have to be, from 0 to 1.
const LIKENESS: f64 = 0.75;

/// The candidate that `word` may have been meant to be.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = fold(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, &fold(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// The words in backticks, with commas; the first ten.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.len().checked_sub(10) {
        None | Some(0) => words.join(", "),
        Some(more) => format!(
            "{} and {more} more",
            words.get(..10).unwrap_or_default().join(", ")
        ),
    }
}
