//! Invalid input from the caller and from the server. Each has a typed error that names the allowed
//! values.

mod connect;
mod options;
mod replies;
mod sizes;
mod statuses;

/// Asserts that an error message is one lower-case line without a final full stop. It contains
/// `names` and repeats no part.
pub(crate) fn reads_well(error: &dyn std::error::Error, names: &[&str]) {
    let text = error.to_string();
    assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
    assert!(
        !text.ends_with(['.', '!', '\n']) && !text.contains(['\n', '\r']),
        "{text}"
    );
    for name in names {
        assert!(text.contains(name), "{text:?} does not name {name:?}");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        // Covers bug P27.
        assert!(
            !text.contains(&cause.to_string()),
            "{text:?} repeats its source"
        );
        source = cause.source();
    }
}
