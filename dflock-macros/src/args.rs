//! The arguments of the attribute.

mod value;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
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
    /// What the names that are unknown were meant to be.
    meant: Vec<&'static str>,
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
            // one that is misspelt is reported once
            if !args.seen.iter().any(|seen| seen == name) && !args.meant.contains(&name) {
                let message = format!(
                    "`{name}` is missing: `#[dflock::{}]` needs one, as in `{example}`",
                    kind.name()
                );
                mistakes.add(syn::Error::new(Span::call_site(), message));
            }
        }
        args
    }

    fn argument(&mut self, kind: Kind, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!(
                "expected an argument with its name, as in `key = \"..\"`; {}",
                there_are(kind)
            )));
        }
        let ident = input.call(Ident::parse_any)?;
        let name = ident.to_string();
        if !kind.arguments().any(|known| known == name) {
            skip_value(input);
            let known: Vec<_> = kind.arguments().collect();
            let meant = nearest(&name, &known);
            self.meant.extend(meant);
            return Err(syn::Error::new(ident.span(), unknown(kind, &name, meant)));
        }
        if self.seen.contains(&name) {
            skip_value(input);
            return Err(syn::Error::new(
                ident.span(),
                format!("`{name}` is given twice"),
            ));
        }
        self.seen.push(name.clone());
        let wanted = |_| syn::Error::new(ident.span(), format!("`{name}` {}", wanted(&name)));
        input.parse::<Token![=]>().map_err(wanted)?;
        match name.as_str() {
            "crate" => self.krate = Some(input.call(Path::parse_mod_style).map_err(wanted)?),
            "slot" => self.slot = Some(input.parse().map_err(wanted)?),
            _ => {
                let nothing = input.is_empty() || input.peek(Token![,]);
                let given: Expr = input
                    .parse()
                    .map_err(|mistake| if nothing { wanted(mistake) } else { mistake })?;
                if name == "on_lost" {
                    self.on_lost = OnLost::new(&given)?;
                } else {
                    let value = Value::new(&name, given)?;
                    self.options.push((ident, value));
                }
            }
        }
        if input.is_empty() || input.peek(Token![,]) {
            Ok(())
        } else {
            Err(input.error("expected `,`"))
        }
    }
}

impl OnLost {
    fn new(given: &Expr) -> syn::Result<Self> {
        match given {
            Expr::Path(path) if path.path.is_ident("cancel") => Ok(Self::Cancel),
            Expr::Path(path) if path.path.is_ident("finish") => Ok(Self::Finish),
            _ => Err(syn::Error::new_spanned(
                given,
                "`on_lost` is `cancel` (the default: stop the body) or `finish` (let it run)",
            )),
        }
    }

    /// Its name, and that of the function that stands for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Finish => "finish",
        }
    }
}

/// A value that nobody wants is read all the same: there may be commas in it.
fn skip_value(input: ParseStream<'_>) {
    let _ = input
        .parse::<Token![=]>()
        .and_then(|_| input.parse::<Expr>());
}

/// What an argument is, for whoever wrote it in another form.
fn wanted(name: &str) -> &'static str {
    match name {
        "slot" => "is a name, as in `slot = held`",
        "crate" => "is a path without quotes, as in `crate = ::my_reexport`",
        "key" => "needs a value, as in `key = \"report:{id}\"`",
        "limit" => "needs a value, as in `limit = 3`",
        "client" => "needs a value, as in `client = self.locks`",
        "renew_ratio" => "needs a value, as in `renew_ratio = 0.4`",
        "on_lost" => "needs a value: `on_lost = cancel` or `on_lost = finish`",
        _ => "needs a value: text such as `\"2s\"`, or a `Duration`",
    }
}

fn unknown(kind: Kind, name: &str, meant: Option<&str>) -> String {
    if name == "limit" {
        return "a lock has no `limit`: one holds it at a time; for more there is `#[dflock::semaphore]`".to_owned();
    }
    match meant {
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
        args.options
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
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
        assert_eq!(
            options(&args),
            [
                "limit",
                "key",
                "renew_ratio",
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
    fn what_is_not_said_has_its_default() {
        let (args, messages) = read(Kind::Lock, quote!(key = "a"));
        assert!(
            messages.is_empty() && args.slot.is_none() && args.krate.is_none(),
            "{messages:?}"
        );
        assert_eq!(args.on_lost, OnLost::Cancel);
        assert_eq!(options(&args), ["key"]);
    }

    #[test]
    fn a_mistake_does_not_hide_what_comes_after_it() {
        for (tokens, beginnings) in [
            (quote!(), &["`key` is missing", "`limit` is missing"][..]),
            (quote!(key = "", limit = 1), &["this key is refused"]),
            (
                quote!(kee = f::<A, B>(), limit = 0),
                &[
                    "there is no argument `kee`; did you mean `key`",
                    "this limit",
                ],
            ),
            (
                quote!("a", limit = 0),
                &[
                    "expected an argument with its name",
                    "this limit",
                    "`key` is missing",
                ],
            ),
            (
                quote!(key, limit = 0),
                &["`key` needs a value, as in", "this limit"],
            ),
            (
                quote!(key = , limit = 0),
                &["`key` needs a value, as in", "this limit"],
            ),
            (
                quote!(key = "a" limit = 0),
                &["expected `,`", "`limit` is missing"],
            ),
            (
                quote!(key = "a", key = f::<A, B>(), limit = 0),
                &["`key` is given twice", "this limit"],
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
                    "`on_lost` needs a value: `on_lost = cancel`",
                    "`slot` is a name, as in `slot = held`",
                    "`crate` is a path without quotes, as in `crate = ::my_reexport`",
                    "`lease_ttl` needs a value: text such as",
                ],
            ),
            (
                quote!(key = 1 + , limit = 0),
                &["expected an expression", "this limit"],
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
                    "there is no argument `Key`; did you mean `key`",
                    "there is no argument `_limit`",
                ],
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
        assert!(
            messages[0].starts_with("a lock has no `limit`"),
            "{messages:?}"
        );
    }
}
