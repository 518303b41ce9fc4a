//! `big-message`: pipes copy what they carry, and some of them carry no more than 2 GiB.

use crate::model::{Bound, Call, Kind, Module};
use crate::syntax::Ranged;
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// The first size, in bytes, that some paths refuse.
const TOO_BIG: i128 = 1 << 31;
/// From how many bytes on an array is worth not to be sent again and again.
const LARGE: i128 = 8_000_000;

/// FL150.
pub fn too_big(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for call in ["put", "send", "send_bytes"].into_iter().flat_map(|name| module.calls_named(name)) {
        let receiver = call.receiver().and_then(|receiver| module.object(receiver));
        let carries =
            receiver.is_some_and(|object| matches!(object.kind, Kind::Queue | Kind::SimpleQueue | Kind::Connection));
        let Some(message) = call.expr.arguments.args.first().filter(|_| carries) else { continue };
        if bytes_of(module, message, 4).is_some_and(|size| size >= TOO_BIG) {
            let text =
                "this message has more than 2 GiB, which takes several copies, and fails on some paths".to_owned();
            hits.push(Hit { range: message.range(), message: text });
        }
    }
    for task in &facts.processes.tasks {
        let call = &module.calls[task.call];
        let repeated = if task.is_map { repeated_in_map(module, call) } else { repeated_in_loop(module, call) };
        hits.extend(repeated.into_iter().filter_map(|argument| {
            let size = bytes_of(module, argument, 4).filter(|size| *size >= LARGE)?;
            let message = format!("these {} MB are pickled and sent anew with every task", size / 1_000_000);
            Some(Hit { range: argument.range(), message })
        }));
    }
    hits
}

/// What a task that is submitted in a loop gets, and the loop does not change.
fn repeated_in_loop<'a>(module: &Module<'a>, call: &Call<'a>) -> Vec<&'a Expr> {
    if !module.is_in_loop(call.place) {
        return Vec::new();
    }
    let arguments = call.expr.arguments.args.iter().skip(1);
    arguments
        .flat_map(|argument| crate::model::elements(argument).map_or(vec![argument], |items| items.iter().collect()))
        .collect()
}

/// What every item of a `map` has in it: of `[(array, i) for i in …]`, `repeat(array)`, `partial(function, array)`.
fn repeated_in_map<'a>(module: &Module<'a>, call: &Call<'a>) -> Vec<&'a Expr> {
    let mut found = Vec::new();
    for argument in &call.expr.arguments.args {
        match argument {
            Expr::ListComp(comprehension) => {
                found.extend(crate::model::elements(&comprehension.elt).unwrap_or_default());
            }
            Expr::Generator(comprehension) => {
                found.extend(crate::model::elements(&comprehension.elt).unwrap_or_default());
            }
            Expr::Call(inner) => {
                let path = module.path(&inner.func);
                match path.as_deref() {
                    Some("functools.partial") => found.extend(inner.arguments.args.iter().skip(1)),
                    Some("itertools.repeat") => found.extend(inner.arguments.args.first()),
                    Some("builtins.zip") => found.extend(inner.arguments.args.iter().filter_map(|part| {
                        let part = part.as_call_expr()?;
                        (module.path(&part.func).as_deref() == Some("itertools.repeat"))
                            .then(|| part.arguments.args.first())?
                    })),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found
}

/// How many bytes an expression has, if that is written there: `bytes(n)`, `b"x" * n`, `numpy.zeros(n)`.
fn bytes_of<'a>(module: &Module<'a>, expr: &'a Expr, depth: usize) -> Option<i128> {
    match expr {
        Expr::Name(name) if depth > 0 => {
            let (read, _) = module.reads.get(&expr.range())?;
            let scope = module.resolve(name.id.as_str(), read.scope)?;
            match &module.scopes[scope].bindings[name.id.as_str()][..] {
                [binding] => match binding.bound {
                    Bound::Value(value) => bytes_of(module, value, depth - 1),
                    _ => None,
                },
                _ => None,
            }
        }
        Expr::BinOp(operation) if operation.left.is_bytes_literal_expr() || operation.left.is_string_literal_expr() => {
            module.number(&operation.right)
        }
        Expr::Call(call) => {
            let path = module.path(&call.func)?;
            let first = call.arguments.args.first()?;
            match &*path {
                "builtins.bytes" | "builtins.bytearray" => module.number(first),
                "numpy.zeros"
                | "numpy.ones"
                | "numpy.empty"
                | "numpy.full"
                | "numpy.arange"
                | "numpy.random.rand"
                | "numpy.random.random"
                | "numpy.random.randn" => items(module, &call.arguments.args, &path)?.checked_mul(8),
                _ => None,
            }
        }
        _ => None,
    }
}

fn items<'a>(module: &Module<'a>, arguments: &'a [Expr], path: &str) -> Option<i128> {
    let shape: Vec<&Expr> = match crate::model::elements(arguments.first()?) {
        Some(items) => items.iter().collect(),
        None if path.ends_with("rand") || path.ends_with("randn") => arguments.iter().collect(),
        None => vec![arguments.first()?],
    };
    shape.into_iter().map(|length| module.number(length)).try_fold(1_i128, |all, length| all.checked_mul(length?))
}
