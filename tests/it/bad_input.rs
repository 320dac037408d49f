//! Bad input, from the caller and from the server: each has its typed error, which names what is allowed.

mod options;
mod reaching;
mod replies;
mod sizes;
mod statuses;

/// What every error owes its reader: lower case, no final stop, one line, `names`, and nothing twice.
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
        // P27
        assert!(
            !text.contains(&cause.to_string()),
            "{text:?} repeats its source"
        );
        source = cause.source();
    }
}
