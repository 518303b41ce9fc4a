//! `context-mismatch`: synchronisation objects belong to a context.

use crate::model::{Kind, Method, Object, Value};
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// FL001. Python refuses only one combination: made for fork, given to a child that is not forked.
pub fn given_to_another_context(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let children = facts.processes.children.iter().map(|child| (&child.object, &child.arguments));
    let pools = facts.processes.pools.iter().map(|pool| (&pool.object, &pool.initargs));
    let mut hits = Vec::new();
    for (user, arguments) in children.chain(pools) {
        for (object, range) in arguments.iter().flat_map(|argument| module.carried(argument)) {
            if !object.kind.is_bound_to_context() {
                continue;
            }
            let noun = object.kind.noun();
            let of = module.effective(user.method);
            if module.effective(object.method) == Method::Fork && of.imports_again() {
                let message = format!(
                    "this {noun} was made for forked children ({}), but the {} that gets it uses {}: \
                     RuntimeError, or, before Python 3.11.5, a crash of the child",
                    origin(object.method),
                    user.kind.noun(),
                    of.name(),
                );
                hits.push(Hit { range, message });
            } else if user.method == Method::Default && object.method == Method::Default && is_too_early(facts, &object)
            {
                let message = format!(
                    "this {noun} is made before `set_start_method` chooses {}, so it belongs to another context",
                    of.name()
                );
                hits.push(Hit { range, message });
            }
        }
    }
    hits
}

fn origin(method: Method) -> &'static str {
    if method == Method::Default { "the default context" } else { "the fork context" }
}

/// Whether an object of the default context is made before the program chooses that.
fn is_too_early(facts: &Facts<'_>, object: &Object) -> bool {
    let module = &facts.module;
    let Some(site) = object.site.and_then(|site| module.call(site)) else { return false };
    if !module.default_method.imports_again() {
        return false;
    }
    let setters: Vec<_> = module
        .calls_named("set_start_method")
        .filter(|call| module.path(&call.expr.func).as_deref() == Some("multiprocessing.set_start_method"))
        .collect();
    let is_before = |setter: &&crate::model::Call<'_>| {
        (module.function_of(site.scope) == module.function_of(setter.scope) && module.comes_before(site, setter))
            || (module.is_at_import(site) && (module.is_guarded(setter.place) || module.function_of(setter.scope) != 0))
    };
    !setters.is_empty() && setters.iter().all(is_before)
}

/// FL002. A context's objects are inherited at the start of a process, and pickled at no other time.
pub fn sent_with_a_message(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for task in &facts.processes.tasks {
        let with_partial = task.target.is_call_expr().then_some(task.target);
        for argument in task.arguments.iter().copied().chain(with_partial) {
            let objects = module.carried(argument).into_iter();
            hits.extend(
                objects
                    .filter(|(object, _)| object.kind.is_bound_to_context())
                    .map(|(object, range)| refused(&object, range, "a task")),
            );
        }
    }
    for call in module.calls_named("put").chain(module.calls_named("send")) {
        let Value::Bound(receiver, _) = module.value(&call.expr.func) else { continue };
        let carries = |object: &Object| {
            matches!(object.kind, Kind::Queue | Kind::SimpleQueue | Kind::Connection) && object.class.is_none()
        };
        if !receiver.object().is_some_and(carries) {
            continue;
        }
        let Some(argument) = call.expr.arguments.args.first() else { continue };
        let objects = module.carried(argument).into_iter();
        let objects = objects.filter(|(object, _)| object.kind.is_bound_to_context());
        hits.extend(objects.map(|(object, _)| refused(&object, argument.range(), "a message")));
    }
    hits
}

fn refused(object: &Object, range: TextRange, with: &str) -> Hit {
    let noun = object.kind.a_noun();
    let message = format!(
        "{noun} of `multiprocessing` travels only when a process starts: as part of {with} it is refused with \
         a RuntimeError"
    );
    Hit { range, message }
}
