//! What parameters get, and what attributes of classes and objects hold.

use std::collections::HashSet;
use std::rc::Rc;

use crate::syntax::ast::{self, Expr};

use super::build::elements;
use super::results::{made_by, normal};
use super::{Bound, Kind, Method, Module, Object, ScopeId, ScopeKind, Value, kinds};

impl<'a> Module<'a> {
    /// What the calls in this module give for a parameter.
    pub(super) fn parameter(&self, function: ScopeId, number: usize) -> Value<'a> {
        let class = self.class_of(function);
        let ScopeKind::Function(definition) = self.scopes[function].kind else { return Value::Unknown };
        let is_static = definition.decorator_list.iter().any(|decorator| {
            decorator.expression.as_name_expr().is_some_and(|name| name.id.as_str() == "staticmethod")
        });
        let is_method = class.is_some() && !is_static;
        if let (true, 0, Some(class)) = (is_method, number, class) {
            return self.self_of(class);
        }
        let position = number - usize::from(is_method);
        let Some(parameter) = definition.parameters.iter().nth(number) else { return Value::Unknown };
        let given = self.arguments_given(function, class, parameter.name().as_str(), position);
        given.map(|expr| self.value(expr)).reduce(Value::or).unwrap_or(Value::Unknown)
    }

    fn self_of(&self, class: ScopeId) -> Value<'a> {
        match self.base_kind(class) {
            Some((kind, method)) => Value::Object(Object { kind, method, site: None, class: Some(class) }),
            None => Value::Instance(class),
        }
    }

    /// The expressions that calls give for a parameter, also through `target=` and `args=`.
    fn arguments_given(
        &self,
        function: ScopeId,
        class: Option<ScopeId>,
        name: &str,
        position: usize,
    ) -> impl Iterator<Item = &'a Expr> {
        let called = match (class, self.name_of(function)) {
            (Some(class), "__init__") => self.name_of(class),
            (_, name) => name,
        };
        let direct = self
            .calls_named(called)
            .filter(|call| self.callable(&self.value(&call.expr.func)) == Some(function))
            .filter_map(|call| call.argument(name, position));
        let started = self
            .calls_named("Process")
            .chain(self.calls_named("Thread"))
            .filter(|call| {
                let target = call.argument("target", 1);
                target.is_some_and(|target| self.callable(&self.value(target)) == Some(function))
            })
            .filter_map(|call| {
                let keywords = call.argument("kwargs", 4).and_then(Expr::as_dict_expr);
                let named = keywords.and_then(|dict| {
                    dict.items.iter().find_map(|item| match &item.key {
                        Some(Expr::StringLiteral(key)) if key.value.to_str() == name => Some(&item.value),
                        _ => None,
                    })
                });
                named.or_else(|| elements(call.argument("args", 3)?)?.get(position))
            });
        let submitted = self
            .calls_named("submit")
            .filter(|call| {
                let task = call.expr.arguments.args.first();
                task.is_some_and(|task| self.callable(&self.value(task)) == Some(function))
            })
            .filter_map(move |call| call.expr.arguments.args.get(position + 1));
        direct.chain(started).chain(submitted).take(16).collect::<Vec<_>>().into_iter()
    }

    pub(super) fn attribute(&self, attribute: &'a ast::ExprAttribute) -> Value<'a> {
        let name = attribute.attr.as_str();
        match self.value(&attribute.value) {
            Value::Path(path) => Value::Path(normal(&format!("{path}.{name}"))),
            Value::Context(method) => Value::Member(method, name),
            Value::Instance(class) => self.member(class, name).unwrap_or_else(|| {
                let is_method = self.method(class, name).is_some();
                if is_method { Value::Bound(Box::new(Value::Instance(class)), name) } else { Value::Unknown }
            }),
            Value::Class(class) => match self.method(class, name) {
                Some(function) => Value::Function(function),
                None => self.member(class, name).unwrap_or(Value::Unknown),
            },
            Value::Object(object) => {
                let member = object.class.and_then(|class| self.member(class, name));
                member.unwrap_or_else(|| Value::Bound(Box::new(Value::Object(object)), name))
            }
            collection @ (Value::Each(_) | Value::Tuple(_)) => Value::Bound(Box::new(collection), name),
            _ => Value::Unknown,
        }
    }

    /// A class and the classes of this module that it inherits from, each once.
    pub fn lineage(&self, class: ScopeId) -> Rc<[ScopeId]> {
        if let Some(known) = self.lineages.borrow().get(&class) {
            return Rc::clone(known);
        }
        let (mut lineage, mut seen, mut next) = (vec![class], HashSet::from([class]), 0);
        while let Some(ScopeKind::Class(definition)) = lineage.get(next).map(|class| self.scopes[*class].kind) {
            next += 1;
            let bases = definition.bases().iter().map(|base| self.value(base));
            lineage.extend(bases.filter_map(|base| match base {
                Value::Class(base) if seen.insert(base) => Some(base),
                _ => None,
            }));
        }
        let lineage: Rc<[ScopeId]> = lineage.into();
        self.lineages.borrow_mut().insert(class, Rc::clone(&lineage));
        lineage
    }

    /// What methods and the body of a class store in an attribute.
    fn member(&self, class: ScopeId, name: &str) -> Option<Value<'a>> {
        self.lineage(class).iter().copied().find_map(|class| {
            let scope = &self.scopes[class];
            let stored = scope.attributes.get(name).into_iter().flatten().map(|bound| self.bound(bound, class));
            let body = scope.bindings.get(name).into_iter().flatten();
            let body = body.filter(|binding| !matches!(binding.bound, Bound::Function(_)));
            stored.chain(body.map(|binding| self.bound(&binding.bound, class))).reduce(Value::or)
        })
    }

    /// What a class of this module is a kind of.
    pub(super) fn base_kind(&self, class: ScopeId) -> Option<(Kind, Method)> {
        self.bases(class).into_iter().find_map(|base| match base {
            Value::Path(path) => made_by(&path),
            Value::Member(method, name) => kinds::of_multiprocessing(name).map(|kind| (kind, method)),
            _ => None,
        })
    }

    /// All that a class inherits from, directly or not.
    pub fn bases(&self, class: ScopeId) -> Vec<Value<'a>> {
        let lineage = self.lineage(class);
        let definitions = lineage.iter().filter_map(|class| match self.scopes[*class].kind {
            ScopeKind::Class(definition) => Some(definition),
            _ => None,
        });
        definitions.flat_map(|definition| definition.bases()).map(|base| self.value(base)).collect()
    }
}
