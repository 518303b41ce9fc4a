//! Statements that have blocks, and comprehensions.

use crate::syntax::ast::visitor::Visitor;
use crate::syntax::ast::{self, Expr, Stmt};
use crate::syntax::{Ranged, TextRange};

use super::build::Builder;
use super::{Bound, PlaceKind, ScopeKind, With};

impl<'a> Builder<'a> {
    pub(super) fn branches(&mut self, statement: &'a ast::StmtIf) {
        self.visit_expr(&statement.test);
        let of = statement.range();
        let first = (Some(&*statement.test), &statement.body[..]);
        let others = statement.elif_else_clauses.iter().map(|clause| (clause.test.as_ref(), &clause.body[..]));
        let mut before = None;
        for (index, (test, body)) in std::iter::once(first).chain(others).enumerate() {
            if index > 0
                && let Some(test) = test
            {
                self.visit_expr(test);
            }
            let kind = PlaceKind::Branch { of, index, test, before, body };
            self.block(kind, range_of(body), |builder| builder.visit_body(body));
            before = test;
        }
    }

    pub(super) fn cases(&mut self, statement: &'a ast::StmtMatch) {
        self.visit_expr(&statement.subject);
        for (index, case) in statement.cases.iter().enumerate() {
            self.visit_pattern(&case.pattern);
            let kind = PlaceKind::Branch { of: statement.range(), index, test: None, before: None, body: &case.body };
            self.block(kind, range_of(&case.body), |builder| builder.visit_body(&case.body));
        }
    }

    pub(super) fn with(&mut self, statement: &'a ast::StmtWith) {
        for item in &statement.items {
            self.visit_expr(&item.context_expr);
            if let Some(target) = &item.optional_vars {
                self.assign(target, Bound::Entered(&item.context_expr));
            }
        }
        let body = self.block(PlaceKind::With(statement), range_of(&statement.body), |builder| {
            builder.visit_body(&statement.body);
        });
        let scope = self.scope;
        self.module.withs.extend(statement.items.iter().map(|item| With { item, scope, body }));
    }

    pub(super) fn attempt(&mut self, statement: &'a ast::StmtTry) {
        let parts = [
            (PlaceKind::Try(statement), &statement.body),
            (PlaceKind::Else(statement), &statement.orelse),
            (PlaceKind::Finally, &statement.finalbody),
        ];
        for (kind, body) in parts {
            self.block(kind, range_of(body), |builder| builder.visit_body(body));
        }
        for ast::ExceptHandler::ExceptHandler(handler) in &statement.handlers {
            if let Some(type_) = &handler.type_ {
                self.visit_expr(type_);
            }
            let kind = PlaceKind::Handler(statement, handler);
            self.block(kind, handler.range(), |builder| {
                if let Some(name) = &handler.name {
                    builder.bind(name.as_str(), Bound::Other, name.start());
                }
                builder.visit_body(&handler.body);
            });
        }
    }

    pub(super) fn comprehension(&mut self, expr: &'a Expr, generators: &'a [ast::Comprehension], results: &[&'a Expr]) {
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        self.enter(ScopeKind::Comprehension, expr.range(), |builder| {
            for (number, generator) in generators.iter().enumerate() {
                if number > 0 {
                    builder.visit_expr(&generator.iter);
                }
                builder.assign(&generator.target, Bound::Element(&generator.iter));
                builder.module.loops.push((&generator.iter, builder.scope, builder.place));
                for test in &generator.ifs {
                    builder.visit_expr(test);
                }
            }
            for result in results {
                builder.visit_expr(result);
            }
        });
    }
}

/// Where a block is.
pub(super) fn range_of(body: &[Stmt]) -> TextRange {
    match (body.first(), body.last()) {
        (Some(first), Some(last)) => TextRange::new(first.start(), last.end().max(first.start())),
        _ => TextRange::default(),
    }
}
