//! What names, attributes and collections get.

use crate::syntax::Ranged;
use crate::syntax::ast::{self, Expr};

use super::build::{Builder, elements};
use super::{Binding, Bound, ScopeKind, Store};

impl<'a> Builder<'a> {
    /// Binds the names in a target of an assignment.
    pub(super) fn assign(&mut self, target: &'a Expr, bound: Bound<'a>) {
        match target {
            Expr::Name(name) => self.bind(name.id.as_str(), bound, target.start()),
            Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }) => {
                for (number, element) in elts.iter().enumerate() {
                    self.assign(element, Bound::Item(Box::new(bound.clone()), number));
                }
            }
            Expr::Starred(starred) => self.assign(&starred.value, Bound::Other),
            Expr::Attribute(attribute) => self.store(attribute, &bound),
            Expr::Subscript(subscript) => {
                if let Bound::Value(value) = bound {
                    self.fill(&subscript.value, value);
                }
            }
            _ => {}
        }
    }

    fn store(&mut self, target: &'a ast::ExprAttribute, bound: &Bound<'a>) {
        let (Bound::Value(value) | Bound::Entered(value)) = bound else { return };
        self.module.stores.push(Store { target, value, scope: self.scope });
        self.keep(target, Bound::Value(value));
    }

    /// Notes what an attribute of `self` holds.
    fn keep(&mut self, target: &'a ast::ExprAttribute, bound: Bound<'a>) {
        let Some(class) = self.module.class_of(self.scope) else { return };
        let function = self.module.function_of(self.scope);
        let ScopeKind::Function(function) = self.module.scopes[function].kind else { return };
        let first = function.parameters.iter_non_variadic_params().next().map(|first| first.name().as_str());
        if first == target.value.as_name_expr().map(|name| name.id.as_str()) {
            self.module.scopes[class].attributes.entry(target.attr.as_str()).or_default().push(bound);
        }
    }

    /// Notes that something is put into a collection.
    pub(super) fn fill(&mut self, collection: &'a Expr, item: &'a Expr) {
        match collection {
            Expr::Name(name) => {
                let binding = Binding { bound: Bound::Filled(item), place: self.place, offset: item.start() };
                self.filled.push((name.id.as_str(), self.scope, binding));
            }
            Expr::Attribute(attribute) => self.keep(attribute, Bound::Filled(item)),
            _ => {}
        }
    }

    /// `a, b = 1, 2` binds each name to its own part.
    pub(super) fn assign_parts(&mut self, target: &'a Expr, value: &'a Expr) {
        let (Some(targets), Some(values)) = (elements(target), elements(value)) else {
            return self.assign(target, Bound::Value(value));
        };
        if targets.len() != values.len() || targets.iter().chain(values).any(Expr::is_starred_expr) {
            return self.assign(target, Bound::Value(value));
        }
        for (target, value) in targets.iter().zip(values) {
            self.assign_parts(target, value);
        }
    }
}
