//! Annotated functions.

mod future;

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::parse::{Parse, ParseStream, Parser};
use syn::token::Brace;
use syn::{Attribute, Block, Expr, ReturnType, Signature, Stmt, Type, Visibility, braced};

use crate::errors::Errors;
use crate::kind::Kind;

/// A parsed function.
///
/// The body is kept as tokens, so that the compiler reports the errors in it.
#[derive(Clone)]
pub(crate) struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    brace: Brace,
    inner_attributes: Vec<Attribute>,
    statements: TokenStream,
}

impl Function {
    /// Records an error if the function cannot run with a slot.
    pub(crate) fn check(&self, kind: Kind, errors: &mut Errors) {
        let Signature {
            constness,
            asyncness,
            fn_token,
            ident,
            output,
            ..
        } = &self.signature;
        let attribute = kind.name();
        if let Some(other) = self.attributes.iter().find(|other| is_of_dflock(other)) {
            errors.push_spanned(
                other,
                "a second attribute of dflock on one function: two functions with the two in \
                 different orders could wait for each other; call `dflock::acquire_all` in the \
                 body, which has one order for all programs",
            );
        }
        if let Some(constness) = constness {
            errors.push_spanned(
                constness,
                "a `const fn` cannot wait for a slot; make it an `async fn`",
            );
        } else if asyncness.is_some() && matches!(output, ReturnType::Default) {
            let why = "returns nothing, but the acquire may fail; let it return a `Result` whose \
                       error is `From<dflock::Error>`";
            errors.push_spanned(ident, format!("`{ident}` {why}"));
        } else if asyncness.is_none()
            && self
                .clone()
                .map_body(|_, statements| statements.clone())
                .is_none()
        {
            let tokio = if contains_ident(&self.statements, "block_on") {
                "; if `#[tokio::main]` or `#[tokio::test]` is above it, swap the two"
            } else {
                ""
            };
            let why = "requires an `async fn`, or a function that ends with `async \
                       move { .. }` or `Box::pin(async move { .. })`";
            errors.push_spanned(
                fn_token,
                format!("`{ident}` is not async, but `#[dflock::{attribute}]` {why}{tokio}"),
            );
        } else if asyncness.is_none() {
            let statements = Block::parse_within
                .parse2(self.statements.clone())
                .unwrap_or_default();
            for span in future::early_returns(statements) {
                errors.push(syn::Error::new(
                    span,
                    format!("this future would run without a slot; make `{ident}` an `async fn`"),
                ));
            }
        }
    }

    /// Replaces the body by the result of `wrap`, which is given the output type and the
    /// statements.
    ///
    /// The body is that of an `async fn`, or of the future that a plain function ends with. Returns
    /// `None` for any other function.
    pub(crate) fn map_body(
        mut self,
        wrap: impl FnOnce(&Type, &TokenStream) -> TokenStream,
    ) -> Option<Self> {
        if self.signature.asyncness.is_some() {
            let ReturnType::Type(_, output) = &self.signature.output else {
                return None;
            };
            self.statements = wrap(&future::erase_impl_trait(output), &self.statements);
        } else {
            let mut statements = Block::parse_within.parse2(self.statements).ok()?;
            let future = future::tail_async_block(&mut statements)?;
            let inner = &future.block.stmts;
            let wrapped = wrap(&future::output(&self.signature.output), &quote!(#(#inner)*));
            future.block.stmts = vec![Stmt::Expr(Expr::Verbatim(wrapped), None)];
            self.statements = quote!(#(#statements)*);
        }
        Some(self)
    }

    /// Inserts `first` before the statements of the body.
    pub(crate) fn prepend(mut self, mut first: TokenStream) -> Self {
        first.extend(self.statements);
        self.statements = first;
        self
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let body;
        Ok(Self {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            brace: braced!(body in input),
            inner_attributes: body.call(Attribute::parse_inner)?,
            statements: body.parse()?,
        })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attributes);
        self.visibility.to_tokens(tokens);
        self.signature.to_tokens(tokens);
        self.brace.surround(tokens, |tokens| {
            tokens.append_all(&self.inner_attributes);
            self.statements.to_tokens(tokens);
        });
    }
}

/// Returns whether `attribute` is `semaphore` or `lock` of this crate, judged by its path. With a
/// path of one segment, it also needs the argument `key`, which another crate's `lock` may not have.
fn is_of_dflock(attribute: &Attribute) -> bool {
    let mut segments = attribute
        .path()
        .segments
        .iter()
        .map(|segment| &segment.ident);
    let (Some(first), Some(last)) = (segments.next(), segments.next_back()) else {
        return is_kind(attribute.path().get_ident())
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| contains_ident(&list.tokens, "key"));
    };
    first == "dflock" && is_kind(Some(last))
}

fn is_kind(name: Option<&Ident>) -> bool {
    name.is_some_and(|name| {
        [Kind::Semaphore, Kind::Lock]
            .iter()
            .any(|kind| name == kind.name())
    })
}

/// Returns whether `tokens` contain the identifier `name`, at any depth.
fn contains_ident(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => contains_ident(&group.stream(), name),
        _ => false,
    })
}
