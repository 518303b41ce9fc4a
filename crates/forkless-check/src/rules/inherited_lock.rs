//! `inherited-lock`: a fork copies locks as they are, and none of the threads that would release them.

use std::collections::HashSet;

use crate::model::processes::Start;
use crate::model::{Call, Kind, Method, PlaceId, PlaceKind, ScopeId, Value};
use crate::syntax::TextRange;

use super::{Facts, Hit};

/// FL020.
pub fn fork_with_threads(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let direct = forks(facts).filter(|start| !(start.is_os_fork && execs(facts, &module.calls[start.call])));
    let mut moments: Vec<(&Call<'_>, &str)> = direct.map(|start| (&module.calls[start.call], start.what)).collect();
    moments.extend(module.calls.iter().filter_map(|call| Some((call, forks_inside(facts, call)?))));
    let mut hits: Vec<Hit> = Vec::new();
    for (fork, what) in moments {
        let before = module.calls_in(module.function_of(fork.scope)).filter(|call| module.comes_before(call, fork));
        let running = before.filter_map(|call| running_thread(facts, call, fork)).next();
        if let Some((thread, range)) = running
            && !hits.iter().any(|hit| hit.range == fork.range())
        {
            let line = facts.line_of(range);
            let message = format!(
                "the {thread} of line {line} is still running when this {what} forks: locks that it holds stay \
                 locked in the child for ever"
            );
            hits.push(Hit { range: fork.range(), message });
        }
    }
    hits
}

/// The moments in which this process is forked.
fn forks<'m>(facts: &'m Facts<'_>) -> impl Iterator<Item = &'m Start> {
    facts.processes.starts.iter().filter(|start| start.method == Method::Fork)
}

/// Whether the function that forks replaces the child by another program.
fn execs<'a>(facts: &Facts<'a>, fork: &Call<'a>) -> bool {
    facts.module.calls_in(facts.module.function_of(fork.scope)).any(|call| call.name().starts_with("exec"))
}

/// What is forked inside a function that is called, on every way through it.
fn forks_inside<'a>(facts: &Facts<'a>, call: &Call<'a>) -> Option<&'static str> {
    let module = &facts.module;
    let function = module.callable(&module.value(&call.expr.func))?;
    let mut starts = forks(facts).filter(|start| !start.is_os_fork);
    let start = starts.find(|start| {
        let fork = &module.calls[start.call];
        module.function_of(fork.scope) == function && !module.is_conditional(fork.place)
    })?;
    Some(start.what)
}

/// What a call has started, itself or in the function that it calls, that runs on until the fork.
fn running_thread<'a>(facts: &Facts<'a>, call: &Call<'a>, fork: &Call<'a>) -> Option<(&'static str, TextRange)> {
    let module = &facts.module;
    if let Some((site, kind)) = started(facts, call) {
        let is_over = ends(facts, site, kind).any(|end| {
            let has_limit = end.expr.arguments.find_keyword("timeout").is_some();
            call.offset() < end.offset() && end.offset() < fork.offset() && !has_limit
        });
        let has_left = is_entered(facts, site).any(|body| !module.is_within(fork.place, body));
        return (!is_over && !has_left).then(|| (kind.noun(), call.range()));
    }
    let function = module.callable(&module.value(&call.expr.func))?;
    module.calls_in(function).filter(|inner| !module.is_conditional(inner.place)).find_map(|inner| {
        let (site, kind) = started(facts, inner)?;
        // Whoever ends it, anywhere, may have done so by then.
        let lasts = ends(facts, site, kind).next().is_none() && is_entered(facts, site).next().is_none();
        lasts.then(|| (kind.noun(), inner.range()))
    })
}

/// The calls that end what was started.
fn ends<'m, 'a>(facts: &'m Facts<'a>, site: TextRange, kind: Kind) -> impl Iterator<Item = &'m Call<'a>> {
    let names: &[&str] = match kind {
        Kind::ThreadPool => &["shutdown", "close", "terminate"],
        Kind::QueueListener => &["stop"],
        _ => &["join", "cancel"],
    };
    facts.module.calls_on(site, names)
}

/// The blocks of `with` that an object ends with.
fn is_entered(facts: &Facts<'_>, site: TextRange) -> impl Iterator<Item = PlaceId> {
    let entered = facts.module.withs.iter().filter(move |with| {
        let object = facts.module.value(&with.item.context_expr);
        object.object().is_some_and(|object| object.site == Some(site))
    });
    entered.map(|with| with.body)
}

/// The object whose threads a call starts.
fn started<'a>(facts: &Facts<'a>, call: &Call<'a>) -> Option<(TextRange, Kind)> {
    let Value::Bound(receiver, name) = facts.module.value(&call.expr.func) else { return None };
    let object = receiver.object()?;
    let starts = match object.kind {
        Kind::Thread | Kind::QueueListener => name == "start",
        Kind::ThreadPool => matches!(name, "submit" | "map" | "apply_async" | "map_async" | "imap"),
        _ => false,
    };
    starts.then_some((object.site?, object.kind))
}

