//! What a misspelt name was meant to be.

/// The name of `known` that `given` most likely means; none if it resembles none.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = &given.trim_matches('_').to_lowercase()[..];
    let distance = |name: &str| {
        if given.len() > 2 && name.contains(given) {
            1
        } else {
            edits(given, name)
        }
    };
    let (far, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (far <= given.len().max(3) / 3).then_some(name)
}

/// How many letters must be added, left out, changed or swapped with their neighbour to make `a` of `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    // how far the first i letters of `a` are from the first j of `b`
    let mut far = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            far[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let changed = far[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 2..i] == [b[j - 1], b[j - 2]];
                    let swapped = if swapped {
                        far[i - 2][j - 2] + 1
                    } else {
                        usize::MAX
                    };
                    changed
                        .min(swapped)
                        .min(far[i - 1][j] + 1)
                        .min(far[i][j - 1] + 1)
                }
            };
        }
    }
    far[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [
            ("", "", 0),
            ("limit", "limit", 0),
            ("lmit", "limit", 1),
            ("limits", "limit", 1),
            ("kye", "key", 1),
            ("yek", "key", 2),
            ("", "key", 3),
        ] {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_no_far_one() {
        let known = [
            "key",
            "limit",
            "acquire_timeout",
            "lease_ttl",
            "on_lost",
            "crate",
        ];
        for (given, meant) in [
            ("lmit", Some("limit")),
            ("Key", Some("key")),
            ("KEY", Some("key")),
            ("_limit", Some("limit")),
            ("LEASE_TTL_", Some("lease_ttl")),
            ("_", None),
            ("kye", Some("key")),
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
