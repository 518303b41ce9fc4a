//! `exit-with-live-pool`: pools that are never closed, and results that are awaited when their pool is gone.

use crate::model::{Call, Kind, Module};
use crate::syntax::ast::{Expr, Stmt};
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// FL071.
pub fn awaited_after_end(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for with in &module.withs {
        let Some(pool) = module.object(&with.item.context_expr).filter(|object| object.kind == Kind::Pool) else {
            continue;
        };
        let body = module.places[with.body].range;
        let is_joined = pool
            .site
            .is_some_and(|site| module.calls_on(site, &["join"]).any(|join| body.contains_range(join.range())));
        if is_joined {
            continue;
        }
        for task in facts.processes.tasks.iter().filter(|task| pool.site.is_some() && task.pool.site == pool.site) {
            let call = &module.calls[task.call];
            if !body.contains_range(call.range()) {
                continue;
            }
            let lasting =
                matches!(call.name(), "apply_async" | "map_async" | "starmap_async" | "imap" | "imap_unordered");
            if !lasting {
                continue;
            }
            let message = "the `with` has terminated the pool by now: this result never comes".to_owned();
            if let Some(range) = awaited_later(module, call, body) {
                hits.push(Hit { range, message });
            } else if is_returned(call) {
                let message =
                    "the caller gets this result when leaving the `with` has terminated the pool: it never comes"
                        .to_owned();
                hits.push(Hit { range: call.range(), message });
            }
        }
    }
    hits
}

/// Whether a call's own result is what the function returns, not yet awaited.
fn is_returned(call: &Call<'_>) -> bool {
    matches!(call.statement, Some(Stmt::Return(statement))
        if statement.value.as_deref().and_then(Expr::as_call_expr).is_some_and(|value| std::ptr::eq(value, call.expr)))
}

/// Where a result is waited for after the end of a block.
fn awaited_later<'a>(module: &Module<'a>, call: &Call<'a>, body: TextRange) -> Option<TextRange> {
    let is_it = |expr| module.value(expr).object().is_some_and(|object| object.site == Some(call.range()));
    let function = module.function_of(call.scope);
    let is_later = |range: TextRange, scope| range.start() >= body.end() && module.function_of(scope) == function;
    let awaits = ["get", "wait", "next"].into_iter().flat_map(|name| module.calls_named(name));
    let mut awaits = awaits.filter(|wait| is_later(wait.range(), wait.scope) && wait.argument("timeout", 0).is_none());
    let awaited = awaits.find(|wait| wait.receiver().is_some_and(is_it)).map(Call::range);
    awaited.or_else(|| {
        let mut loops = module.loops.iter().filter(|(iterated, scope, _)| is_later(iterated.range(), *scope));
        let is_lazy = matches!(call.name(), "imap" | "imap_unordered");
        loops.find(|(iterated, _, _)| is_lazy && is_it(iterated)).map(|(iterated, _, _)| iterated.range())
    })
}

/// FL110.
pub fn never_closed(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let pools = facts.processes.pools.iter().filter(|pool| pool.object.kind == Kind::Pool);
    pools
        .filter_map(|pool| {
            let call = &module.calls[pool.call];
            let message = unclosed(module, call)?.to_owned();
            Some(Hit { range: call.range(), message })
        })
        .collect()
}

fn unclosed<'a>(module: &Module<'a>, call: &Call<'a>) -> Option<&'static str> {
    const NOT_CLOSED: &str =
        "this pool is neither closed nor terminated: its workers stay, and the interpreter may hang at its exit";
    let is_whole = |value: &Expr| value.as_call_expr().is_some_and(|value| std::ptr::eq(value, call.expr));
    match (call.parent, call.statement) {
        (Some(Expr::Attribute(_)), _) => {
            Some("this pool is used once and dropped: nobody closes it, and its workers stay until it is collected")
        }
        (None, Some(Stmt::Expr(_))) => Some(NOT_CLOSED),
        (None, Some(Stmt::Assign(assign))) if is_whole(&assign.value) => match &assign.targets[..] {
            [Expr::Name(name)] => (!is_name_ended(module, call, name.id.as_str())).then_some(NOT_CLOSED),
            [Expr::Attribute(attribute)] => {
                (!is_attribute_ended(module, attribute.attr.as_str())).then_some(NOT_CLOSED)
            }
            _ => None,
        },
        _ => None,
    }
}

const ENDS: [&str; 5] = ["close", "terminate", "join", "shutdown", "__exit__"];

/// Whether a pool in a variable is closed, or leaves the function.
fn is_name_ended<'a>(module: &Module<'a>, call: &Call<'a>, name: &str) -> bool {
    let is_it = |expr: &Expr| expr.as_name_expr().is_some_and(|read| read.id.as_str() == name);
    let bound = module.resolve(name, call.scope);
    let reads = module
        .reads
        .iter()
        .filter(|(_, (read, read_name))| *read_name == name && module.resolve(name, read.scope) == bound);
    // A method call or an iteration is not the end of it; whatever else happens to the name may be.
    let tame: Vec<TextRange> = module
        .calls
        .iter()
        .filter(|other| !ENDS.contains(&other.name()))
        .filter_map(|other| other.receiver().filter(|receiver| is_it(receiver)))
        .map(Ranged::range)
        .collect();
    let mut reads = reads.map(|(range, _)| range);
    reads.any(|range| !tame.contains(range) && !is_looked_into(module, *range)) || bound.is_none()
}

/// Whether a name is only looked into: `pool._processes`, but not `atexit.register(pool.close)`.
fn is_looked_into(module: &Module<'_>, range: TextRange) -> bool {
    let taken = module.attributes.iter().find(|attribute| attribute.value.range() == range);
    taken.is_some_and(|attribute| !ENDS.contains(&attribute.attr.as_str()))
}

/// Whether anything in the module ends what an attribute of this name holds.
fn is_attribute_ended(module: &Module<'_>, name: &str) -> bool {
    let names_it = |expr: &Expr| matches!(expr, Expr::Attribute(attribute) if attribute.attr.as_str() == name);
    let is_ended =
        module.attributes.iter().any(|attribute| ENDS.contains(&attribute.attr.as_str()) && names_it(&attribute.value));
    // It is also ended where it is handed to something else, or kept in a variable that is.
    let is_given = module.calls.iter().any(|call| call.expr.arguments.args.iter().any(names_it));
    let is_copied = module
        .scopes
        .iter()
        .flat_map(|scope| scope.bindings.values())
        .flatten()
        .any(|binding| matches!(binding.bound, crate::model::Bound::Value(value) if names_it(value)));
    let is_entered = module.withs.iter().any(|with| names_it(&with.item.context_expr));
    let is_returned = module.scopes.iter().flat_map(|scope| &scope.returns).any(|value| names_it(value));
    is_ended || is_given || is_copied || is_entered || is_returned
}
