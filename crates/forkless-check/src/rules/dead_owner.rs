//! `dead-owner`: a process that dies inside a lock or queue leaves it as it is, for ever.

use std::collections::HashSet;

use crate::model::{Call, Kind, Module, ScopeId};
use crate::syntax::{Ranged, TextRange, TextSize};

use super::{Facts, Hit};

/// FL075.
pub fn killed_with_what_others_need(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for kill in ["terminate", "kill"].into_iter().flat_map(|name| module.calls_named(name)) {
        let Some(receiver) = kill.receiver() else { continue };
        let Some(object) = module.object(receiver).filter(|object| object.kind == Kind::Process) else { continue };
        let child = facts.processes.children.iter().find(|child| Some(module.calls[child.call].range()) == object.site);
        let Some(child) = child else { continue };
        let shared = child.arguments.iter().flat_map(|argument| module.carried(argument));
        let mut shared = shared.filter(|(object, _)| object.kind.is_lost_with_its_user());
        // What the killed process itself does with it is over.
        let killed = child.function.map(|function| module.reachable(function)).unwrap_or_default();
        let used =
            shared.find(|(shared, _)| shared.site.is_some_and(|site| is_used_later(module, site, kill, &killed)));
        if let Some((shared, _)) = used {
            let noun = shared.kind.noun();
            let message = format!(
                "the process may be inside the {noun} that it was given, which others use: that {noun} then \
                 stays locked, or its data torn"
            );
            hits.push(Hit { range: kill.range(), message });
        }
    }
    hits.extend(exits_while_holding(module));
    hits
}

/// Whether what the killed process had is used after it, in the same function or in one that this calls.
fn is_used_later(module: &Module<'_>, site: TextRange, kill: &Call<'_>, killed: &[ScopeId]) -> bool {
    const USES: [&str; 9] = ["get", "get_nowait", "put", "put_nowait", "acquire", "empty", "join", "wait", "notify"];
    let here = module.function_of(kill.scope);
    let later = module.calls_in(here).filter(|call| module.comes_before(kill, call));
    let called = later.filter_map(|call| module.callable(&module.value(&call.expr.func)));
    let called: HashSet<ScopeId> = called.flat_map(|function| module.reachable(function)).collect();
    let is_later = |scope: ScopeId, offset: TextSize| {
        let function = module.function_of(scope);
        !killed.contains(&function)
            && if function == here { offset > kill.offset() } else { called.contains(&function) }
    };
    module.calls_on(site, &USES).any(|call| is_later(call.scope, call.offset()))
        || module.withs.iter().any(|with| {
            is_later(with.scope, with.item.context_expr.start())
                && module.object(&with.item.context_expr).is_some_and(|object| object.site == Some(site))
        })
}

/// `os._exit` inside `with lock`.
fn exits_while_holding(module: &Module<'_>) -> Vec<Hit> {
    let exits = module.calls_named("_exit").filter(|call| module.path(&call.expr.func).as_deref() == Some("os._exit"));
    exits
        .filter(|exit| {
            module.withs.iter().any(|with| {
                let held = module.object(&with.item.context_expr);
                module.is_within(exit.place, with.body)
                    && module.function_of(with.scope) == module.function_of(exit.scope)
                    && held.is_some_and(|held| {
                        matches!(held.kind, Kind::Lock | Kind::RLock | Kind::Semaphore | Kind::Condition)
                    })
            })
        })
        .map(|exit| {
            let message = "`os._exit` runs no `finally` and leaves no `with`: the lock stays taken for ever".to_owned();
            Hit { range: exit.range(), message }
        })
        .collect()
}
