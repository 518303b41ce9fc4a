//! `dead-owner`: a process that dies inside a lock or queue leaves it as it is, for ever.

use crate::model::{Call, Kind, Module, ScopeId};
use crate::syntax::{Ranged, TextRange};

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

/// Whether what the killed process had is used after it: later in that function, or in another one.
fn is_used_later(module: &Module<'_>, site: TextRange, kill: &Call<'_>, killed: &[ScopeId]) -> bool {
    let uses = ["get", "get_nowait", "put", "put_nowait", "acquire", "empty", "join", "wait", "notify"];
    let is_by_others = |scope: ScopeId| !killed.contains(&module.function_of(scope));
    let called = module.calls_on(site, &uses).any(|call| {
        let is_repeated =
            module.is_in_loop(kill.place) && module.function_of(call.scope) == module.function_of(kill.scope);
        is_by_others(call.scope) && (call.offset() > kill.offset() || is_repeated)
    });
    let entered = module.withs.iter().any(|with| {
        with.item.context_expr.start() > kill.offset()
            && is_by_others(with.scope)
            && module.object(&with.item.context_expr).is_some_and(|object| object.site == Some(site))
    });
    called || entered
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
