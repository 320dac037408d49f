//! The future that a function without `async` gives back: what `#[async_trait]` leaves behind, and what is boxed by hand.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_expr_mut, visit_type_mut};
use syn::{
    Expr, ExprAsync, ExprCall, GenericArgument, Item, Macro, PathArguments, ReturnType, Stmt,
};
use syn::{Token, Type, TypeInfer, TypeParamBound};

/// The block of the `async move { .. }` or the `Box::pin(async move { .. })` at the end.
pub(super) fn at_the_end(statements: &mut [Stmt]) -> Option<&mut ExprAsync> {
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

/// Where the function could end before its last statement: with a future that is not the one at the end.
pub(super) fn ends_before(mut statements: Vec<Stmt>) -> Vec<Span> {
    statements.pop();
    let mut ends = Ends(Vec::new());
    for statement in &mut statements {
        ends.visit_stmt_mut(statement);
    }
    ends.0
}

struct Ends(Vec<Span>);

impl VisitMut for Ends {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            // what they return is their own
            Expr::Closure(_) | Expr::Async(_) => return,
            Expr::Return(end) => self.0.push(end.return_token.span),
            Expr::Try(end) => self.0.push(end.question_token.span()),
            _ => {}
        }
        visit_expr_mut(self, expr);
    }

    fn visit_item_mut(&mut self, _: &mut Item) {}

    // what is in there need not be Rust: a `return` is believed to be one
    fn visit_macro_mut(&mut self, call: &mut Macro) {
        self.0.extend(returns(&call.tokens));
    }
}

fn returns(tokens: &TokenStream) -> Vec<Span> {
    let each = |token| match token {
        TokenTree::Ident(ident) if ident == "return" => vec![ident.span()],
        TokenTree::Group(group) => returns(&group.stream()),
        _ => Vec::new(),
    };
    tokens.clone().into_iter().flat_map(each).collect()
}

fn is_pin(function: &Expr) -> bool {
    matches!(function, Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "pin"))
}

/// The type of its value, as far as the function names it.
pub(super) fn output(returned: &ReturnType) -> Type {
    let ReturnType::Type(_, returned) = returned else {
        return unnamed();
    };
    in_type(returned).map_or_else(unnamed, |output| nameable(&output))
}

/// The type with `_` where it has no name.
pub(super) fn nameable(ty: &Type) -> Type {
    let mut ty = ty.clone();
    Unname.visit_type_mut(&mut ty);
    ty
}

struct Unname;

impl VisitMut for Unname {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::ImplTrait(_) => *ty = unnamed(),
            _ => visit_type_mut(self, ty),
        }
    }
}

fn unnamed() -> Type {
    Type::Infer(TypeInfer {
        underscore_token: <Token![_]>::default(),
    })
}

/// The `Output = ..` in `impl Future<..>`, `dyn Future<..>` and whatever is around it.
fn in_type(ty: &Type) -> Option<Type> {
    match ty {
        Type::Path(path) => in_arguments(&path.path.segments.last()?.arguments),
        Type::ImplTrait(future) => future.bounds.iter().find_map(in_bound),
        Type::TraitObject(future) => future.bounds.iter().find_map(in_bound),
        Type::Paren(inner) => in_type(&inner.elem),
        Type::Group(inner) => in_type(&inner.elem),
        _ => None,
    }
}

fn in_bound(bound: &TypeParamBound) -> Option<Type> {
    let TypeParamBound::Trait(bound) = bound else {
        return None;
    };
    in_arguments(&bound.path.segments.last()?.arguments)
}

fn in_arguments(arguments: &PathArguments) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(output.ty.clone()),
        GenericArgument::Type(ty) => in_type(ty),
        _ => None,
    })
}
