//! Keys: templates with `{name}` as in `format!`, and checks of literals.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{
    Expr, ExprCall, ExprLit, ExprMacro, ExprMethodCall, Ident, Lit, LitStr, Macro, Stmt, Token,
};

/// Maximum length of a key in bytes, which is that of a line in the protocol.
const MAX_BYTES: usize = 256;

/// A valid key literal.
pub(crate) enum Template {
    /// Text without names.
    Text(LitStr),
    /// Text with names. `format!` resolves them, and reports unknown ones at their place.
    Format(LitStr),
}

impl Template {
    /// Parses and validates a literal.
    pub(crate) fn new(literal: LitStr) -> syn::Result<Self> {
        let refuse = |why: String| syn::Error::new(literal.span(), format!("invalid key: {why}"));
        let source = literal.value();
        let ParsedTemplate { text, names } = ParsedTemplate::parse(&source)
            .ok_or_else(|| refuse("unbalanced brace; `{{` is a `{`, `}}` a `}`".into()))?;
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(refuse(match *name {
                "" => "`{}` has no name; write `{name}`, or `key = format!(..)`".into(),
                _ => format!("`{name}` is not a name; write `key = format!(\"..{{}}..\", {name})`"),
            }));
        }
        check_text(&literal, &text, names.is_empty())?;
        Ok(if names.is_empty() {
            Self::Text(LitStr::new(&text, literal.span()))
        } else {
            Self::Format(literal)
        })
    }
}

