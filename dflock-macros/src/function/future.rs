//! The future that a function without `async` gives back: what `#[async_trait]` leaves behind, and what is boxed by hand.

use syn::visit_mut::{VisitMut, visit_type_mut};
use syn::{Expr, ExprAsync, ExprCall, GenericArgument, PathArguments, ReturnType, Stmt, Token, Type, TypeInfer, TypeParamBound};

/// The block of the `async move { .. }` or the `Box::pin(async move { .. })` at the end.
pub(super) fn at_the_end(statements: &mut [Stmt]) -> Option<&mut ExprAsync> {
    let Stmt::Expr(last, None) = statements.last_mut()? else { return None };
    match last {
        Expr::Async(future) => Some(future),
        Expr::Call(ExprCall { func, args, .. }) if is_pin(func) && args.len() == 1 => match args.first_mut() {
            Some(Expr::Async(future)) => Some(future),
            _ => None,
        },
        _ => None,
    }
}

fn is_pin(function: &Expr) -> bool {
    matches!(function, Expr::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "pin"))
}

/// The type of its value, as far as the function names it.
pub(super) fn output(returned: &ReturnType) -> Type {
    let ReturnType::Type(_, returned) = returned else { return unnamed() };
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
    Type::Infer(TypeInfer { underscore_token: <Token![_]>::default() })
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
    let TypeParamBound::Trait(bound) = bound else { return None };
    in_arguments(&bound.path.segments.last()?.arguments)
}

fn in_arguments(arguments: &PathArguments) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(output.ty.clone()),
        GenericArgument::Type(ty) => in_type(ty),
        _ => None,
    })
}
