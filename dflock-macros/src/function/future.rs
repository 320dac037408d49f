//! Futures that are returned by a function without `async`.
//!
//! `#[async_trait]` expands to such functions, and recursive functions box their future by hand.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_expr_mut, visit_type_mut};
use syn::{
    Expr, ExprAsync, ExprCall, GenericArgument, Item, Macro, PathArguments, ReturnType, Stmt,
};
use syn::{Token, Type, TypeInfer, TypeParamBound};

/// Returns the block of the last expression: `async move { .. }` or `Box::pin(async move { .. })`.
pub(super) fn tail_async_block(statements: &mut [Stmt]) -> Option<&mut ExprAsync> {
    let Stmt::Expr(last, None) = statements.last_mut()? else {
        return None;
    };
    match last {
        Expr::Async(future) => Some(future),
        Expr::Call(ExprCall { func, args, .. }) if is_pin(func) && args.len() == 1 => {
            match args.first_mut() {
                Some(Expr::Async(future)) => Some(future),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns the spans of each `return` and `?` before the last statement.
///
/// The future that is returned there would run without a slot.
pub(super) fn early_returns(mut statements: Vec<Stmt>) -> Vec<Span> {
    statements.pop();
    let mut returns = EarlyReturns(Vec::new());
    for statement in &mut statements {
        returns.visit_stmt_mut(statement);
    }
    returns.0
}

/// Visitor that collects each `return` and `?` of a function.
struct EarlyReturns(Vec<Span>);

impl VisitMut for EarlyReturns {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            // A `return` in these does not end the function.
            Expr::Closure(_) | Expr::Async(_) => return,
            Expr::Return(expr) => self.0.push(expr.return_token.span),
            Expr::Try(expr) => self.0.push(expr.question_token.span()),
            _ => {}
        }
        visit_expr_mut(self, expr);
    }

    fn visit_item_mut(&mut self, _: &mut Item) {}

    // The tokens of a macro need not be Rust. A `return` in them is assumed to end the function.
    fn visit_macro_mut(&mut self, call: &mut Macro) {
        self.0.extend(return_spans(&call.tokens));
    }
}

/// Returns the spans of each `return` in `tokens`.
fn return_spans(tokens: &TokenStream) -> Vec<Span> {
    let each = |token| match token {
        TokenTree::Ident(ident) if ident == "return" => vec![ident.span()],
        TokenTree::Group(group) => return_spans(&group.stream()),
        _ => Vec::new(),
    };
    tokens.clone().into_iter().flat_map(each).collect()
}

fn is_pin(function: &Expr) -> bool {
    matches!(
        function,
        Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "pin")
    )
}

/// Returns the output type of a returned future, with `_` for what the signature does not name.
pub(super) fn output(returned: &ReturnType) -> Type {
    let ReturnType::Type(_, returned) = returned else {
        return infer();
    };
    output_in_type(returned).map_or_else(infer, |output| erase_impl_trait(&output))
}

/// Replaces each `impl Trait` in a type by `_`.
pub(super) fn erase_impl_trait(ty: &Type) -> Type {
    let mut ty = ty.clone();
    EraseImplTrait.visit_type_mut(&mut ty);
    ty
}

/// Visitor that replaces each `impl Trait` by `_`.
struct EraseImplTrait;

impl VisitMut for EraseImplTrait {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::ImplTrait(_) => *ty = infer(),
            _ => visit_type_mut(self, ty),
        }
    }
}

/// Returns the type `_`.
fn infer() -> Type {
    Type::Infer(TypeInfer {
        underscore_token: <Token![_]>::default(),
    })
}

/// Returns the `Output = ..` in `impl Future<..>` or `dyn Future<..>`, at any depth.
fn output_in_type(ty: &Type) -> Option<Type> {
    match ty {
        Type::Path(path) => output_in_arguments(&path.path.segments.last()?.arguments),
        Type::ImplTrait(future) => future.bounds.iter().find_map(output_in_bound),
        Type::TraitObject(future) => future.bounds.iter().find_map(output_in_bound),
        Type::Paren(inner) => output_in_type(&inner.elem),
        Type::Group(inner) => output_in_type(&inner.elem),
        _ => None,
    }
}

fn output_in_bound(bound: &TypeParamBound) -> Option<Type> {
    let TypeParamBound::Trait(bound) = bound else {
        return None;
    };
    output_in_arguments(&bound.path.segments.last()?.arguments)
}

fn output_in_arguments(arguments: &PathArguments) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(output.ty.clone()),
        GenericArgument::Type(ty) => output_in_type(ty),
        _ => None,
    })
}
