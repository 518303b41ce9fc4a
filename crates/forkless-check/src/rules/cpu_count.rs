//! `cpu-count`: how many processors the machine has is not how many this process may use.

use crate::model::{Bound, Module};
use crate::syntax::Ranged;
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL900.
pub fn as_workers(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let pools = facts.processes.pools.iter().filter_map(|pool| {
        let call = &module.calls[pool.call];
        call.argument("processes", 0).or_else(|| call.argument("max_workers", 0))
    });
    pools
        .filter(|workers| counts_processors(module, workers, 4))
        .map(|workers| {
            let message = "`cpu_count()` ignores the affinity of the process and the quota of its container".to_owned();
            Hit { range: workers.range(), message }
        })
        .collect()
}

fn counts_processors<'a>(module: &Module<'a>, expr: &'a Expr, depth: usize) -> bool {
    match expr {
        Expr::Call(call) => {
            let path = module.path(&call.func);
            let counts = matches!(path.as_deref(), Some("os.cpu_count" | "multiprocessing.cpu_count"));
            let combines = matches!(path.as_deref(), Some("builtins.max" | "builtins.min" | "builtins.int"));
            counts
                || combines
                    && depth > 0
                    && call.arguments.args.iter().any(|argument| counts_processors(module, argument, depth - 1))
        }
        Expr::BinOp(operation) if depth > 0 => {
            counts_processors(module, &operation.left, depth - 1)
                || counts_processors(module, &operation.right, depth - 1)
        }
        Expr::BoolOp(operation) if depth > 0 => {
            operation.values.iter().any(|value| counts_processors(module, value, depth - 1))
        }
        Expr::Name(name) if depth > 0 => {
            let Some((read, _)) = module.reads.get(&expr.range()) else { return false };
            let Some(scope) = module.resolve(name.id.as_str(), read.scope) else { return false };
            let bindings = &module.scopes[scope].bindings[name.id.as_str()];
            matches!(&bindings[..], [binding] if matches!(binding.bound, Bound::Value(value) if counts_processors(module, value, depth - 1)))
        }
        _ => false,
    }
}
