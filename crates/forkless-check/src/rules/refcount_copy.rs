//! `refcount-copy`: reading objects writes their reference counts, which copies the pages that a fork shares.

use crate::model::{Binding, Bound, Method, Module};
use crate::syntax::ast::{self, Expr};
use crate::syntax::{Ranged, TextRange};

use super::{Facts, Hit};

/// From how many objects on a container is big.
const BIG: i128 = 500_000;

/// FL050.
pub fn read_by_forked(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for (name, bindings) in &module.scopes[0].bindings {
        let Some((binding, count)) = bindings.iter().find_map(|binding| Some((binding, size(module, binding)?))) else {
            continue;
        };
        if !reads(facts, name) {
            continue;
        }
        let Bound::Value(value) = binding.bound else { continue };
        let message = format!(
            "forked children read these {count} objects: each read writes a reference count, so every child \
             gets a copy of its own"
        );
        hits.push(Hit { range: value.range(), message });
    }
    hits
}

fn size<'a>(module: &Module<'a>, binding: &Binding<'a>) -> Option<i128> {
    match binding.bound {
        Bound::Value(value) => objects_in(module, value).filter(|count| *count >= BIG),
        _ => None,
    }
}

/// How many objects a container has, if that is written there.
fn objects_in<'a>(module: &Module<'a>, expr: &'a Expr) -> Option<i128> {
    let comprehended = |generators: &'a [ast::Comprehension]| {
        let counts = generators.iter().map(|generator| length(module, &generator.iter));
        counts.reduce(|a, b| a?.checked_mul(b?)).flatten()
    };
    match expr {
        Expr::ListComp(ast::ExprListComp { generators, .. }) | Expr::SetComp(ast::ExprSetComp { generators, .. }) => {
            comprehended(generators)
        }
        Expr::DictComp(comprehension) => comprehended(&comprehension.generators),
        Expr::Call(call) => {
            let path = module.path(&call.func)?;
            let is_container = matches!(
                &*path,
                "builtins.list" | "builtins.set" | "builtins.dict" | "builtins.tuple" | "builtins.sorted"
            );
            let first = call.arguments.args.first().filter(|_| is_container)?;
            objects_in(module, first).or_else(|| length(module, first))
        }
        Expr::Generator(ast::ExprGenerator { generators, .. }) => comprehended(generators),
        _ => None,
    }
}

/// How many items an expression gives: that of a `range`.
fn length<'a>(module: &Module<'a>, expr: &'a Expr) -> Option<i128> {
    let Expr::Call(call) = expr else { return None };
    if module.path(&call.func).as_deref() != Some("builtins.range") {
        return None;
    }
    match &*call.arguments.args {
        [stop] => module.number(stop),
        [start, stop] => module.number(stop)?.checked_sub(module.number(start)?),
        _ => None,
    }
}

/// Whether a forked child gets the global as an argument, or reads it.
fn reads(facts: &Facts<'_>, name: &str) -> bool {
    let module = &facts.module;
    let is_forked = |method: Method| module.effective(method) == Method::Fork;
    let given = facts.processes.children.iter().filter(|child| is_forked(child.object.method));
    let given: Vec<TextRange> = given.flat_map(|child| &child.arguments).map(|argument| argument.range()).collect();
    let is_given = module.reads.iter().any(|(range, (read, read_name))| {
        *read_name == name && given.contains(range) && module.resolve(name, read.scope) == Some(0)
    });
    is_given || {
        let entries = facts.processes.entries(module);
        let forked = entries.iter().filter(|(_, method, _)| *method == Method::Fork);
        let functions: Vec<usize> = forked.flat_map(|(function, _, _)| module.reachable(*function)).collect();
        module
            .global_reads()
            .any(|(_, read, read_name)| read_name == name && functions.contains(&module.function_of(read.scope)))
    }
}
