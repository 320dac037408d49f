//! The arguments of the attribute.

mod value;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, Ident, Path, Token};

pub(crate) use value::Value;

use crate::kind::Kind;
use crate::mistakes::Mistakes;
use crate::spelling::nearest;

/// What was asked for.
#[derive(Default)]
pub(crate) struct Args {
    /// The options of the builder, in the order in which they were written, which is the order in which they are evaluated.
    pub(crate) options: Vec<(Ident, Value)>,
    pub(crate) on_lost: OnLost,
    /// The name under which the body sees its slot.
    pub(crate) slot: Option<Ident>,
    /// Where `dflock` is.
    pub(crate) krate: Option<Path>,
    seen: Vec<String>,
}

/// What becomes of a body whose slot is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnLost {
    #[default]
    Cancel,
    Finish,
}

impl Args {
    /// Reads the arguments; what is wrong with one does not hide what is wrong with the next.
    pub(crate) fn read(kind: Kind, tokens: TokenStream, mistakes: &mut Mistakes) -> Self {
        let mut args = Self::default();
        let all = |input: ParseStream<'_>| {
            while !input.is_empty() {
                mistakes.note(args.argument(kind, input));
                while !input.is_empty() && input.parse::<Option<Token![,]>>()?.is_none() {
                    input.parse::<TokenTree>()?;
                }
            }
            Ok(())
        };
        let read = all.parse2(tokens);
        mistakes.note(read);
        for (name, example) in kind.required() {
            if !args.seen.iter().any(|seen| seen == name) {
                let message = format!("`{name}` is missing: `#[dflock::{}]` needs one, as in `{example}`", kind.name());
                mistakes.add(syn::Error::new(Span::call_site(), message));
            }
        }
        args
    }

    fn argument(&mut self, kind: Kind, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected an argument with its name, as in `key = \"..\"`; {}", there_are(kind))));
        }
        let ident = input.call(Ident::parse_any)?;
        let name = ident.to_string();
        if !kind.arguments().any(|known| known == name) {
            skip_value(input);
            return Err(syn::Error::new(ident.span(), unknown(kind, &name)));
        }
        if self.seen.contains(&name) {
            skip_value(input);
            return Err(syn::Error::new(ident.span(), format!("`{name}` is given twice")));
        }
        self.seen.push(name.clone());
        input.parse::<Token![=]>()?;
        match name.as_str() {
            "crate" => self.krate = Some(input.call(Path::parse_mod_style)?),
            "slot" => self.slot = Some(input.parse()?),
            "on_lost" => self.on_lost = input.parse()?,
            _ => {
                let value = Value::new(&name, input.parse()?)?;
                self.options.push((ident, value));
            }
        }
        if input.is_empty() || input.peek(Token![,]) { Ok(()) } else { Err(input.error("expected `,`")) }
    }
}

impl OnLost {
    /// Its name, and that of the function that stands for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Finish => "finish",
        }
    }
}

impl Parse for OnLost {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let given: Expr = input.parse()?;
        match &given {
            Expr::Path(path) if path.path.is_ident("cancel") => Ok(Self::Cancel),
            Expr::Path(path) if path.path.is_ident("finish") => Ok(Self::Finish),
            _ => Err(syn::Error::new_spanned(given, "`on_lost` is `cancel` (the default: stop the body) or `finish` (let it run)")),
        }
    }
}

/// A value that nobody wants is read all the same: there may be commas in it.
fn skip_value(input: ParseStream<'_>) {
    let _ = input.parse::<Token![=]>().and_then(|_| input.parse::<Expr>());
}

fn unknown(kind: Kind, name: &str) -> String {
    if name == "limit" {
        return "a lock has no `limit`: one holds it at a time; for more there is `#[dflock::semaphore]`".to_owned();
    }
    let known: Vec<_> = kind.arguments().collect();
    match nearest(name, &known) {
        Some(meant) => format!("there is no argument `{name}`; did you mean `{meant}`?"),
        None => format!("there is no argument `{name}`; {}", there_are(kind)),
    }
}

fn there_are(kind: Kind) -> String {
    let known: Vec<_> = kind.arguments().map(|name| format!("`{name}`")).collect();
    format!("there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::{ToTokens, quote};

    /// What was read, and the messages of what could not be.
    fn read(kind: Kind, tokens: TokenStream) -> (Args, Vec<String>) {
        let mut mistakes = Mistakes::default();
        let args = Args::read(kind, tokens, &mut mistakes);
        let messages = mistakes.messages();
        (args, messages)
    }

    fn options(args: &Args) -> Vec<String> {
        args.options.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn every_argument_is_read_and_options_keep_their_order() {
        let (args, messages) = read(
            Kind::Semaphore,
            quote!(
                limit = self.limit,
                slot = held,
                key = "a",
                renew_ratio = 0.4,
                crate = ::my::reexport,
                lease_ttl = "30s",
                on_lost = finish,
                client = f(a, b),
                acquire_timeout = LONG,
            ),
        );
        assert!(messages.is_empty(), "{messages:?}");
        assert_eq!(options(&args), ["limit", "key", "renew_ratio", "lease_ttl", "client", "acquire_timeout"]);
        assert_eq!(args.slot.unwrap(), "held");
        assert_eq!(args.on_lost, OnLost::Finish);
        assert_eq!(args.krate.unwrap().to_token_stream().to_string(), ":: my :: reexport");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (args, messages) = read(Kind::Lock, quote!(key = "a"));
        assert!(messages.is_empty() && args.slot.is_none() && args.krate.is_none(), "{messages:?}");
        assert_eq!(args.on_lost, OnLost::Cancel);
        assert_eq!(options(&args), ["key"]);
    }

    #[test]
    fn a_mistake_does_not_hide_what_comes_after_it() {
        for (tokens, beginnings) in [
            (quote!(), &["`key` is missing", "`limit` is missing"][..]),
            (quote!(key = "", limit = 1), &["this key is refused"]),
            (quote!(kee = f::<A, B>(), limit = 0), &["there is no argument `kee`; did you mean `key`", "this limit", "`key` is missing"]),
            (quote!("a", limit = 0), &["expected an argument with its name", "this limit", "`key` is missing"]),
            (quote!(key, limit = 0), &["expected `=`", "this limit"]),
            (quote!(key = , limit = 0), &["expected an expression", "this limit"]),
            (quote!(key = "a" limit = 0), &["expected `,`", "`limit` is missing"]),
            (quote!(key = "a", key = f::<A, B>(), limit = 0), &["`key` is given twice", "this limit"]),
            (
                quote!(key = "a", limit = 1, slot = 1, on_lost = "cancel", crate = a + b),
                &["expected identifier", "`on_lost` is", "expected `,`"],
            ),
        ] {
            let (_, messages) = read(Kind::Semaphore, tokens.clone());
            assert_eq!(messages.len(), beginnings.len(), "{tokens}: {messages:?}");
            for (message, beginning) in messages.iter().zip(beginnings) {
                assert!(message.starts_with(beginning), "{tokens}: {message}");
            }
        }
    }

    #[test]
    fn a_lock_needs_no_limit_and_takes_none() {
        assert_eq!(read(Kind::Lock, quote!()).1.len(), 1);
        let (_, messages) = read(Kind::Lock, quote!(key = "a", limit = 3));
        assert!(messages[0].starts_with("a lock has no `limit`"), "{messages:?}");
    }
}
