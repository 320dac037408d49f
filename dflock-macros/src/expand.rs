//! What an annotated function becomes.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, Type, parse_quote_spanned};

use crate::args::Args;
use crate::function::Function;
use crate::kind::Kind;
use crate::mistakes::Mistakes;

/// The function with a slot around what it does. If there are mistakes, all of them, and the function as it was, so that its callers
/// are not told that there is none.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let args = Args::read(kind, args, &mut mistakes);
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(other) => {
            mistakes.add(syn::Error::new(
                other.span(),
                format!(
                    "`#[dflock::{}]` goes on an `async fn` with a body",
                    kind.name()
                ),
            ));
            let mut emitted = mistakes.report();
            emitted.extend(item);
            return emitted;
        }
    };
    function.check(kind, &mut mistakes);
    if mistakes.is_empty()
        && let Some(expanded) = function
            .clone()
            .around(|output, statements| slot_around(kind, &args, output, statements))
    {
        return quote!(#expanded);
    }
    let (mistakes, function) = (
        mistakes.report(),
        function.after(stand_in(&args).unwrap_or_default()),
    );
    quote!(#mistakes #function)
}

/// Statements that acquire a slot, run `statements` and release it. All names but the user's are out of the user's sight.
fn slot_around(kind: Kind, args: &Args, output: &Type, statements: &TokenStream) -> TokenStream {
    let here = Span::mixed_site();
    let dflock = dflock(args);
    let (built, run) = (
        Ident::new(kind.built(), here),
        Ident::new(kind.name(), here),
    );
    let options = args.options.iter().map(|(name, value)| {
        let value = value.expression(&dflock);
        quote_spanned!(here=> .#name(#value))
    });
    let on_lost = Ident::new(args.on_lost.name(), here);
    let held = args
        .slot
        .as_ref()
        .map(|name| quote_spanned!(here=> let #name: &#dflock::Held = &__dflock_held;));
    // where the compiler points when the body is of another type
    let as_declared = quote_spanned!(here.located_at(output.span())=> return __dflock_never);
    let body = quote_spanned! {here=>
        // gives the body its type, so that coercions in it work
        if let ::core::option::Option::Some(__dflock_never) = ::core::option::Option::None::<#output> {
            #as_declared;
        }
        #held
        #statements
    };
    // where the compiler points when the body ends without a value
    let mut body = Group::new(Delimiter::Brace, body);
    body.set_span(here.located_at(output.span()));
    // names that no constant has: hygiene does not keep a pattern from being the user's constant
    quote_spanned! {here=>
        // a statement of its own, so that what the options borrow is given back before anything is waited for
        let __dflock_built = #dflock::#built::builder()#(#options)*.build();
        #dflock::macro_support::#run(__dflock_built, #dflock::macro_support::#on_lost::<#output>(), move |__dflock_held| async move #body).await
    }
}

/// What a body needs that sees its slot, where there is none.
fn stand_in(args: &Args) -> Option<TokenStream> {
    let (name, dflock) = (args.slot.as_ref()?, dflock(args));
    Some(
        quote_spanned!(Span::mixed_site()=> let #name: &#dflock::Held = ::core::option::Option::None.unwrap();),
    )
}

fn dflock(args: &Args) -> Path {
    args.krate
        .clone()
        .unwrap_or_else(|| parse_quote_spanned!(Span::mixed_site()=> ::dflock))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `item` becomes, as `rustfmt` would write it.
    fn expanded(kind: Kind, args: TokenStream, item: TokenStream) -> String {
        prettyplease::unparse(&syn::parse2(expand(kind, args, item)).unwrap())
    }

    /// The messages, in their order, and what is emitted besides.
    fn refused(kind: Kind, args: TokenStream, item: TokenStream) -> (Vec<String>, String) {
        let mut file: syn::File = syn::parse2(expand(kind, args, item)).unwrap();
        let mut messages = Vec::new();
        file.items.retain(|item| match item {
            syn::Item::Macro(mistake) => {
                messages.push(mistake.mac.parse_body::<syn::LitStr>().unwrap().value());
                false
            }
            _ => true,
        });
        (messages, prettyplease::unparse(&file))
    }

    #[test]
    fn a_small_function_becomes_a_call() {
        let expanded = expanded(
            Kind::Semaphore,
            quote!(key = "report:{tenant}", limit = 3),
            quote! {
                /// Documented.
                pub async fn build_report(tenant: &str) -> Result<Report, AppError> {
                    Ok(Report::of(tenant).await?)
                }
            },
        );
        let golden = r#"/// Documented.
pub async fn build_report(tenant: &str) -> Result<Report, AppError> {
    let __dflock_built = ::dflock::Semaphore::builder()
        .key(::std::format!("report:{tenant}"))
        .limit(3)
        .build();
    ::dflock::macro_support::semaphore(
            __dflock_built,
            ::dflock::macro_support::cancel::<Result<Report, AppError>>(),
            move |__dflock_held| async move {
                if let ::core::option::Option::Some(__dflock_never) = ::core::option::Option::None::<
                    Result<Report, AppError>,
                > {
                    return __dflock_never;
                }
                Ok(Report::of(tenant).await?)
            },
        )
        .await
}
"#;
        assert_eq!(expanded, golden);
        assert!(golden.lines().count() <= 25);
    }

    #[test]
    fn arguments_keep_their_order_and_go_where_they_belong() {
        let expanded = expanded(
            Kind::Lock,
            quote!(
                crate = ::my::reexport,
                slot = mine,
                lease_ttl = "1m",
                client = self.locks,
                key = self.name(),
                on_lost = finish
            ),
            quote!(
                async fn nightly(&self) -> Result<(), Error> {}
            ),
        );
        let spaceless: String = expanded.split_whitespace().collect();
        for part in [
            "::my::reexport::Lock::builder().lease_ttl(::core::time::Duration::new(60u64,0u32)).client(",
            "::my::reexport::macro_support::client(&self.locks)",
            ").key(self.name()).build();::my::reexport::macro_support::lock(",
            "::my::reexport::macro_support::finish::<Result<(),Error>>()",
            "letmine:&::my::reexport::Held=&__dflock_held;",
        ] {
            assert!(spaceless.contains(part), "no `{part}` in\n{expanded}");
        }
    }

    #[test]
    fn all_that_belongs_to_a_function_stays_on_it() {
        let item = quote! {
            #[must_use]
            #[cfg(unix)]
            pub(crate) async unsafe fn f<'a, T: Copy>(mut self, (a, _): (&'a T, u8)) -> Result<&'a T, E>
            where
                T: 'a,
            {
                #![allow(unused)]
            }
        };
        let expanded = expanded(Kind::Lock, quote!(key = "a"), item.clone());
        let head = prettyplease::unparse(&syn::parse2(item).unwrap());
        let head = head.trim_end().trim_end_matches('}').trim_end();
        assert!(expanded.starts_with(head), "{expanded}\n{head}");
    }

    #[test]
    fn what_has_no_name_is_left_to_the_compiler() {
        let expanded = expanded(
            Kind::Lock,
            quote!(key = "a"),
            quote!(
                async fn f() -> Result<(Box<dyn Show>, impl Show), E> {}
            ),
        );
        assert!(
            expanded.contains("cancel::<Result<(Box<dyn Show>, _), E>>()"),
            "{expanded}"
        );
    }

    #[test]
    fn the_future_that_a_plain_function_ends_with_is_what_runs_with_the_slot() {
        for (output, value, named) in [
            (
                quote!(impl Future<Output = Result<u8, E>> + Send),
                quote!(async move { Ok(before) }),
                "Result<u8, E>",
            ),
            (
                quote!(Pin<Box<dyn Future<Output = Result<u8, E>>>>),
                quote!(Box::pin(async move { Ok(before) })),
                "Result<u8, E>",
            ),
            (
                quote!(BoxFuture<u8>),
                quote!(std::boxed::Box::pin(async move { Ok(before) })),
                "_",
            ),
        ] {
            let expanded = expanded(
                Kind::Lock,
                quote!(key = "a"),
                quote!(
                    fn f() -> #output {
                        let before = 1;
                        #value
                    }
                ),
            );
            let (before, inside) = expanded.split_once("async move").unwrap();
            assert!(before.contains("let before = 1;"), "{expanded}");
            assert!(
                inside.contains(&format!("cancel::<{named}>()")) && inside.contains("Ok(before)"),
                "{expanded}"
            );
        }
    }

    #[test]
    fn a_future_that_a_plain_function_returns_before_its_end_is_refused() {
        let function = |statement: TokenStream| {
            quote!(
                fn f() -> BoxFuture<u8> {
                    #statement
                    Box::pin(async move { return Ok(g()?) })
                }
            )
        };
        for (statement, found) in [
            (
                quote!(if early {
                    return g();
                }),
                1,
            ),
            (quote!(let a = match b { 1 => return g(), _ => c? };), 2),
            (quote!(println!("{}", return g());), 1),
            (
                quote!(let a = || return 1; let b = async { c? }; fn d() { return }),
                0,
            ),
        ] {
            let mut mistakes = Mistakes::default();
            syn::parse2::<Function>(function(statement.clone()))
                .unwrap()
                .check(Kind::Lock, &mut mistakes);
            assert_eq!(
                mistakes.messages(),
                vec!["this future would run without a slot; make `f` an `async fn`"; found],
                "{statement}"
            );
        }
    }

    #[test]
    fn every_mistake_is_reported_and_the_function_is_there_all_the_same() {
        let function = quote!(
            const fn f() -> u8 {
                1
            }
        );
        let args = quote!(
            kye = "a",
            limit = 0,
            renew_ratio = 2.0,
            lease_ttl = "x",
            on_lost = stop,
            limit = 4
        );
        let (messages, emitted) = refused(Kind::Semaphore, args, function.clone());
        let beginnings = [
            "there is no argument `kye`; did you mean `key`?",
            "this limit is refused",
            "this ratio is refused",
            "this is no duration",
            "`on_lost` is `cancel`",
            "`limit` is given twice",
            "a `const fn` cannot wait",
        ];
        assert_eq!(messages.len(), beginnings.len(), "{messages:?}");
        for (message, beginning) in messages.iter().zip(beginnings) {
            assert!(message.starts_with(beginning), "{message}");
        }
        assert_eq!(
            emitted,
            prettyplease::unparse(&syn::parse2(function).unwrap())
        );
    }

    #[test]
    fn a_body_that_sees_its_slot_has_one_to_see_where_there_are_mistakes() {
        let (_, emitted) = refused(
            Kind::Lock,
            quote!(slot = held),
            quote!(
                async fn f() {
                    held.check();
                }
            ),
        );
        assert!(
            emitted.contains("let held: &::dflock::Held = "),
            "{emitted}"
        );
    }

    #[test]
    fn what_is_no_function_is_left_as_it_was() {
        let (messages, emitted) = refused(
            Kind::Lock,
            quote!(key = "a"),
            quote!(
                struct S;
            ),
        );
        assert_eq!(
            messages,
            ["`#[dflock::lock]` goes on an `async fn` with a body"]
        );
        assert_eq!(emitted, "struct S;\n");
    }
}
