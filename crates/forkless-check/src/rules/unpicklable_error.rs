//! `unpicklable-error`: exceptions and results travel as pickles, which not everything survives.

use crate::model::{Module, ScopeId, ScopeKind, Value};
use crate::syntax::Ranged;
use crate::syntax::ast::{self, Expr};

use super::{Facts, Hit};

/// FL090.
pub fn cannot_be_rebuilt(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let tasks = facts.processes.tasks.iter().filter_map(|task| task.function);
    let run_in_tasks: Vec<ScopeId> = tasks.flat_map(|function| module.reachable(function)).collect();
    let mut hits: Vec<Hit> = Vec::new();
    for raise in module.raises.iter().filter(|raise| run_in_tasks.contains(&module.function_of(raise.scope))) {
        let class = match (module.value(raise.exception), raise.exception) {
            (Value::Instance(class) | Value::Class(class), _) => class,
            _ => continue,
        };
        let ScopeKind::Class(definition) = module.scopes[class].kind else { continue };
        let Some(message) = broken(module, class) else { continue };
        if !hits.iter().any(|hit| hit.range == definition.name.range()) {
            hits.push(Hit { range: definition.name.range(), message });
        }
    }
    hits
}

/// Why an exception of this class cannot be rebuilt from its `args`.
fn broken(module: &Module<'_>, class: ScopeId) -> Option<String> {
    if !is_exception(module, class) {
        return None;
    }
    let by_hand = ["__reduce__", "__reduce_ex__", "__getnewargs__", "__new__"];
    if by_hand.iter().any(|name| module.method(class, name).is_some()) {
        return None;
    }
    let init = module.method(class, "__init__")?;
    let ScopeKind::Function(function) = module.scopes[init].kind else { return None };
    let parameters = &function.parameters;
    let positional: Vec<_> = parameters.posonlyargs.iter().chain(&parameters.args).skip(1).collect();
    let required = positional.iter().filter(|parameter| parameter.default.is_none()).count();
    let needs_keyword = parameters.kwonlyargs.iter().find(|parameter| parameter.default.is_none());
    if let Some(parameter) = needs_keyword {
        let name = parameter.parameter.name.as_str();
        return Some(format!(
            "`{name}` is required by name, and pickle passes positional arguments only: the parent cannot \
             rebuild the exception"
        ));
    }
    let passed = passed_to_super(module, init)?;
    let too_many = parameters.vararg.is_none() && passed > positional.len();
    (passed < required || too_many).then(|| {
        format!(
            "pickle rebuilds an exception by calling its class with what `super().__init__` got: {passed} of \
             {required} required arguments. \
             The parent fails there, and a pool hangs or breaks"
        )
    })
}

fn is_exception(module: &Module<'_>, class: ScopeId) -> bool {
    module.bases(class).iter().any(|base| match base {
        Value::Path(path) => {
            let builtin = path.strip_prefix("builtins.");
            builtin.is_some_and(|name| name.ends_with("Error") && name != "OSError" || name == "Exception")
        }
        _ => false,
    })
}

/// How many arguments a constructor passes on; nothing if it calls none, or cannot be counted.
fn passed_to_super(module: &Module<'_>, init: ScopeId) -> Option<usize> {
    let mut calls = module.calls_in(init).filter(|call| call.name() == "__init__");
    let call = calls.next().filter(|call| {
        let receiver = call.receiver().and_then(Expr::as_call_expr);
        receiver.is_some_and(|receiver| crate::model::flow::last_name(&receiver.func) == Some("super"))
            && call.expr.arguments.keywords.is_empty()
    })?;
    let arguments = &call.expr.arguments.args;
    let ends_there = calls.next().is_none() && !sets_args(module, init);
    (ends_there && !arguments.iter().any(Expr::is_starred_expr)).then_some(arguments.len())
}

fn sets_args(module: &Module<'_>, init: ScopeId) -> bool {
    module.stores.iter().any(|store| store.scope == init && store.target.attr.as_str() == "args")
}

/// FL091.
pub fn returns_unpicklable(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for task in &facts.processes.tasks {
        let Some(function) = task.function else { continue };
        let ScopeKind::Function(definition) = module.scopes[function].kind else { continue };
        if definition.is_async {
            continue;
        }
        let mut add = |range, what: &str| {
            if !hits.iter().any(|hit| hit.range == range) {
                hits.push(Hit {
                    range,
                    message: format!(
                        "the task's result is {what}, which cannot be pickled: the caller gets an error in its place"
                    ),
                });
            }
        };
        if module.scopes[function].has_yield && !is_context_manager(definition) {
            add(definition.name.range(), "a generator");
        }
        for value in module.scopes[function].returns.iter().filter(|_| !module.scopes[function].has_yield) {
            if let Some(what) = super::queue_join::what_cannot_be_pickled(module, value) {
                add(value.range(), &what);
            } else if let Some(object) = module.object(value).filter(|object| object.kind.is_bound_to_context()) {
                add(value.range(), &format!("{} of a context", object.kind.a_noun()));
            }
        }
    }
    hits
}

fn is_context_manager(function: &ast::StmtFunctionDef) -> bool {
    !function.decorator_list.is_empty()
}
