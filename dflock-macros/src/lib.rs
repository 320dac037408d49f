//! Attribute macros of [dflock](https://docs.rs/dflock).
//!
//! Use them through that crate, which documents them.
#![allow(missing_docs, reason = "the crate dflock documents the attributes")]

mod args;
mod errors;
mod expand;
mod function;
mod key;
mod kind;
mod suggest;

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
