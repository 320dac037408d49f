//! What an annotated function becomes.

use proc_macro2::{Ident, Span, TokenStream};
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
            mistakes.add(syn::Error::new(other.span(), format!("`#[dflock::{}]` goes on an `async fn` with a body", kind.name())));
            let mistakes = mistakes.report();
            return quote!(#mistakes #item);
        }
    };
    function.check(kind, &mut mistakes);
    if mistakes.is_empty()
        && let Some(expanded) = function.clone().around(|output, statements| slot_around(kind, &args, output, statements))
    {
        return quote!(#expanded);
    }
    let (mistakes, function) = (mistakes.report(), function.after(stand_in(&args).unwrap_or_default()));
    quote!(#mistakes #function)
}

/// Statements that acquire a slot, run `statements` and release it. All names but the user's are out of the user's sight.
fn slot_around(kind: Kind, args: &Args, output: &Type, statements: &TokenStream) -> TokenStream {
    let here = Span::mixed_site();
    let dflock = dflock(args);
    let (built, run) = (Ident::new(kind.built(), here), Ident::new(kind.name(), here));
    let options = args.options.iter().map(|(name, value)| {
        let value = value.expression(&dflock);
        quote_spanned!(here=> .#name(#value))
    });
    let on_lost = Ident::new(args.on_lost.name(), here);
    let held = args.slot.as_ref().map(|name| quote_spanned!(here=> let #name: &#dflock::Held = &held;));
    // where the compiler points when the body is of another type
    let as_declared = quote_spanned!(here.located_at(output.span())=> return never);
    quote_spanned! {here=>
        // a statement of its own, so that what the options borrow is given back before anything is waited for
        let built = #dflock::#built::builder()#(#options)*.build();
        #dflock::runtime::#run(built, #dflock::runtime::#on_lost::<#output>(), move |held| async move {
            // gives the body its type, so that coercions in it work
            if let ::core::option::Option::Some(never) = ::core::option::Option::None::<#output> {
                #as_declared;
            }
            #held
            #statements
        })
        .await
    }
}

/// What a body needs that sees its slot, where there is none.
fn stand_in(args: &Args) -> Option<TokenStream> {
    let (name, dflock) = (args.slot.as_ref()?, dflock(args));
    Some(quote_spanned!(Span::mixed_site()=> let #name: &#dflock::Held = ::core::option::Option::None.unwrap();))
}

fn dflock(args: &Args) -> Path {
    args.krate.clone().unwrap_or_else(|| parse_quote_spanned!(Span::mixed_site()=> ::dflock))
}
