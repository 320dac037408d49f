//! Escapes for text that a terminal shows and that others have written.

use std::ops::RangeInclusive;

use unicode_width::UnicodeWidthChar;

/// Returns `text` with its controls, bidirectional formats and invisible characters escaped. A control
/// would command the terminal, and with the others two keys that differ could look alike.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (index, c) in text.char_indices() {
        // at the beginning it would be drawn over the character before the text
        let combines_with_nothing = index == 0 && c.width() == Some(0);
        if combines_with_nothing || is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The invisible characters that std takes for marks, letters and symbols: those with the property
/// `Default_Ignorable_Code_Point` of Unicode 17, and the blank Braille pattern.
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
        // std escapes them for another reason
        '"' | '\'' | '\\' => false,
        _ if INVISIBLE.iter().any(|range| range.contains(&c)) => true,
        // std knows controls, formats, separators, private and unassigned characters; it leaves a
        // combining character alone that is not the first
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
    fn visible_text_stays_as_it_is() {
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

    // variation selectors are part of the emoji before them: the library takes a secret that ends with
    // one, but two keys that differ in one look alike
    const VARIATION_SELECTORS: [RangeInclusive<char>; 4] = [
        '\u{180b}'..='\u{180d}',
        '\u{180f}'..='\u{180f}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{e0100}'..='\u{e01ef}',
    ];

    /// Whether the library takes `c` for invisible, and refuses a secret that ends with it.
    fn is_refused_at_an_end(c: char) -> bool {
        let client = dflock::Client::builder().auth(format!("x{c}")).build();
        matches!(
            client,
            Err(dflock::ConfigError::Secret {
                why: dflock::TokenErrorKind::Invisible { .. }
            })
        )
    }

    #[test]
    fn what_the_library_takes_for_invisible_is_escaped() {
        for c in ('\0'..='\u{ffff}').chain('\u{e0000}'..='\u{e0fff}') {
            assert!(!is_refused_at_an_end(c) || is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn the_library_takes_all_that_is_invisible_for_that_but_variation_selectors() {
        for c in INVISIBLE.into_iter().flatten() {
            let is_selector = VARIATION_SELECTORS.iter().any(|range| range.contains(&c));
            assert_ne!(is_refused_at_an_end(c), is_selector, "{c:?}");
        }
    }

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, want) in [
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
            assert_eq!(escape(text), want);
        }
    }
}
