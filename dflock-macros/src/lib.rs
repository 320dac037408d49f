//! The attribute macros of [dflock](https://docs.rs/dflock), for use through that crate only, which documents them.
#![allow(
    missing_docs,
    reason = "what is said here would be said again where they are documented"
)]

mod args;
mod duration;
mod expand;
mod function;
mod key;
mod kind;
mod mistakes;
mod spelling;

use expand::expand;
use kind::Kind;
use proc_macro::TokenStream;

#[proc_macro_attribute]
pub fn semaphore(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Kind::Semaphore, args.into(), item.into()).into()
}

#[proc_macro_attribute]
pub fn lock(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Kind::Lock, args.into(), item.into()).into()
}
