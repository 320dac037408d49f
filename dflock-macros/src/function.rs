//! The annotated function.

mod future;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::parse::{Parse, ParseStream, Parser};
use syn::token::Brace;
use syn::{Attribute, Block, Expr, ReturnType, Signature, Stmt, Type, Visibility, braced};

use crate::kind::Kind;
use crate::mistakes::Mistakes;

/// A function, taken apart no further than is needed: what stands in its body is the compiler's business.
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
    /// What keeps it from having a slot around it.
    pub(crate) fn check(&self, kind: Kind, mistakes: &mut Mistakes) {
        let Signature {
            constness,
            asyncness,
            fn_token,
            ident,
            output,
            ..
        } = &self.signature;
        let attribute = kind.name();
        if let Some(constness) = constness {
            mistakes.at(
                constness,
                "a `const fn` cannot wait for a slot; make it an `async fn`",
            );
        } else if asyncness.is_some() && matches!(output, ReturnType::Default) {
            let why = "returns nothing, and there may be no slot for it; let it return a `Result` whose error is `From<dflock::Error>`";
            mistakes.at(ident, format!("`{ident}` {why}"));
        } else if asyncness.is_none()
            && self
                .clone()
                .around(|_, statements| statements.clone())
                .is_none()
        {
            let tokio = if mentions(&self.statements, "block_on") {
                "; if `#[tokio::main]` or `#[tokio::test]` stands above it, swap the two"
            } else {
                ""
            };
            let why = "waiting for a slot takes an `async fn`, or a function that ends with `async move { .. }` or \
                       `Box::pin(async move { .. })`";
            mistakes.at(
                fn_token,
                format!("`#[dflock::{attribute}]` finds that `{ident}` is not async: {why}{tokio}"),
            );
        } else if asyncness.is_none() {
            let statements = Block::parse_within
                .parse2(self.statements.clone())
                .unwrap_or_default();
            for end in future::ends_before(statements) {
                mistakes.add(syn::Error::new(
                    end,
                    format!("this future would run without a slot; make `{ident}` an `async fn`"),
                ));
            }
        }
    }

    /// The function with something else in place of what it does: given the type of its value and its statements, `wrap` says what.
    /// What it does is the body of an `async fn`, or the future that a function ends with; `None` if it is neither.
    pub(crate) fn around(
        mut self,
        wrap: impl FnOnce(&Type, &TokenStream) -> TokenStream,
    ) -> Option<Self> {
        if self.signature.asyncness.is_some() {
            let ReturnType::Type(_, output) = &self.signature.output else {
                return None;
            };
            self.statements = wrap(&future::nameable(output), &self.statements);
        } else {
            let mut statements = Block::parse_within.parse2(self.statements).ok()?;
            let future = future::at_the_end(&mut statements)?;
            let inner = &future.block.stmts;
            let wrapped = wrap(&future::output(&self.signature.output), &quote!(#(#inner)*));
            future.block.stmts = vec![Stmt::Expr(Expr::Verbatim(wrapped), None)];
            self.statements = quote!(#(#statements)*);
        }
        Some(self)
    }

    /// The function with more at the beginning of its body.
    pub(crate) fn after(mut self, mut beginning: TokenStream) -> Self {
        beginning.extend(self.statements);
        self.statements = beginning;
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

fn mentions(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        _ => false,
    })
}
