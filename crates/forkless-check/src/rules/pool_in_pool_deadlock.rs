//! `pool-in-pool-deadlock`: a task occupies a worker while it waits for a task that needs one.

use crate::model::{Call, Kind, Module, Value};
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL140.
pub fn waits_for_its_own_pool(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for task in &facts.processes.tasks {
        let (Some(function), Some(pool)) = (task.function, task.pool.site) else { continue };
        let functions = module.reachable(function);
        // A pool that the task itself makes is another one each time.
        if module.call(pool).is_none_or(|made| functions.contains(&module.function_of(made.scope))) {
            continue;
        }
        for inner in facts.processes.tasks.iter().filter(|inner| inner.pool.site == Some(pool)) {
            let call = &module.calls[inner.call];
            let is_new = !hits.iter().any(|hit| hit.range == call.range());
            if functions.contains(&module.function_of(call.scope)) && is_new && waits(module, call, inner.pool.kind) {
                let noun = inner.pool.kind.noun();
                let message = format!(
                    "this runs in a task of the same {noun} and waits for another one: when all workers wait, \
                     none is left to run it"
                );
                hits.push(Hit { range: call.range(), message });
            }
        }
    }
    hits
}

/// Whether the result of a call is waited for where it is made.
fn waits<'a>(module: &Module<'a>, call: &Call<'a>, kind: Kind) -> bool {
    let blocks = match kind {
        Kind::Pool => matches!(call.name(), "apply" | "map" | "starmap" | "imap" | "imap_unordered"),
        _ => call.name() == "map",
    };
    let chained = call.parent.is_some_and(|parent| {
        matches!(parent, Expr::Attribute(attribute) if matches!(attribute.attr.as_str(), "result" | "get" | "wait" | "exception"))
    });
    let waits_for = ["result", "get", "exception"].into_iter().flat_map(|name| module.calls_named(name)).any(|wait| {
        wait.receiver().is_some_and(|receiver| match module.value(receiver) {
            Value::Object(object) => object.site == Some(call.range()),
            _ => false,
        })
    });
    blocks || chained || waits_for
}
