//! What runs before what, and under which conditions.

use crate::syntax::ast::{self, Expr, Stmt};
use crate::syntax::{Ranged, TextRange, TextSize};

use super::{Call, Module, Place, PlaceId, PlaceKind};

impl<'a> Module<'a> {
    /// A block and those that it is in, up to the module.
    pub fn enclosing(&self, place: PlaceId) -> impl Iterator<Item = (PlaceId, &Place<'a>)> {
        std::iter::successors(Some(place), |place| self.places[*place].parent).map(|id| (id, &self.places[id]))
    }

    /// The same, up to the body of the function that it is part of.
    pub fn enclosing_in_function(&self, place: PlaceId) -> impl Iterator<Item = (PlaceId, &Place<'a>)> {
        let function = self.function_of(self.places[place].scope);
        self.enclosing(place).take_while(move |(_, place)| self.function_of(place.scope) == function)
    }

    /// Whether a block is another one, or in it.
    pub fn is_within(&self, place: PlaceId, outer: PlaceId) -> bool {
        self.enclosing(place).any(|(id, _)| id == outer)
    }

    /// Whether a block only runs in the main process: under `if __name__ == "__main__"` and what else says so.
    pub fn is_guarded(&self, place: PlaceId) -> bool {
        self.enclosing(place).any(|(_, place)| self.is_guard(place))
    }

    /// Whether a block is that of a guard itself.
    pub fn is_guard(&self, place: &Place<'a>) -> bool {
        match place.kind {
            PlaceKind::Branch { test, before, .. } => {
                test.is_some_and(|test| is_main_guard(test, true))
                    || before.is_some_and(|test| is_main_guard(test, false))
            }
            _ => false,
        }
    }

    /// Whether a call runs when the module is imported.
    pub fn is_at_import(&self, call: &Call<'a>) -> bool {
        self.function_of(call.scope) == 0 && !self.is_guarded(call.place) && !self.is_after_exit(call.offset())
    }

    /// Whether a module leaves early, `if __name__ != "__main__"`, before this.
    fn is_after_exit(&self, offset: TextSize) -> bool {
        self.places.iter().any(|place| match place.kind {
            PlaceKind::Branch { test: Some(test), body, .. } => {
                place.range.end() < offset && place.scope == 0 && is_main_guard(test, false) && leaves(body)
            }
            _ => false,
        })
    }

    /// Whether a block ends the program, or leaves where it is: what is done there is done for the last time.
    pub fn is_on_the_way_out(&self, place: PlaceId) -> bool {
        self.enclosing_in_function(place).any(|(_, place)| match place.kind {
            PlaceKind::Branch { body, .. } => leaves(body),
            _ => false,
        })
    }

    /// Whether something runs more than once in its function.
    pub fn is_in_loop(&self, place: PlaceId) -> bool {
        self.enclosing_in_function(place).any(|(_, place)| matches!(place.kind, PlaceKind::Loop))
    }

    /// Whether a block may not run although its function does.
    pub fn is_conditional(&self, place: PlaceId) -> bool {
        self.enclosing_in_function(place)
            .any(|(_, place)| matches!(place.kind, PlaceKind::Branch { .. } | PlaceKind::Handler(..)))
    }

