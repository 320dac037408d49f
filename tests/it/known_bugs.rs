//! Known bugs of other dflockd clients and servers: each has a test here or a reason why it cannot
//! occur.
//!
//! The letters T, P and G stand for the clients in TypeScript, Python and Go. S is the server, and
//! N marks bugs that none of them lists. A test names the bugs it covers in the comment above it. A
//! file may name them in the comment at its head.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Number of bugs and number of digits of each letter.
const BUGS: [(char, usize, usize); 5] = [
    ('T', 49, 2),
    ('P', 36, 2),
    ('G', 29, 2),
    ('S', 23, 2),
    ('N', 12, 1),
];

#[test]
fn every_known_bug_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known: BTreeSet<_> = BUGS
        .iter()
        .flat_map(|&(letter, count, digits)| {
            (1..=count).map(move |number| format!("{letter}{number:0digits$}"))
        })
        .collect();
    let mut covered = BTreeSet::new();
    for dir in ["it", "ui", "../dflock/src"] {
        for_each_source(&root.join(dir), &mut |source| {
            covered.extend(comments(source).flat_map(bug_numbers));
        });
    }
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    covered.extend(
        readme
            .lines()
            .filter(|line| line.starts_with("| "))
            .flat_map(bug_numbers),
    );
    let missing: Vec<_> = known.difference(&covered).collect();
    assert!(
        missing.is_empty(),
        "neither a test nor tests/README.md names {missing:?}"
    );
    let unknown: Vec<_> = covered.difference(&known).collect();
    assert!(unknown.is_empty(), "unknown bugs: {unknown:?}");
}

fn for_each_source(dir: &Path, read: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_source(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Returns the comments at the head of a file and those above functions.
fn comments(source: &str) -> impl Iterator<Item = &str> {
    let mut lines: Vec<_> = source.lines().map(str::trim_start).collect();
    let head = lines
        .iter()
        .take_while(|line| line.starts_with("//"))
        .count();
    let body = lines.split_off(head);
    let mut above = Vec::new();
    for line in body {
        let is_fn = line
            .split('(')
            .next()
            .is_some_and(|start| start.split(' ').any(|word| word == "fn"));
        match line {
            _ if line.starts_with("//") => above.push(line),
            _ if line.starts_with("#[") => {}
            _ if is_fn => lines.append(&mut above),
            _ => above.clear(),
        }
    }
    lines.into_iter()
}

/// Returns the words that have the form of a bug number.
fn bug_numbers(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let is_number = |word: &str| {
        let rest = word.strip_prefix(|c| BUGS.iter().any(|(letter, ..)| *letter == c));
        rest.is_some_and(|rest| {
            (1..=2).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_digit())
        })
    };
    words.filter(move |word| is_number(word)).map(str::to_owned)
}
