//! Lists of names in messages, shortened.

/// The first five names, and the number of the others: `a, b, c, d, e and 7 more`.
pub fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
