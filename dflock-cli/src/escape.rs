//! Escapes hidden characters in untrusted text before it is shown on a terminal.

use std::ops::RangeInclusive;

use unicode_width::UnicodeWidthChar;

/// Returns `text` with control, bidirectional and invisible characters escaped.
///
/// A terminal would execute a control sequence. With the others, two different keys could look the
/// same.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, c) in text.char_indices() {
        // A leading combining character would be drawn over the character before the text.
        let combines_with_nothing = index == 0 && c.width() == Some(0);
        if combines_with_nothing || is_hidden(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The invisible characters that std classifies as marks, letters or symbols: those with the
/// property `Default_Ignorable_Code_Point` of Unicode 17, and the blank Braille pattern.
const INVISIBLE: [RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

fn is_hidden(c: char) -> bool {
    match c {
        // `escape_debug` escapes them for use in a literal, but they are visible.
        '"' | '\'' | '\\' => false,
        _ if INVISIBLE.iter().any(|range| range.contains(&c)) => true,
        // `escape_debug` escapes control, format, separator, private-use and unassigned characters.
        // It escapes a combining character only at the start, so put a letter before it.
        _ => ['a', c]
            .iter()
            .collect::<String>()
            .escape_debug()
            .nth(2)
            .is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_text_is_unchanged() {
        for text in [
            "",
            "job",
            "a-b_c:1",
            "\u{65e5}\u{672c}",
            "e\u{301}",
            "it's \"x\"",
            "a\\b",
            "\u{1f600}",
            "\u{5d0}",
        ] {
            assert_eq!(escape(text), text);
        }
    }

    // A variation selector is part of the emoji before it, so the library accepts an auth token
    // that ends with one. It is escaped in a key, because two keys that differ only in it look the
    // same.
    const VARIATION_SELECTORS: [RangeInclusive<char>; 4] = [
        '\u{180b}'..='\u{180d}',
        '\u{180f}'..='\u{180f}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{e0100}'..='\u{e01ef}',
    ];

    /// Returns whether the library rejects an auth token that ends with `c`, as invisible.
    fn is_invalid_at_the_end(c: char) -> bool {
        let client = dflock::Client::builder().auth(format!("x{c}")).build();
        matches!(
            client,
            Err(dflock::ConfigError::AuthToken {
                kind: dflock::AuthTokenErrorKind::Invisible { .. }
            })
        )
    }

    #[test]
    fn invisible_characters_of_the_library_are_escaped() {
        for c in ('\0'..='\u{ffff}').chain('\u{e0000}'..='\u{e0fff}') {
            assert!(!is_invalid_at_the_end(c) || is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn the_library_rejects_all_invisible_characters_except_variation_selectors() {
        for c in INVISIBLE.into_iter().flatten() {
            let is_selector = VARIATION_SELECTORS.iter().any(|range| range.contains(&c));
            assert_ne!(is_invalid_at_the_end(c), is_selector, "{c:?}");
        }
    }

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, expected) in [
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("a\nb", "a\\u{a}b"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{2066}b", "a\\u{2066}b"),
            ("a\u{200b}", "a\\u{200b}"),
            ("a\u{ad}b", "a\\u{ad}b"),
            ("a\u{a0}b", "a\\u{a0}b"),
            ("a\u{fe0f}", "a\\u{fe0f}"),
            ("a\u{3164}", "a\\u{3164}"),
            ("a\u{e0041}", "a\\u{e0041}"),
            ("\u{301}a", "\\u{301}a"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }
}
