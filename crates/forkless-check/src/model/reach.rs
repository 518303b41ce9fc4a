//! Which functions a function can call, as far as this module tells.

use std::collections::HashSet;

use super::{Call, Module, Read, ScopeId, Value};
use crate::syntax::TextRange;

impl<'a> Module<'a> {
    /// A function and all that it calls, directly or not.
    pub fn reachable(&self, from: ScopeId) -> Vec<ScopeId> {
        if let Some(known) = self.reaches.borrow().get(&from) {
            return known.to_vec();
        }
        let mut seen = HashSet::from([from]);
        let mut order = vec![from];
        let mut next = 0;
        while let Some(&function) = order.get(next) {
            next += 1;
            order.extend(self.callees(function).into_iter().filter(|callee| seen.insert(*callee)));
        }
        self.reaches.borrow_mut().insert(from, order.as_slice().into());
        order
    }

    /// The functions of this module that a function calls.
    pub fn callees(&self, function: ScopeId) -> Vec<ScopeId> {
        self.calls_in(function).filter_map(|call| self.callable(&self.value(&call.expr.func))).collect()
    }

    /// The function whose code runs when this is called.
    pub fn callable(&self, value: &Value<'a>) -> Option<ScopeId> {
        match value {
            Value::Function(function) => Some(*function),
            Value::Class(class) => self.method(*class, "__init__"),
            Value::Bound(receiver, name) => match &**receiver {
                Value::Instance(class) => self.method(*class, name),
                Value::Object(object) => self.method(object.class?, name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The functions that run when the module is imported: those that its unguarded code calls.
    pub fn run_at_import(&self) -> HashSet<ScopeId> {
        let mut all = HashSet::new();
        for call in self.calls_in(0).filter(|call| !self.is_guarded(call.place)) {
            if let Some(function) = self.callable(&self.value(&call.expr.func)) {
                all.extend(self.reachable(function));
            }
        }
        all
    }

    /// Whether a call runs under the guard, or in a function that code under the guard calls.
    pub fn is_guarded_or_called_from_guard(&self, call: &Call<'a>) -> bool {
        let function = self.function_of(call.scope);
        self.is_guarded(call.place)
            || self.calls_in(0).filter(|call| self.is_guarded(call.place)).any(|call| {
                let called = self.callable(&self.value(&call.expr.func));
                called.is_some_and(|called| self.reachable(called).contains(&function))
            })
    }

    /// Where functions read globals of this module.
    pub fn global_reads(&self) -> impl Iterator<Item = (TextRange, Read, &'a str)> {
        self.reads
            .iter()
            .filter(|(_, (read, name))| read.scope != 0 && self.resolve(name, read.scope) == Some(0))
            .map(|(range, (read, name))| (*range, *read, *name))
    }
}
