//! `orphans`: daemonic processes, which workers of a `Pool` are, may not have children.

use crate::model::{Kind, ScopeId};
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL100.
pub fn children_of_daemons(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let daemons = facts.processes.children.iter().filter(|child| is_daemonic(facts, child.call));
    let daemons = daemons.filter_map(|child| Some((child.function?, "a daemonic process")));
    let tasks = facts.processes.tasks.iter().filter(|task| {
        // A class of pools of one's own is made for just this: workers that are not daemonic.
        task.pool.kind == Kind::Pool && task.pool.class.is_none()
    });
    let tasks = tasks.filter_map(|task| Some((task.function?, "a task of a pool, whose workers are daemonic,")));
    let mut hits: Vec<Hit> = Vec::new();
    for (function, who) in daemons.chain(tasks) {
        let functions: Vec<ScopeId> = module.reachable(function);
        for start in &facts.processes.starts {
            let call = &module.calls[start.call];
            let is_there = functions.contains(&module.function_of(call.scope)) && !start.is_os_fork;
            if is_there
                && !module.catches(call.place, &["AssertionError"])
                && !hits.iter().any(|hit| hit.range == call.range())
            {
                let message = format!(
                    "{who} starts this {}: \"daemonic processes are not allowed to have children\"",
                    start.what
                );
                hits.push(Hit { range: call.range(), message });
            }
        }
    }
    hits
}

/// Whether a process is made daemonic, by its constructor or by its attribute.
fn is_daemonic(facts: &Facts<'_>, child: usize) -> bool {
    let module = &facts.module;
    let call = &module.calls[child];
    let is_true = |value: &Expr| matches!(value, Expr::BooleanLiteral(literal) if literal.value);
    let by_argument = call.expr.arguments.find_keyword("daemon").is_some_and(|keyword| is_true(&keyword.value));
    by_argument
        || module.stores.iter().any(|store| {
            store.target.attr.as_str() == "daemon"
                && is_true(store.value)
                && module.object(&store.target.value).is_some_and(|object| object.site == Some(call.range()))
        })
}
