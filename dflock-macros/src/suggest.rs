//! "Did you mean" suggestions for misspelt names.

/// Returns the name of `known` that is closest to `given`, or `None` if none is close.
pub(crate) fn suggest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = &given.trim_matches('_').to_lowercase()[..];
    let distance = |name: &str| {
        if given.len() > 2 && name.contains(given) {
            1
        } else {
            edit_distance(given, name)
        }
    };
    let (smallest, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (smallest <= given.len().max(3) / 3).then_some(name)
}

/// Returns the edit distance of `a` and `b`.
///
/// An edit inserts, deletes or replaces a letter, or swaps two adjacent letters.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    // `distance[i][j]` is the distance of the first `i` letters of `a` and the first `j` of `b`.
    let mut distance = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            distance[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replaced = distance[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 2..i] == [b[j - 1], b[j - 2]];
                    let swapped = if swapped {
                        distance[i - 2][j - 2] + 1
                    } else {
                        usize::MAX
                    };
                    replaced
                        .min(swapped)
                        .min(distance[i - 1][j] + 1)
                        .min(distance[i][j - 1] + 1)
                }
            };
        }
    }
    distance[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_edits() {
        for (a, b, n) in [
            ("", "", 0),
            ("limit", "limit", 0),
            ("lmit", "limit", 1),
            ("limits", "limit", 1),
            ("kye", "key", 1),
            ("yek", "key", 2),
            ("", "key", 3),
        ] {
            assert_eq!(
                (edit_distance(a, b), edit_distance(b, a)),
                (n, n),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn the_closest_name_is_suggested_and_no_distant_one() {
        let known = [
            "key",
            "limit",
            "acquire_timeout",
            "lease_ttl",
            "on_lost",
            "crate",
        ];
        for (given, expected) in [
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
            assert_eq!(suggest(given, &known), expected, "{given}");
        }
    }
}
