//! `main-reexecution`: children that are not forked import the program again.

use std::collections::HashSet;

use crate::model::{Bound, Call, Method, Module, ScopeId, ScopeKind, Value};
use crate::syntax::ast::Expr;
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// FL010.
pub fn started_at_import(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    if module.has_no_file {
        // Children cannot import it again, which FL011 is about.
        return hits;
    }
    let at_import = module.run_at_import();
    for start in facts.processes.starts.iter().filter(|start| start.method.imports_again()) {
        let call = &module.calls[start.call];
        let is_called = at_import.contains(&module.function_of(call.scope));
        if module.is_at_import(call) || (is_called && !module.is_guarded(call.place)) {
            let message = format!(
                "this {} is started while the module is imported, and each child imports it again ({})",
                start.what,
                start.method.name()
            );
            hits.push(Hit { range: call.range(), message });
        }
    }
    hits
}

/// FL011.
pub fn target_not_found(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let children = facts.processes.children.iter();
    let mut used: Vec<_> =
        children.filter_map(|child| Some((child.target?, module.effective(child.object.method), false))).collect();
    for task in &facts.processes.tasks {
        used.push((task.target, module.effective(task.pool.method), true));
    }
    for pool in &facts.processes.pools {
        used.extend(pool.initializer.map(|initializer| (initializer, module.effective(pool.object.method), false)));
    }
    used.iter().filter_map(|(target, method, is_task)| unfindable(facts, target, *method, *is_task)).collect()
}

fn unfindable<'a>(facts: &Facts<'a>, target: &'a Expr, method: Method, is_task: bool) -> Option<Hit> {
    let module = &facts.module;
    let hit = |message: String| Some(Hit { range: target.range(), message });
    let again = method.imports_again();
    let (Value::Function(scope) | Value::Class(scope)) = module.value(target) else { return None };
    let name = module.name_of(scope);
    let definition = &module.scopes[scope];
    let how = if is_task {
        "tasks are pickled by the name of their function"
    } else {
        "children get the name of their target"
    };
    if matches!(definition.kind, ScopeKind::Lambda) {
        return if again || is_task {
            hit(format!("a lambda has no name that another process could find: {how}"))
        } else {
            None
        };
    }
    let parent = definition.parent.unwrap_or(0);
    let is_nested = !matches!(module.scopes[module.function_of(parent)].kind, ScopeKind::Module);
    if is_nested && module.class_of(scope).is_none() && !module.scopes[parent].globals.contains(name) {
        return if again || is_task {
            hit(format!("`{name}` is defined inside a function, where no other process finds it: {how}"))
        } else {
            None
        };
    }
    if again && module.is_guarded(definition.place) {
        return hit(format!("`{name}` is defined under the guard, which children do not run: they do not find it"));
    }
    if again && module.has_no_file {
        return hit(format!("`{name}` is defined in a program without a file that children could import"));
    }
    None
}

/// FL012.
pub fn global_not_set(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let initializers =
        facts.processes.pools.iter().filter_map(|pool| module.callable(&module.value(pool.initializer?)));
    let set_up: HashSet<ScopeId> = initializers.flat_map(|initializer| module.reachable(initializer)).collect();
    let (mut hits, mut seen) = (Vec::new(), HashSet::new());
    for (function, method, _) in facts.processes.entries(module) {
        if !method.imports_again() || module.has_no_file || !seen.insert(function) {
            continue;
        }
        let run_in_child: HashSet<ScopeId> = module.reachable(function).into_iter().collect();
        for (range, name) in reads_of(facts, &run_in_child) {
            let runs_there = |scope: ScopeId| run_in_child.contains(&scope) || set_up.contains(&scope);
            let Some(instead) = value_in_child(module, name, runs_there) else { continue };
            let method = method.name();
            let message = format!(
                "`{name}` is set under the guard, which a child ({method}) does not run: there it is {instead}"
            );
            hits.push(Hit { range, message });
        }
    }
    hits
}

