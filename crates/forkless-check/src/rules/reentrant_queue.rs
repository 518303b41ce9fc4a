//! `reentrant-queue`: finalizers and signal handlers interrupt anything, also the queue or lock that they use.

use std::collections::HashSet;

use crate::model::{Bound, Kind, Module, ScopeId, ScopeKind, Value};
use crate::syntax::ast::Expr;
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// FL040.
pub fn in_finalizer_method(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let methods = (0..module.scopes.len()).filter(|scope| {
        matches!(module.scopes[*scope].kind, ScopeKind::Function(function) if function.name.as_str() == "__del__")
            && module.class_of(*scope).is_some()
    });
    let found = methods.flat_map(|method| {
        let uses = uses(module, method, "the garbage collector runs `__del__` at any moment");
        uses.into_iter().filter(move |(receiver, _)| !is_its_own(module, method, receiver)).map(|(_, hit)| hit)
    });
    once(found)
}

/// FL041.
pub fn in_weakref_callback(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let callbacks = ["ref", "finalize", "proxy", "WeakMethod"].into_iter().flat_map(|name| module.calls_named(name));
    let callbacks = callbacks.filter_map(|call| {
        let path = module.path(&call.expr.func)?;
        path.starts_with("weakref.").then(|| call.expr.arguments.args.get(1)).flatten()
    });
    once(callbacks.flat_map(|callback| uses_of_callback(module, callback, "weak references call back at any moment")))
}

/// FL042.
pub fn in_signal_handler(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let handlers =
        module.calls_named("signal").filter(|call| module.path(&call.expr.func).as_deref() == Some("signal.signal"));
    let handlers = handlers.filter_map(|call| call.argument("handler", 1));
    once(handlers.flat_map(|handler| uses_of_callback(module, handler, "a signal arrives at any moment")))
}

/// Whether a `__del__` uses what its object has made for itself alone. Who uses that through the object keeps it alive, so `__del__`
/// does not interrupt it.
fn is_its_own<'a>(module: &Module<'a>, method: ScopeId, receiver: &'a Expr) -> bool {
    let (Some(class), Expr::Attribute(attribute)) = (module.class_of(method), receiver) else { return false };
    let is_of_self = matches!(module.value(&attribute.value), Value::Instance(of) if of == class);
    let stored = module.scopes[class].attributes.get(attribute.attr.as_str());
    let is_made_here = |bound: &Bound<'a>| matches!(bound, Bound::Value(value) if value.is_call_expr() || value.is_none_literal_expr());
    is_of_self && stored.is_some_and(|stored| stored.iter().all(is_made_here))
}

fn once(hits: impl Iterator<Item = Hit>) -> Vec<Hit> {
    let mut seen = HashSet::new();
    hits.filter(|hit| seen.insert(hit.range)).collect()
}

fn uses_of_callback<'a>(module: &Module<'a>, callback: &'a Expr, when: &str) -> Vec<Hit> {
    match module.value(callback) {
        Value::Bound(receiver, name) => {
            let kind = receiver.object().map(|object| object.kind);
            match kind.filter(|kind| is_reentrant_trap(*kind, name)) {
                Some(kind) => vec![hit(callback.range(), kind, name, when)],
                None => {
                    let method = module.callable(&Value::Bound(receiver, name));
                    method.map_or_else(Vec::new, |method| hits_of(uses(module, method, when)))
                }
            }
        }
        value => module.callable(&value).map_or_else(Vec::new, |function| hits_of(uses(module, function, when))),
    }
}

fn hits_of(uses: Vec<(&Expr, Hit)>) -> Vec<Hit> {
    uses.into_iter().map(|(_, hit)| hit).collect()
}

/// What a function and all that it calls do with queues and locks, and with which.
fn uses<'a>(module: &Module<'a>, function: ScopeId, when: &str) -> Vec<(&'a Expr, Hit)> {
    let mut hits = Vec::new();
    for function in module.reachable(function) {
        for call in module.calls_in(function) {
            let Value::Bound(receiver, name) = module.value(&call.expr.func) else { continue };
            let Some(kind) = receiver.object().map(|object| object.kind) else { continue };
            if is_reentrant_trap(kind, name) && !does_not_wait(call) {
                hits.extend(call.receiver().map(|receiver| (receiver, hit(call.range(), kind, name, when))));
            }
        }
        for with in module.withs.iter().filter(|with| module.function_of(with.scope) == function) {
            let Some(object) = module.object(&with.item.context_expr) else { continue };
            if is_reentrant_trap(object.kind, "acquire") {
                let lock = &with.item.context_expr;
                hits.push((lock, hit(lock.range(), object.kind, "acquire", when)));
            }
        }
    }
    hits
}

/// `acquire(False)` gives up where it would wait for itself.
fn does_not_wait(call: &crate::model::Call<'_>) -> bool {
    let blocking = call.argument("blocking", 0).or_else(|| call.argument("block", 0));
    call.name() == "acquire"
        && (blocking.is_some_and(|blocking| matches!(blocking, Expr::BooleanLiteral(literal) if !literal.value))
            || call.argument("timeout", 1).is_some())
}

fn is_reentrant_trap(kind: Kind, method: &str) -> bool {
    match method {
        "put" | "put_nowait" => matches!(kind, Kind::Queue | Kind::SimpleQueue | Kind::ThreadQueue),
        "acquire" => matches!(kind, Kind::Lock | Kind::Semaphore | Kind::ThreadLock | Kind::ThreadSemaphore),
        "submit" | "apply_async" | "map_async" | "apply" | "map" => {
            matches!(kind, Kind::Executor | Kind::Pool | Kind::ThreadPool)
        }
        _ => false,
    }
}

fn hit(range: TextRange, kind: Kind, method: &str, when: &str) -> Hit {
    let noun = kind.noun();
    let message =
        format!("{when}, also while this thread is inside the same {noun}: then `{method}` waits for itself for ever");
    Hit { range, message }
}
