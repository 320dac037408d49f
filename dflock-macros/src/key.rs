//! A key that is written as a literal: text with `{name}` in it, as `format!` has it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::{Ident, LitStr};

/// The most that a line of the wire can carry.
const MAX_BYTES: usize = 256;

/// A literal that can be a key.
pub(crate) enum Template {
    /// It names nothing.
    Text(LitStr),
    /// It names what goes in. `format!` looks it up, and reports what it does not find at its place in the literal.
    Format(LitStr),
}

impl Template {
    pub(crate) fn new(literal: LitStr) -> syn::Result<Self> {
        let refused = |why: String| syn::Error::new(literal.span(), format!("this key is refused: {why}"));
        let source = literal.value();
        let Parts { text, names } =
            Parts::of(&source).ok_or_else(|| refused("a brace has no partner; `{{` is a `{`, `}}` a `}`".into()))?;
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(refused(match *name {
                "" => "`{}` names nothing; write `{name}`, or `key = format!(..)`".into(),
                _ => format!("`{name}` is not a name; write `key = format!(\"..{{}}..\", {name})`"),
            }));
        }
        if text.is_empty() && names.is_empty() {
            return Err(refused("it is empty".into()));
        }
        if text.len() > MAX_BYTES {
            return Err(refused(format!("it has {} bytes, and a key has at most {MAX_BYTES}", text.len())));
        }
        if let Some(found) = text.chars().find(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\0')) {
            return Err(refused(format!("it contains {found:?}; a key has no space, tab, line break or NUL")));
        }
        Ok(if names.is_empty() { Self::Text(LitStr::new(&text, literal.span())) } else { Self::Format(literal) })
    }
}

impl ToTokens for Template {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Text(literal) => literal.to_tokens(tokens),
            Self::Format(literal) => tokens.extend(quote_spanned!(proc_macro2::Span::mixed_site()=> ::std::format!(#literal))),
        }
    }
}

/// A template taken apart.
#[derive(Default)]
struct Parts<'a> {
    /// What stands between the names, without escapes.
    text: String,
    names: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// `None` when the braces do not pair.
    fn of(mut source: &'a str) -> Option<Self> {
        let mut parts = Self::default();
        while let Some(at) = source.find(['{', '}']) {
            let (text, braced) = source.split_at(at);
            parts.text += text;
            source = if braced.starts_with("{{") || braced.starts_with("}}") {
                parts.text += &braced[..1];
                &braced[2..]
            } else {
                let (field, behind) = braced.strip_prefix('{')?.split_once('}')?;
                parts.names.push(field.split_once(':').map_or(field, |(name, _spec)| name).trim());
                behind
            };
        }
        parts.text += source;
        Some(parts)
    }
}

fn is_name(text: &str) -> bool {
    Ident::parse_any.parse_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Span;

    fn template(source: &str) -> Result<String, String> {
        let template = Template::new(LitStr::new(source, Span::call_site()));
        template.map(|template| template.to_token_stream().to_string()).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn names_are_left_to_format() {
        for source in ["report:{tenant}", "{a}{b:>4}", "{a:?}-{{{b}}}", "{self}", "{ a }", "{x:}"] {
            assert_eq!(template(source).unwrap(), format!(":: std :: format ! ({source:?})"));
        }
    }

    #[test]
    fn text_is_taken_as_it_is_and_a_doubled_brace_is_one() {
        assert_eq!(template("nightly").unwrap(), r#""nightly""#);
        assert_eq!(template("{{a}}").unwrap(), r#""{a}""#);
        assert_eq!(template(&"é".repeat(128)).unwrap(), format!("{:?}", "é".repeat(128)));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let long = "k".repeat(257);
        for (source, why) in [
            ("", "it is empty"),
            ("a b", "contains ' '"),
            ("a\0", r"contains '\0'"),
            ("{x}\n", r"contains '\n'"),
            (long.as_str(), "has 257 bytes"),
            ("{}", "`{}` names nothing"),
            ("a{:>4}", "`{}` names nothing"),
            ("{0}", "`0` is not a name"),
            ("{self.region}", r#"write `key = format!("..{}..", self.region)`"#),
            ("{a", "a brace has no partner"),
            ("a}", "a brace has no partner"),
        ] {
            let message = template(source).unwrap_err();
            assert!(message.contains(why), "{source:?}: {message}");
        }
    }
}