/// FL021.
pub fn fork_with_lock_held(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for start in forks(facts) {
        let fork = &module.calls[start.call];
        let held: Vec<TextRange> = held_at(facts, fork);
        if held.is_empty() {
            continue;
        }
        let taken: HashSet<TextRange> = if start.is_os_fork {
            child_branches(facts, fork).into_iter().flat_map(|place| taken_in_place(facts, place)).collect()
        } else {
            let child = start.child.and_then(|site| {
                facts.processes.children.iter().find(|child| module.calls[child.call].range() == site)
            });
            let functions = child.and_then(|child| child.function).map(|function| module.reachable(function));
            functions.into_iter().flatten().flat_map(|function| taken_in(facts, function)).collect()
        };
        if held.iter().any(|lock| taken.contains(lock)) {
            let message = format!(
                "this {} forks while it holds a lock that the child takes: in the child nobody releases it",
                start.what
            );
            hits.push(Hit { range: fork.range(), message });
        }
    }
    hits
}

fn is_lock(kind: Kind) -> bool {
    matches!(kind, Kind::ThreadLock | Kind::ThreadSemaphore | Kind::ThreadCondition)
}

/// The locks that are certainly held at a call, by where they are made.
fn held_at<'a>(facts: &Facts<'a>, fork: &Call<'a>) -> Vec<TextRange> {
    let module = &facts.module;
    let with = module.withs.iter().filter(|with| {
        module.function_of(with.scope) == module.function_of(fork.scope) && module.is_within(fork.place, with.body)
    });
    let with = with.filter_map(|with| module.object(&with.item.context_expr));
    let mut held: Vec<TextRange> = with.filter(|lock| is_lock(lock.kind)).filter_map(|lock| lock.site).collect();
    for acquire in module.calls_named("acquire").filter(|acquire| module.comes_before(acquire, fork)) {
        let Some(lock) = acquire.receiver().and_then(|receiver| module.object(receiver)) else { continue };
        let Some(site) = lock.site.filter(|_| is_lock(lock.kind)) else { continue };
        let is_released = module
            .calls_on(site, &["release"])
            .any(|release| acquire.offset() < release.offset() && release.offset() < fork.offset());
        if !is_released {
            held.push(site);
        }
    }
    held
}

/// The locks that a function takes.
fn taken_in(facts: &Facts<'_>, function: ScopeId) -> Vec<TextRange> {
    let module = &facts.module;
    let with = module.withs.iter().filter(|with| module.function_of(with.scope) == function);
    let with = with.filter_map(|with| module.object(&with.item.context_expr));
    let acquired = module.calls_in(function).filter(|call| call.name() == "acquire" && call.expr.arguments.is_empty());
    let acquired = acquired.filter_map(|call| module.object(call.receiver()?));
    with.chain(acquired).filter_map(|lock| lock.site).collect()
}

fn taken_in_place(facts: &Facts<'_>, place: PlaceId) -> Vec<TextRange> {
    let module = &facts.module;
    let with = module.withs.iter().filter(|with| module.is_within(with.body, place));
    let with = with.filter_map(|with| module.object(&with.item.context_expr));
    let calls = module.calls.iter().filter(|call| module.is_within(call.place, place));
    let mut taken: Vec<TextRange> = with.filter_map(|lock| lock.site).collect();
    for call in calls {
        if call.name() == "acquire" && call.expr.arguments.is_empty() {
            taken.extend(call.receiver().and_then(|receiver| module.object(receiver)).and_then(|lock| lock.site));
        } else if let Some(function) = module.callable(&module.value(&call.expr.func)) {
            taken.extend(module.reachable(function).into_iter().flat_map(|function| taken_in(facts, function)));
        }
    }
    taken
}

/// The blocks that only the child of an `os.fork()` runs: `if pid == 0`, `if not pid`.
pub(super) fn child_branches<'a>(facts: &Facts<'a>, fork: &Call<'a>) -> Vec<PlaceId> {
    use crate::syntax::ast::{CmpOp, Expr, UnaryOp};
    let module = &facts.module;
    let is_child = |test: &Expr| match test {
        Expr::Compare(compare) => {
            matches!(&*compare.ops, [CmpOp::Eq])
                && matches!(&compare.comparators[0], Expr::NumberLiteral(number)
                    if matches!(&number.value, crate::syntax::ast::Number::Int(value) if value.as_u8() == Some(0)))
        }
        Expr::UnaryOp(operation) => operation.op == UnaryOp::Not,
        _ => false,
    };
    let function = module.function_of(fork.scope);
    let places = module.places.iter().enumerate().filter(|(_, place)| module.function_of(place.scope) == function);
    let branches = places.filter(|(_, place)| match place.kind {
        // The test itself may hold the call: `if os.fork() == 0`.
        PlaceKind::Branch { test: Some(test), .. } => place.range.start() > fork.offset() && is_child(test),
        _ => false,
    });
    branches.map(|(id, _)| id).collect()
}
