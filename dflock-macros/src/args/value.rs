//! Values of options.
//!
//! Literals are validated here. Other expressions are type-checked by the compiler, and their
//! values are validated when they are evaluated.

use std::fmt::Display;
use std::time::Duration;

use dflock_duration::parse_duration;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ExprUnary, Ident, Lit, Path, UnOp};

use super::as_word;
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
    /// Variant of `LimitMismatch`.
    LimitMismatch(Ident),
    Other(Box<Expr>),
}

impl Value {
    /// Validates a key.
    pub(super) fn key(given: Expr) -> syn::Result<Self> {
        match literal(&given) {
            Some(Lit::Str(text)) => Template::new(text.clone()).map(Self::Key),
            Some(_) => refuse(&given, "a key is text, as in `key = \"report:{tenant}\"`"),
            None => {
                key::check_expression(&given)?;
                Ok(Self::Other(Box::new(given)))
            }
        }
    }

    /// Validates a limit.
    pub(super) fn limit(given: Expr) -> syn::Result<Self> {
        match number(&given) {
            Some(limit) if !(1.0..=MAX_LIMIT).contains(&limit) => {
                refuse(&given, "invalid limit: a limit is 1 to 1048576")
            }
            _ => Ok(Self::Other(Box::new(given))),
        }
    }

    /// Validates a fraction of the lease.
    pub(super) fn renew_ratio(given: Expr) -> syn::Result<Self> {
        match number(&given) {
            Some(ratio) if ratio <= 0.0 || ratio >= 1.0 => refuse(
                &given,
                "invalid ratio: it must lie between 0 and 1, both excluded",
            ),
            _ => Ok(Self::Other(Box::new(given))),
        }
    }

    /// Validates a lease.
    pub(super) fn lease_ttl(given: Expr) -> syn::Result<Self> {
        match literal_duration(&given)? {
            Some(lease) if lease.is_zero() || lease.subsec_nanos() > 0 => refuse(
                &given,
                "invalid lease: it must be whole seconds, and at least one",
            ),
            Some(lease) => Ok(Self::Duration(lease)),
            None => Ok(Self::Other(Box::new(given))),
        }
    }

    /// Validates the longest or the shortest time for which a slot is held.
    pub(super) fn bound_of_hold(given: Expr) -> syn::Result<Self> {
        match literal_duration(&given)? {
            Some(bound) if bound.is_zero() => {
                refuse(&given, "invalid time: it must be more than 0")
            }
            Some(bound) => Ok(Self::Duration(bound)),
            None => Ok(Self::Other(Box::new(given))),
        }
    }

    /// Validates a wait.
    pub(super) fn acquire_timeout(given: Expr) -> syn::Result<Self> {
        match literal_duration(&given)? {
            Some(timeout) if timeout.is_zero() => refuse(
                &given,
                "this timeout is zero; to acquire only a slot that is free now, write \
                 `acquire_timeout = Duration::ZERO`",
            ),
            Some(timeout) => Ok(Self::Duration(timeout)),
            None => Ok(Self::Other(Box::new(given))),
        }
    }

    /// Validates a reaction to another limit.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the parsers of all values have one type"
    )]
    pub(super) fn on_limit_mismatch(given: Expr) -> syn::Result<Self> {
        let word = as_word(&given).map(Ident::to_string);
        let variant = match word.as_deref() {
            Some("fail") => "Fail",
            Some("wait_out") => "WaitOut",
            Some("adopt") => "Adopt",
            _ => {
                return refuse(
                    &given,
                    "`on_limit_mismatch` is `fail` (the default), `wait_out` or `adopt`, as in \
                     `on_limit_mismatch = adopt`",
                );
            }
        };
        let variant = Ident::new(variant, Span::mixed_site().located_at(given.span()));
        Ok(Self::LimitMismatch(variant))
    }

    /// Accepts any client. The compiler checks its type.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of all values")]
    pub(super) fn client(given: Expr) -> syn::Result<Self> {
        Ok(Self::Client(Box::new(given)))
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
            Self::LimitMismatch(variant) => {
                quote_spanned!(here=> #dflock::LimitMismatch::#variant)
            }
            Self::Other(value) => value.to_token_stream(),
        }
    }
}

fn refuse<T>(given: &Expr, why: impl Display) -> syn::Result<T> {
    Err(syn::Error::new_spanned(given, why))
}

/// Returns the duration in a text literal. Refuses numbers, and durations that no server accepts.
fn literal_duration(given: &Expr) -> syn::Result<Option<Duration>> {
    if number(given).is_some() {
        return refuse(
            given,
            "a duration has a unit: `\"2s\"`, `\"500ms\"`, `\"1h30m\"`, or any expression of type \
             `Duration`",
        );
    }
    let Some(Lit::Str(text)) = literal(given) else {
        return Ok(None);
    };
    match parse_duration(&text.value()) {
        Ok(duration) if duration > MAX_DURATION => refuse(
            given,
            "this is too long: a server accepts at most 9223372036 s",
        ),
        Ok(duration) => Ok(Some(duration)),
        Err(error) => refuse(given, error),
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
#[path = "../../../dflock-duration/tests/cases/mod.rs"]
mod duration_cases;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::list::{ARGUMENTS, Setter};
    use quote::quote;

    fn value(option: &str, given: TokenStream) -> Result<String, String> {
        let argument = ARGUMENTS.iter().find(|argument| argument.name == option);
        let Setter::Option(validate) = argument.unwrap().setter else {
            panic!("`{option}` is no option of the builder")
        };
        let value = validate(syn::parse2(given).unwrap()).map_err(|error| error.to_string())?;
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

    // The same table is that of the SDK and of the command line.
    #[test]
    fn text_has_the_grammar_of_all_durations() {
        for (text, duration) in duration_cases::DURATIONS {
            let parsed = literal_duration(&syn::parse_quote!(#text));
            assert_eq!(parsed.unwrap(), Some(duration), "{text}");
        }
        let seconds = duration_cases::SECONDS.map(|(text, _)| text);
        for text in duration_cases::REFUSED.into_iter().chain(seconds) {
            let error = literal_duration(&syn::parse_quote!(#text)).unwrap_err();
            assert_eq!(
                error.to_string(),
                parse_duration(text).unwrap_err().to_string()
            );
        }
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
            ("lease_ttl", quote!(("soon")), "is not a duration"),
            ("renew_ratio", quote!(0.0), "between 0 and 1"),
            ("renew_ratio", quote!(1), "between 0 and 1"),
            ("renew_ratio", quote!(-0.5), "between 0 and 1"),
            ("acquire_timeout", quote!(2), "a duration has a unit"),
            ("acquire_timeout", quote!("2"), "is not a duration"),
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