    /// Whether only one of two blocks can run.
    pub fn are_exclusive(&self, one: PlaceId, other: PlaceId) -> bool {
        let branch = |place: &Place<'a>| match place.kind {
            PlaceKind::Branch { of, index, .. } => Some((of, index)),
            PlaceKind::Handler(of, handler) => Some((of.range(), handler.range().start().to_usize())),
            PlaceKind::Else(of) => Some((of.range(), 0)),
            _ => None,
        };
        let ones: Vec<(TextRange, usize)> = self.enclosing(one).filter_map(|(_, place)| branch(place)).collect();
        self.enclosing(other)
            .filter_map(|(_, place)| branch(place))
            .any(|(of, index)| ones.iter().any(|(same, number)| of == *same && index != *number))
    }

    /// Whether, of two things in one function, the first has been done when the second one is.
    pub fn comes_before(&self, first: &Call<'_>, second: &Call<'_>) -> bool {
        first.offset() < second.offset()
            && self.function_of(first.scope) == self.function_of(second.scope)
            && !self.are_exclusive(first.place, second.place)
            && !self.has_left(first.place, second.place, second.offset())
    }

    /// Whether a block that is left for good contains the first place and ends before the second.
    fn has_left(&self, first: PlaceId, second: PlaceId, offset: TextSize) -> bool {
        self.enclosing_in_function(first).any(|(id, place)| match place.kind {
            PlaceKind::Branch { body, .. } => place.range.end() < offset && !self.is_within(second, id) && leaves(body),
            _ => false,
        })
    }

    /// Whether a test expects an error there, so that what goes wrong is meant to.
    pub fn is_expected_to_fail(&self, offset: TextSize) -> bool {
        const EXPECTING: [&str; 4] = ["assertRaises", "assertRaisesRegex", "raises", "deprecated_call"];
        self.withs.iter().any(|with| {
            let expects = match &with.item.context_expr {
                Expr::Call(call) => last_name(&call.func).is_some_and(|name| EXPECTING.contains(&name)),
                _ => false,
            };
            expects && self.places[with.body].range.contains_inclusive(offset)
        })
    }

    /// Whether an error of this name is caught there.
    pub fn catches(&self, place: PlaceId, names: &[&str]) -> bool {
        self.enclosing_in_function(place).any(|(_, place)| match place.kind {
            PlaceKind::Try(attempt) => attempt.handlers.iter().any(|handler| {
                let ast::ExceptHandler::ExceptHandler(handler) = handler;
                handler.type_.as_deref().is_none_or(|type_| mentions(type_, names))
            }),
            PlaceKind::With(with) => with.items.iter().any(|item| match &item.context_expr {
                Expr::Call(call) => {
                    let called = last_name(&call.func);
                    called == Some("suppress") && call.arguments.args.iter().any(|argument| mentions(argument, names))
                }
                _ => false,
            }),
            _ => false,
        })
    }
}

/// Whether a test, as it turns out true or false, means that this is the main process.
fn is_main_guard(test: &Expr, outcome: bool) -> bool {
    match test {
        Expr::Compare(compare) => {
            let [op] = &*compare.ops else { return false };
            let is_equal = matches!(op, ast::CmpOp::Eq | ast::CmpOp::Is);
            let is_unequal = matches!(op, ast::CmpOp::NotEq | ast::CmpOp::IsNot);
            let sides = [&*compare.left, &compare.comparators[0]];
            let names_main = sides.iter().any(|side| {
                matches!(side, Expr::StringLiteral(text) if matches!(text.value.to_str(), "__main__" | "MainProcess"))
            });
            let is_of_parent = sides
                .iter()
                .any(|side| matches!(side, Expr::Call(call) if last_name(&call.func) == Some("parent_process")))
                && sides.iter().any(|side| side.is_none_literal_expr());
            (names_main || is_of_parent) && if outcome { is_equal } else { is_unequal }
        }
        Expr::BoolOp(operation) => {
            let joins = if outcome { ast::BoolOp::And } else { ast::BoolOp::Or };
            operation.op == joins && operation.values.iter().any(|value| is_main_guard(value, outcome))
        }
        Expr::UnaryOp(operation) if operation.op == ast::UnaryOp::Not => is_main_guard(&operation.operand, !outcome),
        _ => false,
    }
}

/// Whether a block ends by going elsewhere.
pub fn leaves(body: &[Stmt]) -> bool {
    match body.last() {
        Some(Stmt::Return(_) | Stmt::Raise(_) | Stmt::Continue(_) | Stmt::Break(_)) => true,
        Some(Stmt::Expr(statement)) => match &*statement.value {
            Expr::Call(call) => matches!(last_name(&call.func), Some("exit" | "_exit" | "quit" | "abort" | "skip")),
            _ => false,
        },
        _ => false,
    }
}

/// Whether one of these names is in an expression of an `except`.
fn mentions(expr: &Expr, names: &[&str]) -> bool {
    match expr {
        Expr::Tuple(tuple) => tuple.elts.iter().any(|item| mentions(item, names)),
        _ => last_name(expr).is_some_and(|name| names.contains(&name)),
    }
}

/// `c` of `a.b.c`.
pub fn last_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Name(name) => Some(name.id.as_str()),
        Expr::Attribute(attribute) => Some(attribute.attr.as_str()),
        _ => None,
    }
}
