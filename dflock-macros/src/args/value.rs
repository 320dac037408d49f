//! Values of options.
//!
//! Literals are validated here. Other expressions are type-checked by the compiler, and their
//! values are validated when they are evaluated.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ExprUnary, Lit, Path, UnOp};

use crate::duration;
use crate::key::{self, Template};

/// Highest limit that a server accepts.
const MAX_LIMIT: f64 = 1_048_576.0;

/// Longest lease and wait that every server accepts.
const MAX_DURATION: Duration = Duration::from_secs(9_223_372_036);

/// Value of an option of the builder.
pub(crate) enum Value {
    Key(Template),
    Duration(Duration),
    Client(Box<Expr>),
    Other(Box<Expr>),
}

impl Value {
    /// Validates the value `given` for `option`.
    pub(crate) fn new(option: &str, given: Expr) -> syn::Result<Self> {
        let refuse = |why: &str| Err(syn::Error::new_spanned(&given, why));
        match option {
            "key" => match literal(&given) {
                Some(Lit::Str(text)) => return Template::new(text.clone()).map(Self::Key),
                Some(_) => return refuse("a key is text, as in `key = \"report:{tenant}\"`"),
                None => key::check_expression(&given)?,
            },
            "limit" if number(&given).is_some_and(|limit| !(1.0..=MAX_LIMIT).contains(&limit)) => {
                return refuse("invalid limit: a limit is 1 to 1048576");
            }
            "renew_ratio" if number(&given).is_some_and(|ratio| ratio <= 0.0 || ratio >= 1.0) => {
                return refuse("invalid ratio: it must lie between 0 and 1, both excluded");
            }
            "acquire_timeout" | "lease_ttl" if number(&given).is_some() => {
                return refuse(
                    "a duration has a unit: `\"2s\"`, `\"500ms\"`, `\"1h30m\"`, or any expression \
                     of type `Duration`",
                );
            }
            "acquire_timeout" | "lease_ttl" => {
                if let Some(Lit::Str(text)) = literal(&given) {
                    let Some(duration) = duration::parse(&text.value()) else {
                        return refuse(
                            "this is not a duration; write numbers with their units d, h, m, s, \
                             ms: `\"2s\"`, `\"500ms\"`, `\"1h30m\"`",
                        );
                    };
                    if duration > MAX_DURATION {
                        return refuse("this is too long: a server accepts at most 9223372036 s");
                    }
                    if option == "lease_ttl" && (duration.is_zero() || duration.subsec_nanos() > 0)
                    {
                        return refuse("invalid lease: it must be whole seconds, and at least one");
                    }
                    if duration.is_zero() {
                        return refuse(
                            "this timeout is zero; to acquire only a slot that is free now, write \
                             `acquire_timeout = Duration::ZERO`",
                        );
                    }
                    return Ok(Self::Duration(duration));
                }
            }
            "client" => return Ok(Self::Client(Box::new(given))),
            _ => {}
        }
        Ok(Self::Other(Box::new(given)))
    }

    /// Returns the expression for the argument of the builder's method.
    pub(crate) fn expression(&self, dflock: &Path) -> TokenStream {
        let here = Span::mixed_site();
        match self {
            Self::Key(key) => key.to_token_stream(),
            Self::Duration(duration) => {
                let (secs, nanos) = (duration.as_secs(), duration.subsec_nanos());
                quote_spanned!(here=> ::core::time::Duration::new(#secs, #nanos))
            }
            // Borrowed, so that a client in a field need not be cloned by the user, and so that
            // deref coercion accepts an `Arc<Client>`.
            Self::Client(client) => {
                let borrowed = quote_spanned!(here.located_at(client.span())=> &#client);
                quote_spanned!(here=> #dflock::macro_support::client(#borrowed))
            }
            Self::Other(value) => value.to_token_stream(),
        }
    }
}

/// Returns the literal that an expression consists of.
///
/// Looks through parentheses and through the invisible group of a `macro_rules` argument.
fn literal(expr: &Expr) -> Option<&Lit> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        Expr::Paren(paren) => literal(&paren.expr),
        _ => None,
    }
}

/// Returns the number that an expression consists of.
fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Unary(ExprUnary {
            op: UnOp::Neg(_),
            expr,
            ..
        }) => number(expr).map(|number| -number),
        Expr::Group(group) => number(&group.expr),
        Expr::Paren(paren) => number(&paren.expr),
        _ => match literal(expr)? {
            Lit::Int(number) => number.base10_parse().ok(),
            Lit::Float(number) => number.base10_parse().ok(),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn value(option: &str, given: TokenStream) -> Result<String, String> {
        let value =
            Value::new(option, syn::parse2(given).unwrap()).map_err(|error| error.to_string())?;
        Ok(value.expression(&syn::parse_quote!(::dflock)).to_string())
    }

    #[test]
    fn an_expression_is_not_changed() {
        for (option, given) in [
            ("key", quote!(self.name())),
            ("limit", quote!(self.limit)),
            ("limit", quote!(1)),
            ("limit", quote!(1_048_576u32)),
            ("renew_ratio", quote!(0.999)),
            ("renew_ratio", quote!(a / b)),
            ("acquire_timeout", quote!(Duration::ZERO)),
            ("lease_ttl", quote!(self.lease)),
        ] {
            assert_eq!(value(option, given.clone()).unwrap(), given.to_string());
        }
    }

    #[test]
    fn text_is_parsed_as_a_duration() {
        assert_eq!(
            value("acquire_timeout", quote!("1500ms")).unwrap(),
            ":: core :: time :: Duration :: new (1u64 , 500000000u32)"
        );
        assert_eq!(
            value("lease_ttl", quote!("1h")).unwrap(),
            ":: core :: time :: Duration :: new (3600u64 , 0u32)"
        );
    }

    #[test]
    fn an_invalid_literal_is_refused_at_compile_time() {
        for (option, given, why) in [
            ("key", quote!(7), "a key is text"),
            ("key", quote!(b"a"), "a key is text"),
            ("limit", quote!(0), "a limit is 1 to 1048576"),
            ("limit", quote!(1_048_577), "a limit is 1 to 1048576"),
            ("limit", quote!(-1), "a limit is 1 to 1048576"),
            ("limit", quote!((0)), "a limit is 1 to 1048576"),
            ("limit", quote!((-1)), "a limit is 1 to 1048576"),
            ("key", quote!(("a b")), "contains ' '"),
            ("lease_ttl", quote!(("soon")), "this is not a duration"),
            ("renew_ratio", quote!(0.0), "between 0 and 1"),
            ("renew_ratio", quote!(1), "between 0 and 1"),
            ("renew_ratio", quote!(-0.5), "between 0 and 1"),
            ("acquire_timeout", quote!(2), "a duration has a unit"),
            ("acquire_timeout", quote!("2"), "this is not a duration"),
            ("acquire_timeout", quote!("0s"), "this timeout is zero"),
            (
                "acquire_timeout",
                quote!("106751991168d"),
                "this is too long",
            ),
            ("lease_ttl", quote!("0s"), "at least one"),
            ("lease_ttl", quote!("1500ms"), "whole seconds"),
        ] {
            let message = value(option, given.clone()).unwrap_err();
            assert!(message.contains(why), "{option} = {given}: {message}");
        }
    }
}