/// What a global is in a child that does not run what is under the guard, if that is something else than in the parent.
fn value_in_child(module: &Module<'_>, name: &str, runs_there: impl Fn(ScopeId) -> bool) -> Option<&'static str> {
    let bindings = module.scopes[0].bindings.get(name)?;
    if bindings.iter().any(|binding| runs_there(module.function_of(module.places[binding.place].scope))) {
        return None;
    }
    let is_value = |bound: &Bound<'_>| !matches!(bound, Bound::Function(_) | Bound::Class(_));
    let (guarded, others): (Vec<_>, Vec<_>) = bindings.iter().partition(|binding| module.is_guarded(binding.place));
    let is_placeholder = |bound: &Bound<'_>| matches!(bound, Bound::Value(value) if is_constant(value));
    let differs = guarded.iter().any(|binding| is_value(&binding.bound))
        && others.iter().all(|binding| is_placeholder(&binding.bound));
    let instead = if others.is_empty() { "a NameError" } else { "what the module sets it to" };
    differs.then_some(instead)
}

fn is_constant(value: &Expr) -> bool {
    let is_empty = crate::model::elements(value).is_some_and(<[Expr]>::is_empty);
    value.is_literal_expr() || is_empty || matches!(value, Expr::Dict(dict) if dict.is_empty())
}

/// The names of globals that functions read.
fn reads_of<'m>(facts: &'m Facts<'_>, functions: &HashSet<ScopeId>) -> Vec<(TextRange, &'m str)> {
    let module = &facts.module;
    let mut reads: Vec<(TextRange, &str)> = module
        .global_reads()
        .filter(|(_, read, _)| functions.contains(&module.function_of(read.scope)))
        .map(|(range, _, name)| (range, name))
        .collect();
    reads.sort_by_key(|(range, _)| range.start());
    reads
}

/// FL013.
pub fn side_effects(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let spawns = facts.processes.starts.iter().find(|start| {
        start.method.imports_again()
            && !module.has_no_file
            && module.is_guarded_or_called_from_guard(&module.calls[start.call])
    });
    let Some(start) = spawns else { return Vec::new() };
    module
        .calls_in(0)
        .filter(|call| module.is_at_import(call) && !module.is_on_the_way_out(call.place))
        .filter_map(|call| {
            let effect = effect(facts, call)?;
            let message = format!(
                "{effect} runs again in every child, because children import this script ({})",
                start.method.name()
            );
            Some(Hit { range: call.range(), message })
        })
        .collect()
}

/// What a call does that can be noticed from outside, if that is certain.
fn effect<'a>(facts: &Facts<'a>, call: &Call<'a>) -> Option<String> {
    let module = &facts.module;
    if let Some(effect) = own_effect(facts, call) {
        return Some(effect);
    }
    let function = module.callable(&module.value(&call.expr.func))?;
    module.reachable(function).into_iter().find_map(|function| {
        module
            .calls_in(function)
            .find_map(|inner| own_effect(facts, inner))
            .map(|effect| format!("this call ({effect})"))
    })
}

fn own_effect<'a>(facts: &Facts<'a>, call: &Call<'a>) -> Option<String> {
    let path = facts.module.path(&call.expr.func)?;
    let certain = matches!(
        &*path,
        "builtins.print"
            | "builtins.input"
            | "os.remove"
            | "os.unlink"
            | "os.mkdir"
            | "os.rename"
            | "os.system"
            | "os.kill"
            | "shutil.rmtree"
            | "shutil.move"
            | "shutil.copy"
            | "subprocess.run"
            | "subprocess.Popen"
            | "subprocess.call"
            | "subprocess.check_call"
            | "subprocess.check_output"
            | "time.sleep"
            | "requests.get"
            | "requests.post"
            | "urllib.request.urlopen"
            | "sqlite3.connect"
            | "webbrowser.open"
    );
    let writes = || {
        let mode = call.argument("mode", 1).and_then(Expr::as_string_literal_expr);
        &*path == "builtins.open" && mode.is_some_and(|mode| mode.value.to_str().contains(['w', 'a', 'x']))
    };
    (certain || writes()).then(|| format!("`{}`", path.strip_prefix("builtins.").unwrap_or(&path)))
}
