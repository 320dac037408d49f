//! Arguments of the attributes.

mod list;
mod value;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, Path, Token};

pub(crate) use list::Argument;
use list::{ARGUMENTS, Setter};
pub(crate) use value::Value;

use crate::errors::Errors;
use crate::kind::Kind;
use crate::suggest::suggest;

/// Parsed arguments of one attribute.
#[derive(Default)]
pub(crate) struct Args {
    /// Options of the builder, in source order. They are evaluated in this order.
    pub(crate) options: Vec<(Ident, Value)>,
    pub(crate) on_lost: OnLost,
    pub(crate) when_busy: WhenBusy,
    /// Name of the variable through which the body uses its slot.
    pub(crate) slot: Option<Ident>,
    /// Path of the crate `dflock`, if it is re-exported.
    pub(crate) krate: Option<Path>,
    /// Names of the arguments that were given.
    seen: Vec<&'static str>,
    /// Suggestions for the unknown names.
    suggested: Vec<&'static str>,
}

/// Behaviour of the body when its slot is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnLost {
    /// The body is cancelled.
    #[default]
    Cancel,
    /// The body runs to its end.
    Finish,
}

/// Behaviour when no slot is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenBusy {
    /// The call waits for a slot, and fails if the wait takes too long.
    #[default]
    Error,
    /// The call returns the default at once.
    Skip,
}

impl Args {
    /// Parses the arguments. An error in one argument does not hide the errors in the next ones.
    pub(crate) fn parse(kind: Kind, tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let all = |input: ParseStream<'_>| {
            while !input.is_empty() {
                errors.record(args.parse_argument(kind, input));
                while !input.is_empty() && input.parse::<Option<Token![,]>>()?.is_none() {
                    input.parse::<TokenTree>()?;
                }
            }
            Ok(())
        };
        let parsed = all.parse2(tokens);
        errors.record(parsed);
        for argument in Argument::all(kind).filter(|argument| argument.is_required) {
            // A misspelt argument is reported once, and not as missing as well.
            if !args.seen.contains(&argument.name) && !args.suggested.contains(&argument.name) {
                errors.push(syn::Error::new(Span::call_site(), argument.missing(kind)));
            }
        }
        if args.when_busy == WhenBusy::Skip
            && let Some((name, _)) = args
                .options
                .iter()
                .find(|(name, _)| name == "acquire_timeout")
        {
            let message =
                "`when_busy = skip` does not wait for a slot; leave `acquire_timeout` out";
            errors.push(syn::Error::new(name.span(), message));
        }
        args
    }

    fn parse_argument(&mut self, kind: Kind, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!(
                "expected a named argument such as `key = \"..\"`; {}",
                known_arguments(kind)
            )));
        }
        let ident = input.call(Ident::parse_any)?;
        let Some(argument) = Argument::all(kind).find(|argument| ident == argument.name) else {
            skip_value(input);
            return Err(syn::Error::new(
                ident.span(),
                self.unknown_argument(kind, &ident),
            ));
        };
        if self.seen.contains(&argument.name) {
            skip_value(input);
            let message = format!("`{ident}` is given twice");
            return Err(syn::Error::new(ident.span(), message));
        }
        self.seen.push(argument.name);
        let syntax_error = || syn::Error::new(ident.span(), argument.syntax_error());
        input.parse::<Token![=]>().map_err(|_| syntax_error())?;
        match argument.setter {
            Setter::Path(set) => {
                let path = input.call(Path::parse_mod_style);
                set(self, path.map_err(|_| syntax_error())?);
            }
            Setter::Name(set) => set(self, input.parse().map_err(|_| syntax_error())?),
            Setter::Word(set) => {
                let given = parse_expression(input, syntax_error)?;
                as_word(&given)
                    .and_then(|word| set(self, word))
                    .ok_or_else(|| syn::Error::new_spanned(&given, argument.syntax_error()))?;
            }
            Setter::Option(validate) => {
                let value = validate(parse_expression(input, syntax_error)?)?;
                self.options.push((ident, value));
            }
        }
        if input.is_empty() || input.peek(Token![,]) {
            Ok(())
        } else {
            Err(input.error("expected `,`"))
        }
    }

    /// Returns the error message for an argument that the attribute does not have.
    fn unknown_argument(&mut self, kind: Kind, ident: &Ident) -> String {
        if let Some(refusal) = ARGUMENTS
            .iter()
            .find(|argument| ident == argument.name)
            .and_then(Argument::refusal)
        {
            return refusal;
        }
        let known: Vec<_> = Argument::all(kind).map(|argument| argument.name).collect();
        match suggest(&ident.to_string(), &known) {
            Some(suggestion) => {
                self.suggested.push(suggestion);
                format!("unknown argument `{ident}`; did you mean `{suggestion}`?")
            }
            None => format!("unknown argument `{ident}`; {}", known_arguments(kind)),
        }
    }
}

impl OnLost {
    fn parse(word: &Ident) -> Option<Self> {
        [Self::Cancel, Self::Finish]
            .into_iter()
            .find(|on_lost| word == on_lost.name())
    }

    /// Returns the value's name, which is also that of the function in `macro_support`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Finish => "finish",
        }
    }
}

