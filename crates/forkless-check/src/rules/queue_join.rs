//! `queue-join`: what is put into a queue leaves the process by a hidden thread, later.

use crate::model::processes::Child;
use crate::model::{Call, Kind, Module, ScopeKind, Value};
use crate::syntax::ast::Expr;
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// FL080.
pub fn join_before_get(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for join in module.calls_named("join") {
        let process = join.receiver().and_then(|receiver| module.object(receiver));
        let Some(process) = process.filter(|object| object.kind == Kind::Process) else { continue };
        let has_limit = join.argument("timeout", 0).is_some_and(|timeout| !timeout.is_none_literal_expr());
        let child =
            facts.processes.children.iter().find(|child| Some(module.calls[child.call].range()) == process.site);
        let Some(child) = child.filter(|_| !has_limit) else { continue };
        if let Some(get) =
            queues_filled_by(module, child).into_iter().find_map(|queue| drained_after(module, join, queue))
        {
            let message = format!(
                "a queue's pipe holds 64 KiB, and the child ends when all that it has put is in there: it is emptied \
                 only after this, in line {}",
                facts.line_of(get)
            );
            hits.push(Hit { range: join.range(), message });
        }
    }
    hits
}

/// The queues that a child is given, and puts something into.
fn queues_filled_by<'a>(module: &Module<'a>, child: &Child<'a>) -> Vec<TextRange> {
    let Some(function) = child.function else { return Vec::new() };
    let given = child.arguments.iter().flat_map(|argument| module.carried(argument));
    let given = given.filter(|(object, _)| matches!(object.kind, Kind::Queue | Kind::SimpleQueue));
    let given: Vec<TextRange> = given.filter_map(|(object, _)| object.site).collect();
    let functions = module.reachable(function);
    // A parameter that several calls give stands for a queue, but not for this one alone.
    let fills = |put: &Call<'a>, site: TextRange| {
        let queue = put.receiver().and_then(|receiver| module.object(receiver));
        queue.is_some_and(|queue| {
            matches!(queue.kind, Kind::Queue | Kind::SimpleQueue) && queue.site.is_none_or(|other| other == site)
        })
    };
    let puts = module.calls_named("put").chain(module.calls_named("put_nowait"));
    let puts: Vec<&Call<'_>> = puts.filter(|put| functions.contains(&module.function_of(put.scope))).collect();
    given.into_iter().filter(|site| puts.iter().any(|put| fills(put, *site))).collect()
}

/// The first `get` of a queue, if it comes after a call.
fn drained_after<'a>(module: &Module<'a>, join: &Call<'a>, queue: TextRange) -> Option<TextRange> {
    let function = module.function_of(join.scope);
    let gets: Vec<&Call<'_>> = module.calls_on(queue, &["get", "get_nowait"]).collect();
    let mine = |get: &&&Call<'_>| module.function_of(get.scope) == function;
    let first = gets.iter().filter(mine).min_by_key(|get| get.offset())?;
    let is_alone = gets.iter().all(|get| module.function_of(get.scope) == function);
    (is_alone && module.comes_before(join, first)).then(|| first.range())
}

/// FL081.
pub fn unpicklable(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for put in module.calls_named("put").chain(module.calls_named("put_nowait")) {
        let queue = put.receiver().and_then(|receiver| module.object(receiver));
        if !queue.is_some_and(|queue| queue.kind == Kind::Queue) {
            continue;
        }
        let Some(item) = put.argument("obj", 0) else { continue };
        let parts = crate::model::elements(item).map_or_else(|| vec![item], |items| items.iter().collect());
        for part in parts {
            if let Some(what) = what_cannot_be_pickled(module, part) {
                let message = format!(
                    "{what} cannot be pickled: the queue's hidden thread prints an error and drops the item, \
                     and `get` waits for ever"
                );
                hits.push(Hit { range: part.range(), message });
            }
        }
    }
    hits
}

/// What an expression is, if no pickle can hold it.
pub(super) fn what_cannot_be_pickled<'a>(module: &Module<'a>, expr: &'a Expr) -> Option<String> {
    if expr.is_generator_expr() {
        return Some("a generator".to_owned());
    }
    match module.value(expr) {
        Value::Function(scope) if matches!(module.scopes[scope].kind, ScopeKind::Lambda) => Some("a lambda".to_owned()),
        Value::Function(scope) if is_local(module, scope) => {
            Some(format!("the local function `{}`", module.name_of(scope)))
        }
        Value::Object(object) if object.kind.is_unpicklable() => Some(object.kind.a_noun()),
        Value::Unknown => match expr {
            Expr::Call(call) => {
                let function = match module.value(&call.func) {
                    Value::Function(function) => function,
                    _ => return None,
                };
                module.scopes[function].has_yield.then(|| format!("the generator `{}`", module.name_of(function)))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether a function is defined in another one.
fn is_local(module: &Module<'_>, scope: usize) -> bool {
    let parent = module.scopes[scope].parent.unwrap_or(0);
    matches!(module.scopes[parent].kind, ScopeKind::Function(_))
        && !module.scopes[parent].globals.contains(module.name_of(scope))
}

/// FL082.
pub fn exit_after_put(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let exits = module.calls_named("_exit").filter(|call| module.path(&call.expr.func).as_deref() == Some("os._exit"));
    exits
        .filter_map(|exit| {
            let puts = module
                .calls_in(module.function_of(exit.scope))
                .filter(|put| matches!(put.name(), "put" | "put_nowait"));
            let queue = puts.filter(|put| module.comes_before(put, exit)).find_map(|put| {
                let queue = put.receiver().and_then(|receiver| module.object(receiver));
                queue.filter(|queue| queue.kind == Kind::Queue)
            })?;
            let is_flushed = module.calls_named("join_thread").any(|join| {
                module.comes_before(join, exit)
                    && join
                        .receiver()
                        .is_some_and(|receiver| module.object(receiver).is_some_and(|it| it.site == queue.site))
            });
            let message = "what was put is still with the queue's hidden thread, which dies here".to_owned();
            (!is_flushed).then(|| Hit { range: exit.range(), message })
        })
        .collect()
}