/// Checks the literal that an expression is made of: `"..".to_owned()`, `concat!(..)`,
/// `format!("..{}", x)`. Any other expression passes, and its value is checked when it is
/// evaluated.
pub(crate) fn check_expression(key: &Expr) -> syn::Result<()> {
    match key {
        Expr::Lit(ExprLit {
            lit: Lit::Str(literal),
            ..
        }) => check_text(literal, &literal.value(), true),
        Expr::Group(group) => check_expression(&group.expr),
        Expr::Paren(paren) => check_expression(&paren.expr),
        Expr::Reference(reference) => check_expression(&reference.expr),
        Expr::Block(block) => match &block.block.stmts[..] {
            [Stmt::Expr(value, None)] => check_expression(value),
            _ => Ok(()),
        },
        Expr::MethodCall(ExprMethodCall {
            receiver, method, ..
        }) if ["into", "to_owned", "to_string"]
            .iter()
            .any(|name| method == name) =>
        {
            check_expression(receiver)
        }
        Expr::Call(ExprCall { func, args, .. }) if is_string_from(func) => {
            args.first().map_or(Ok(()), check_expression)
        }
        Expr::Macro(ExprMacro { mac, .. }) if mac.path.is_ident("concat") => {
            let pieces = arguments(mac);
            let text: Option<String> = pieces.iter().map(literal_text).collect();
            text.map_or(Ok(()), |text| check_text(&pieces, &text, true))
        }
        Expr::Macro(ExprMacro { mac, .. }) if mac.path.is_ident("format") => {
            let Some(Expr::Lit(ExprLit {
                lit: Lit::Str(template),
                ..
            })) = arguments(mac).into_iter().next()
            else {
                return Ok(());
            };
            match ParsedTemplate::parse(&template.value()) {
                Some(ParsedTemplate { text, names }) => {
                    check_text(&template, &text, names.is_empty())
                }
                // `format!` itself reports unbalanced braces.
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Returns the arguments of a macro, or none if they are not expressions.
fn arguments(mac: &Macro) -> Punctuated<Expr, Token![,]> {
    mac.parse_body_with(Punctuated::parse_terminated)
        .unwrap_or_default()
}

/// Returns the text of a literal in `concat!`.
fn literal_text(piece: &Expr) -> Option<String> {
    match piece {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text.value()),
        Expr::Lit(ExprLit {
            lit: Lit::Char(char),
            ..
        }) => Some(char.value().to_string()),
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) => Some(number.base10_digits().to_owned()),
        _ => None,
    }
}

/// Checks the text of a key. Unless it `is_complete`, values are inserted into it at run time.
fn check_text(tokens: &impl ToTokens, text: &str, is_complete: bool) -> syn::Result<()> {
    let refuse = |why: String| {
        Err(syn::Error::new_spanned(
            tokens,
            format!("invalid key: {why}"),
        ))
    };
    if text.is_empty() && is_complete {
        return refuse("it is empty".into());
    }
    if text.len() > MAX_BYTES {
        return refuse(format!(
            "it has {} bytes, and a key has at most {MAX_BYTES}",
            text.len()
        ));
    }
    match text
        .chars()
        .find(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\0'))
    {
        Some(found) => refuse(format!(
            "it contains {found:?}; a key has no space, tab, line break or NUL"
        )),
        None => Ok(()),
    }
}

/// Returns whether `function` is `String::from`.
fn is_string_from(function: &Expr) -> bool {
    let Expr::Path(path) = function else {
        return false;
    };
    let mut names = path
        .path
        .segments
        .iter()
        .rev()
        .map(|segment| &segment.ident);
    names.next().is_some_and(|name| name == "from")
        && names.next().is_some_and(|name| name == "String")
}

impl ToTokens for Template {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Text(literal) => literal.to_tokens(tokens),
            Self::Format(literal) => tokens
                .extend(quote_spanned!(proc_macro2::Span::mixed_site()=> ::std::format!(#literal))),
        }
    }
}

/// The text and names of a template.
#[derive(Default)]
struct ParsedTemplate<'a> {
    /// Text between the names, without escapes.
    text: String,
    names: Vec<&'a str>,
}

impl<'a> ParsedTemplate<'a> {
    /// Parses a template. Returns `None` if the braces are unbalanced.
    fn parse(mut source: &'a str) -> Option<Self> {
        let mut template = Self::default();
        while let Some(index) = source.find(['{', '}']) {
            let (text, braced) = source.split_at(index);
            template.text += text;
            source = if braced.starts_with("{{") || braced.starts_with("}}") {
                template.text += &braced[..1];
                &braced[2..]
            } else {
                let (field, rest) = braced.strip_prefix('{')?.split_once('}')?;
                template.names.push(
                    field
                        .split_once(':')
                        .map_or(field, |(name, _spec)| name)
                        .trim(),
                );
                rest
            };
        }
        template.text += source;
        Some(template)
    }
}

/// Returns whether `text` is an identifier.
fn is_name(text: &str) -> bool {
    Ident::parse_any.parse_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Span;
    use quote::quote;

    fn template(source: &str) -> Result<String, String> {
        let template = Template::new(LitStr::new(source, Span::call_site()));
        template
            .map(|template| template.to_token_stream().to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_resolved_by_format() {
        for source in [
            "report:{tenant}",
            "{a}{b:>4}",
            "{a:?}-{{{b}}}",
            "{self}",
            "{ a }",
            "{x:}",
        ] {
            assert_eq!(
                template(source).unwrap(),
                format!(":: std :: format ! ({source:?})")
            );
        }
    }

    #[test]
    fn text_is_kept_and_a_doubled_brace_is_one() {
        assert_eq!(template("nightly").unwrap(), r#""nightly""#);
        assert_eq!(template("{{a}}").unwrap(), r#""{a}""#);
        assert_eq!(
            template(&"é".repeat(128)).unwrap(),
            format!("{:?}", "é".repeat(128))
        );
    }

    #[test]
    fn a_literal_in_an_expression_is_checked() {
        let long = "k".repeat(250);
        for (key, why) in [
            (quote!("a b".to_owned()), Some("contains ' '")),
            (quote!(("a\tb").to_string()), Some("contains '\\t'")),
            (quote!("".into()), Some("it is empty")),
            (quote!(String::from("a\0b")), Some("contains '\\0'")),
            (
                quote!(::std::string::String::from("a\nb")),
                Some("contains '\\n'"),
            ),
            (quote!(&{ "a b" }), Some("contains ' '")),
            (quote!(concat!("a", ' ', 1)), Some("contains ' '")),
            (quote!(concat!(#long, "1234567")), Some("has 257 bytes")),
            (quote!(format!("a b{}", x)), Some("contains ' '")),
            (quote!(format!("{x}\r")), Some("contains '\\r'")),
            (quote!(format!("")), Some("it is empty")),
            (quote!(concat!(#long, "123456")), None),
            (quote!(concat!("a", env!("REGION"))), None),
            (quote!(format!("{}:{{{y}}}", "a b")), None),
            (quote!(format!("{x}{y:>300}")), None),
            (quote!(name("a b")), None),
            (quote!("a b".replace(' ', "-")), None),
            (quote!(KEY), None),
        ] {
            let checked = check_expression(&syn::parse2(key.clone()).unwrap())
                .map_err(|error| error.to_string());
            match why {
                Some(why) => assert!(checked.is_err_and(|message| message.contains(why)), "{key}"),
                None => assert!(checked.is_ok(), "{key}"),
            }
        }
    }

    #[test]
    fn an_invalid_key_is_refused() {
        let long = "k".repeat(257);
        for (source, why) in [
            ("", "it is empty"),
            ("a b", "contains ' '"),
            ("a\0", r"contains '\0'"),
            ("{x}\n", r"contains '\n'"),
            (long.as_str(), "has 257 bytes"),
            (&format!("{{x}}{long}"), "has 257 bytes"),
            (
                &format!("{}{{x}}{}", &long[..200], &long[200..]),
                "has 257 bytes",
            ),
            ("{}", "`{}` has no name"),
            ("a{:>4}", "`{}` has no name"),
            ("{0}", "`0` is not a name"),
            (
                "{self.region}",
                r#"write `key = format!("..{}..", self.region)`"#,
            ),
            ("{a", "unbalanced brace"),
            ("a}", "unbalanced brace"),
        ] {
            let message = template(source).unwrap_err();
            assert!(message.contains(why), "{source:?}: {message}");
        }
    }
}
