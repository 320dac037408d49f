//! Expansion of an annotated function.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, Type, parse_quote_spanned};

use crate::args::{Args, WhenBusy};
use crate::errors::Errors;
use crate::function::Function;
use crate::kind::Kind;

/// Returns the function with a body that runs with a slot.
///
/// If there are errors, returns all of them and the function with its original body, because
/// otherwise the compiler would report its callers as well.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(kind, args, &mut errors);
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            errors.push(syn::Error::new(
                error.span(),
                format!(
                    "`#[dflock::{}]` requires an `async fn` with a body",
                    kind.name()
                ),
            ));
            let mut emitted = errors.into_compile_errors();
            emitted.extend(item);
            return emitted;
        }
    };
    function.check(kind, &mut errors);
    if errors.is_empty()
        && let Some(expanded) = function
            .clone()
            .map_body(|output, statements| wrap_body(kind, &args, output, statements))
    {
        return quote!(#expanded);
    }
    let errors = errors.into_compile_errors();
    let function = function.prepend(placeholder(&args).unwrap_or_default());
    quote!(#errors #function)
}

/// Returns statements that acquire a slot, run `statements` and release the slot.
///
/// Hygiene hides the names of the expansion from the code of the user.
fn wrap_body(kind: Kind, args: &Args, output: &Type, statements: &TokenStream) -> TokenStream {
    let here = Span::mixed_site();
    let dflock = dflock(args);
    let builder_type = Ident::new(kind.builder_type(), here);
    let options = args.options.iter().map(|(name, value)| {
        let value = value.expression(&dflock);
        quote_spanned!(here=> .#name(#value))
    });
    let on_lost = Ident::new(args.on_lost.name(), here);
    let skip = (args.when_busy == WhenBusy::Skip)
        .then(|| quote_spanned!(here=> .when_busy(#dflock::macro_support::skip::<#output>())));
    let held = args
        .slot
        .as_ref()
        .map(|name| quote_spanned!(here=> let #name: &#dflock::Held = &__dflock_held;));
    // The compiler points to the declared type when the body has another type.
    let as_declared = quote_spanned!(here.located_at(output.span())=> return __dflock_never);
    let body = quote_spanned! {here=>
        // Gives the body its type, so that coercions in it work.
        if let ::core::option::Option::Some(__dflock_never)
            = ::core::option::Option::None::<#output>
        {
            #as_declared;
        }
        #held
        #statements
    };
    // The compiler points to the declared type when the body ends without a value.
    let mut body = Group::new(Delimiter::Brace, body);
    body.set_span(here.located_at(output.span()));
    // No constant of the user has a name such as `__dflock_held`. A pattern would resolve to a
    // constant of the same name, despite hygiene.
    quote_spanned! {here=>
        // A separate statement, so that borrows and lock guards in the options end before the wait.
        let __dflock_semaphore = #dflock::#builder_type::builder()#(#options)*.build();
        #dflock::macro_support::with_slot(
            __dflock_semaphore,
            #dflock::macro_support::#on_lost::<#output>()#skip,
            move |__dflock_held| async move #body
        ).await
    }
}

/// Returns a declaration of the slot's variable for a body that runs without a slot.
///
/// Without it, the compiler would report every use of the variable.
fn placeholder(args: &Args) -> Option<TokenStream> {
    let (name, dflock) = (args.slot.as_ref()?, dflock(args));
    Some(quote_spanned! {Span::mixed_site()=>
        let #name: &#dflock::Held = ::core::option::Option::None.unwrap();
    })
}

/// Returns the path of the crate `dflock`.
fn dflock(args: &Args) -> Path {
    args.krate
        .clone()
        .unwrap_or_else(|| parse_quote_spanned!(Span::mixed_site()=> ::dflock))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the formatted expansion of `item`.
    fn expanded(kind: Kind, args: TokenStream, item: TokenStream) -> String {
        prettyplease::unparse(&syn::parse2(expand(kind, args, item)).unwrap())
    }

    /// Returns the error messages in order, and the formatted rest of the expansion.
    fn expansion_errors(kind: Kind, args: TokenStream, item: TokenStream) -> (Vec<String>, String) {
        let mut file: syn::File = syn::parse2(expand(kind, args, item)).unwrap();
        let mut messages = Vec::new();
        file.items.retain(|item| match item {
            syn::Item::Macro(error) => {
                messages.push(error.mac.parse_body::<syn::LitStr>().unwrap().value());
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
    let __dflock_semaphore = ::dflock::Semaphore::builder()
        .key(::std::format!("report:{tenant}"))
        .limit(3)
        .build();
    ::dflock::macro_support::with_slot(
            __dflock_semaphore,
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
    fn arguments_keep_their_order_in_the_expansion() {
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
            "::my::reexport::Lock::builder().lease_ttl(",
            ".lease_ttl(::core::time::Duration::new(60u64,0u32)).client(",
            "::my::reexport::macro_support::client(&self.locks)",
            ").key(self.name()).build();::my::reexport::macro_support::with_slot(",
            "::my::reexport::macro_support::finish::<Result<(),Error>>()",
            "letmine:&::my::reexport::Held=&__dflock_held;",
        ] {
            assert!(spaceless.contains(part), "no `{part}` in\n{expanded}");
        }
    }

    #[test]
    fn attributes_and_signature_are_kept() {
        let item = quote! {
            #[must_use]
            #[cfg(unix)]
            pub(crate) async unsafe fn f<'a, T: Copy>(
                mut self,
                (a, _): (&'a T, u8),
            ) -> Result<&'a T, E>
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
    fn an_unnameable_type_is_inferred() {
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
    fn the_tail_future_of_a_plain_function_runs_with_the_slot() {
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
    fn an_early_return_of_a_plain_function_is_refused() {
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
            let mut errors = Errors::default();
            syn::parse2::<Function>(function(statement.clone()))
                .unwrap()
                .check(Kind::Lock, &mut errors);
            assert_eq!(
                errors.messages(),
                vec!["this future would run without a slot; make `f` an `async fn`"; found],
                "{statement}"
            );
        }
    }

    #[test]
    fn every_error_is_reported_and_the_function_is_kept() {
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
        let (messages, emitted) = expansion_errors(Kind::Semaphore, args, function.clone());
        let beginnings = [
            "unknown argument `kye`; did you mean `key`?",
            "invalid limit",
            "invalid ratio",
            "\"x\" is not a duration",
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
    fn the_slot_is_declared_in_a_function_with_errors() {
        let (_, emitted) = expansion_errors(
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
    fn an_item_that_is_not_a_function_is_kept() {
        let (messages, emitted) = expansion_errors(
            Kind::Lock,
            quote!(key = "a"),
            quote!(
                struct S;
            ),
        );
        assert_eq!(
            messages,
            ["`#[dflock::lock]` requires an `async fn` with a body"]
        );
        assert_eq!(emitted, "struct S;\n");
    }
}
