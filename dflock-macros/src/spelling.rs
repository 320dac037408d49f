//! What a misspelt name was meant to be.

/// The name of `known` that `given` most likely means; none if it resembles none.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| if given.len() > 2 && name.contains(given) { 1 } else { edits(given, name) };
    let (far, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (far <= given.len().max(3) / 3).then_some(name)
}

/// How many letters must be added, left out or changed to make `a` of `b`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in
            [("", "", 0), ("limit", "limit", 0), ("lmit", "limit", 1), ("limits", "limit", 1), ("kye", "key", 2), ("", "key", 3)]
        {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_no_far_one() {
        let known = ["key", "limit", "acquire_timeout", "lease_ttl", "on_lost", "crate"];
        for (given, meant) in [
            ("lmit", Some("limit")),
            ("Key", Some("key")),
            ("timeout", Some("acquire_timeout")),
            ("ttl", Some("lease_ttl")),
            ("lease", Some("lease_ttl")),
            ("onlost", Some("on_lost")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, &known), meant, "{given}");
        }
    }
}
