//! The value of an option: literals are checked here, anything else by the compiler and when it is evaluated.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ExprUnary, Lit, Path, UnOp};

use crate::duration;
use crate::key::{self, Template};

/// The highest limit that a server takes.
const MAX_LIMIT: f64 = 1_048_576.0;

/// The longest lease and wait that every server can count.
const LONGEST: Duration = Duration::from_secs(9_223_372_036);

/// What an option of the builder is set to.
pub(crate) enum Value {
    Key(Template),
    Duration(Duration),
    Client(Box<Expr>),
    Other(Box<Expr>),
}

impl Value {
    pub(crate) fn new(option: &str, given: Expr) -> syn::Result<Self> {
        let refused = |why: &str| Err(syn::Error::new_spanned(&given, why));
        match option {
            "key" => match literal(&given) {
                Some(Lit::Str(text)) => return Template::new(text.clone()).map(Self::Key),
                Some(_) => return refused("a key is text, as in `key = \"report:{tenant}\"`"),
                None => key::check_expression(&given)?,
            },
            "limit" if number(&given).is_some_and(|limit| !(1.0..=MAX_LIMIT).contains(&limit)) => {
                return refused("this limit is refused: a limit is 1 to 1048576");
            }
            "renew_ratio" if number(&given).is_some_and(|ratio| ratio <= 0.0 || ratio >= 1.0) => {
                return refused("this ratio is refused: it lies between 0 and 1, both excluded");
            }
            "acquire_timeout" | "lease_ttl" if number(&given).is_some() => {
                return refused(
                    "a duration has a unit: `\"2s\"`, `\"500ms\"`, `\"1h30m\"`, or any expression of type `Duration`",
                );
            }
            "acquire_timeout" | "lease_ttl" => {
                if let Some(Lit::Str(text)) = literal(&given) {
                    let Some(duration) = duration::read(&text.value()) else {
                        return refused(
                            "this is no duration; write numbers with their units d, h, m, s, ms: `\"2s\"`, `\"500ms\"`, `\"1h30m\"`",
                        );
                    };
                    if duration > LONGEST {
                        return refused(
                            "this is too long: the longest that a server can count is 9223372036 s",
                        );
                    }
                    if option == "lease_ttl" && (duration.is_zero() || duration.subsec_nanos() > 0)
                    {
                        return refused(
                            "this lease is refused: it is whole seconds, and at least one",
                        );
                    }
                    if duration.is_zero() {
                        return refused(
                            "no time is left to wait; for a slot only if one is free now, write `acquire_timeout = Duration::ZERO`",
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

    /// The expression that gives it.
    pub(crate) fn expression(&self, dflock: &Path) -> TokenStream {
        let here = Span::mixed_site();
        match self {
            Self::Key(key) => key.to_token_stream(),
            Self::Duration(duration) => {
                let (secs, nanos) = (duration.as_secs(), duration.subsec_nanos());
                quote_spanned!(here=> ::core::time::Duration::new(#secs, #nanos))
            }
            // lent, so that a client that is owned by something else need not be cloned by hand, and one behind a pointer is found
            Self::Client(client) => {
                let lent = quote_spanned!(here.located_at(client.span())=> &#client);
                quote_spanned!(here=> #dflock::macro_support::client(#lent))
            }
            Self::Other(value) => value.to_token_stream(),
        }
    }
}

/// The literal that an expression is, in parentheses and in the invisible group that a `macro_rules` macro puts around it.
fn literal(expr: &Expr) -> Option<&Lit> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        Expr::Paren(paren) => literal(&paren.expr),
        _ => None,
    }
}

/// The number that an expression is.
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
        let value = Value::new(option, syn::parse2(given).unwrap())
            .map_err(|mistake| mistake.to_string())?;
        Ok(value.expression(&syn::parse_quote!(::dflock)).to_string())
    }

    #[test]
    fn an_expression_stays_what_it_is() {
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
    fn text_is_a_duration_where_one_is_wanted() {
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
    fn a_literal_that_is_refused_when_it_runs_is_refused_here() {
        for (option, given, why) in [
            ("key", quote!(7), "a key is text"),
            ("key", quote!(b"a"), "a key is text"),
            ("limit", quote!(0), "a limit is 1 to 1048576"),
            ("limit", quote!(1_048_577), "a limit is 1 to 1048576"),
            ("limit", quote!(-1), "a limit is 1 to 1048576"),
            ("limit", quote!((0)), "a limit is 1 to 1048576"),
            ("limit", quote!((-1)), "a limit is 1 to 1048576"),
            ("key", quote!(("a b")), "contains ' '"),
            ("lease_ttl", quote!(("soon")), "this is no duration"),
            ("renew_ratio", quote!(0.0), "between 0 and 1"),
            ("renew_ratio", quote!(1), "between 0 and 1"),
            ("renew_ratio", quote!(-0.5), "between 0 and 1"),
            ("acquire_timeout", quote!(2), "a duration has a unit"),
            ("acquire_timeout", quote!("2"), "this is no duration"),
            ("acquire_timeout", quote!("0s"), "no time is left"),
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
