//! `lost-worker`: a `Pool` whose worker ends in the middle of a task waits for its result for ever.

use crate::model::{Call, Kind, Module, Value, processes::Task};

use super::{Facts, Hit};

/// FL070.
pub fn ends_in_a_task(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for task in facts.processes.tasks.iter().filter(|task| task.pool.kind == Kind::Pool && waits(module, task)) {
        let Some(function) = task.function else { continue };
        for function in module.reachable(function) {
            for call in module.calls_in(function).filter(|call| ends_process(module, call)) {
                if !hits.iter().any(|hit| hit.range == call.range()) {
                    let message = format!(
                        "this ends a worker of the pool in the middle of a task: the result that line {} \
                         waits for never comes",
                        facts.line_of(module.calls[task.call].range())
                    );
                    hits.push(Hit { range: call.range(), message });
                }
            }
        }
    }
    hits.extend(killed_workers(facts));
    hits
}

/// Whether a call ends the process that it is made in. (`SystemExit` can be caught, `os._exit` cannot.)
fn ends_process<'a>(module: &Module<'a>, call: &Call<'a>) -> bool {
    match module.path(&call.expr.func).as_deref() {
        Some("os._exit" | "os.abort") => true,
        Some("sys.exit" | "builtins.exit" | "builtins.quit") => {
            !module.catches(call.place, &["SystemExit", "BaseException"])
        }
        _ => false,
    }
}

/// Whether the result of a task is waited for without a limit.
fn waits<'a>(module: &Module<'a>, task: &Task<'a>) -> bool {
    let call = &module.calls[task.call];
    match call.name() {
        "apply" | "map" | "starmap" | "imap" | "imap_unordered" => true,
        _ => {
            let results = module.calls_named("get").filter(|get| {
                get.receiver().is_some_and(|receiver| {
                    module.value(receiver).object().is_some_and(|object| {
                        object.kind == Kind::AsyncResult && object.site.is_none_or(|site| site == call.range())
                    })
                })
            });
            let mut results = results.peekable();
            results.peek().is_some() && results.all(|get| get.argument("timeout", 0).is_none())
        }
    }
}

/// Workers that are killed from outside: `for worker in pool._pool: worker.terminate()`.
fn killed_workers(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for (iterated, scope, place) in &module.loops {
        let Value::Bound(receiver, "_pool") = module.value(iterated) else { continue };
        let Some(pool) = receiver.object().filter(|object| object.kind == Kind::Pool) else { continue };
        let site = pool.site;
        for call in module.calls_in(module.function_of(*scope)).filter(|call| module.is_within(call.place, *place)) {
            let kills = matches!(call.name(), "terminate" | "kill");
            let is_waited_for = facts.processes.tasks.iter().any(|task| {
                let later = &module.calls[task.call];
                task.pool.site == site && module.comes_before(call, later) && waits(module, task)
            });
            if kills && is_waited_for {
                let message =
                    "this kills workers of a pool whose results are waited for later: the tasks that they had are lost"
                        .to_owned();
                hits.push(Hit { range: call.range(), message });
            }
        }
    }
    hits
}