impl WhenBusy {
    fn parse(word: &Ident) -> Option<Self> {
        match word.to_string().as_str() {
            "error" => Some(Self::Error),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }
}

/// Parses an expression. The error is `missing` if there is none before the next comma.
fn parse_expression(
    input: ParseStream<'_>,
    missing: impl FnOnce() -> syn::Error,
) -> syn::Result<Expr> {
    if input.is_empty() || input.peek(Token![,]) {
        Err(missing())
    } else {
        input.parse()
    }
}

/// Returns the identifier that an expression consists of.
fn as_word(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

/// Skips the value of an argument that is refused. It may contain commas.
fn skip_value(input: ParseStream<'_>) {
    let _ = input
        .parse::<Token![=]>()
        .and_then(|_| input.parse::<Expr>());
}

/// Returns a list of all arguments, as the end of an error message.
fn known_arguments(kind: Kind) -> String {
    let known: Vec<_> = Argument::all(kind)
        .map(|argument| format!("`{}`", argument.name))
        .collect();
    format!("expected one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::{ToTokens, quote};

    /// Parses `tokens`. Returns the arguments and the error messages.
    fn parse(kind: Kind, tokens: TokenStream) -> (Args, Vec<String>) {
        let mut errors = Errors::default();
        let args = Args::parse(kind, tokens, &mut errors);
        let messages = errors.messages();
        (args, messages)
    }

    fn options(args: &Args) -> Vec<String> {
        args.options
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    #[test]
    fn every_argument_is_parsed_and_options_keep_their_order() {
        let (args, messages) = parse(
            Kind::Semaphore,
            quote!(
                limit = self.limit,
                slot = held,
                key = "a",
                renew_ratio = 0.4,
                on_limit_mismatch = wait_out,
                crate = ::my::reexport,
                lease_ttl = "30s",
                on_lost = finish,
                when_busy = error,
                client = f(a, b),
                acquire_timeout = LONG,
            ),
        );
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(
            options(&args),
            [
                "limit",
                "key",
                "renew_ratio",
                "on_limit_mismatch",
                "lease_ttl",
                "client",
                "acquire_timeout"
            ]
        );
        assert_eq!(args.slot.unwrap(), "held");
        assert_eq!(args.on_lost, OnLost::Finish);
        assert_eq!(
            args.krate.unwrap().to_token_stream().to_string(),
            ":: my :: reexport"
        );
    }

    #[test]
    fn omitted_arguments_have_defaults() {
        let (args, messages) = parse(Kind::Lock, quote!(key = "a"));
        assert!(
            messages.is_empty() && args.slot.is_none() && args.krate.is_none(),
            "{messages:?}"
        );
        assert_eq!(args.on_lost, OnLost::Cancel);
        assert_eq!(options(&args), ["key"]);
    }

    #[test]
    fn an_error_does_not_hide_later_errors() {
        for (tokens, beginnings) in [
            (quote!(), &["`key` is missing", "`limit` is missing"][..]),
            (quote!(key = "", limit = 1), &["invalid key"]),
            (
                quote!(kee = f::<A, B>(), limit = 0),
                &[
                    "unknown argument `kee`; did you mean `key`",
                    "invalid limit",
                ],
            ),
            (
                quote!("a", limit = 0),
                &[
                    "expected a named argument",
                    "invalid limit",
                    "`key` is missing",
                ],
            ),
            (
                quote!(key, limit = 0),
                &["`key` needs a value, as in", "invalid limit"],
            ),
            (
                quote!(key = , limit = 0),
                &["`key` needs a value, as in", "invalid limit"],
            ),
            (
                quote!(key = "a" limit = 0),
                &["expected `,`", "`limit` is missing"],
            ),
            (
                quote!(key = "a", key = f::<A, B>(), limit = 0),
                &["`key` is given twice", "invalid limit"],
            ),
            (
                quote!(
                    key = "a",
                    limit = 1,
                    slot = 1,
                    on_lost = "cancel",
                    crate = a + b
                ),
                &["`slot` is a name", "`on_lost` is", "expected `,`"],
            ),
            (
                quote!(key("a"), limit: 1, on_lost, slot = &held, crate = "dflock", lease_ttl =),
                &[
                    "`key` needs a value",
                    "`limit` needs a value",
                    "`on_lost` is `cancel`",
                    "`slot` is a name, as in `slot = held`",
                    "`crate` is a path without quotes, as in `crate = ::my_reexport`",
                    "`lease_ttl` is text or a `Duration`, as in",
                ],
            ),
            (
                quote!(key = 1 + , limit = 0),
                &["expected an expression", "invalid limit"],
            ),
            (
                quote!(key = "a", limit = 1, slot = _),
                &["`slot` is a name"],
            ),
            (
                quote!(key = "a", limit = 1, slot = self),
                &["`slot` is a name"],
            ),
            (
                quote!(Key = "a", _limit = 1),
                &[
                    "unknown argument `Key`; did you mean `key`",
                    "unknown argument `_limit`",
                ],
            ),
        ] {
            let (_, messages) = parse(Kind::Semaphore, tokens.clone());
            assert_eq!(messages.len(), beginnings.len(), "{tokens}: {messages:?}");
            for (message, beginning) in messages.iter().zip(beginnings) {
                assert!(message.starts_with(beginning), "{tokens}: {message}");
            }
        }
    }

    #[test]
    fn skip_refuses_an_acquire_timeout() {
        let (args, messages) = parse(Kind::Lock, quote!(key = "a", when_busy = skip));
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(args.when_busy, WhenBusy::Skip);
        for tokens in [
            quote!(key = "a", when_busy = skip, acquire_timeout = "2s"),
            quote!(key = "a", acquire_timeout = d, when_busy = skip),
        ] {
            let (_, messages) = parse(Kind::Lock, tokens);
            assert_eq!(
                messages,
                ["`when_busy = skip` does not wait for a slot; leave `acquire_timeout` out"]
            );
        }
    }

    #[test]
    fn a_lock_needs_no_limit_and_takes_none() {
        assert_eq!(parse(Kind::Lock, quote!()).1.len(), 1);
        let (_, messages) = parse(Kind::Lock, quote!(key = "a", limit = 3));
        assert!(
            messages[0].starts_with("a lock has no `limit`"),
            "{messages:?}"
        );
    }
}
