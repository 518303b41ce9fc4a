//! `descriptor-inheritance`: a fork copies every descriptor, those of sockets and pipes too.

use crate::model::{Call, Kind, Method, Module, ScopeId};
use crate::syntax::TextRange;
use crate::syntax::ast::{self, Expr};

use super::inherited_lock::child_branches;
use super::{Facts, Hit};

/// FL130.
pub fn listening(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for start in facts.processes.starts.iter().filter(|start| start.method == Method::Fork) {
        let fork = &module.calls[start.call];
        for (site, since) in listeners(module) {
            let is_open = module.comes_before(since, fork) && !is_closed_between(module, site, since, fork);
            if is_open && is_forgotten(facts, start, site) && !hits.iter().any(|hit| hit.range == fork.range()) {
                let message = format!(
                    "the socket that listens since line {} is open in the child too: its port stays bound as \
                     long as the child lives",
                    facts.line_of(since.range())
                );
                hits.push(Hit { range: fork.range(), message });
            }
        }
    }
    hits
}

/// Sockets that listen, and the calls from which on they do.
fn listeners<'m, 'a>(module: &'m Module<'a>) -> Vec<(TextRange, &'m Call<'a>)> {
    let listening = module.calls_named("listen").filter_map(|call| {
        let socket = module.object(call.receiver()?).filter(|object| object.kind == Kind::Socket)?;
        Some((socket.site?, call))
    });
    let servers = module.calls_named("create_server").filter_map(|call| {
        let path = module.path(&call.expr.func)?;
        (&*path == "socket.create_server").then_some((call.range(), call))
    });
    listening.chain(servers).collect()
}

fn is_closed_between<'a>(module: &Module<'a>, site: TextRange, since: &Call<'a>, fork: &Call<'a>) -> bool {
    let closed = module
        .calls_on(site, &["close", "detach"])
        .any(|close| since.offset() < close.offset() && close.offset() < fork.offset());
    closed
        || module.withs.iter().any(|with| {
            let object = module.object(&with.item.context_expr);
            object.is_some_and(|object| object.site == Some(site)) && !module.is_within(fork.place, with.body)
        })
}

/// Whether the child neither uses nor closes the socket.
fn is_forgotten(facts: &Facts<'_>, start: &crate::model::processes::Start, site: TextRange) -> bool {
    let module = &facts.module;
    let is_it = |expr| module.value(expr).object().is_some_and(|object| object.site == Some(site));
    let fork = &module.calls[start.call];
    if start.is_os_fork {
        let branches = child_branches(facts, fork);
        let mentions = module.calls.iter().any(|call| {
            branches.iter().any(|branch| module.is_within(call.place, *branch))
                && (call.receiver().is_some_and(is_it)
                    || call.expr.arguments.args.iter().any(is_it)
                    || call.name().starts_with("exec"))
        });
        return !branches.is_empty() && !mentions;
    }
    let child = facts.processes.children.iter().find(|child| Some(module.calls[child.call].range()) == start.child);
    let Some(child) = child else { return false };
    let Some(function) = child.function else { return false };
    let functions = module.reachable(function);
    let is_given = child.arguments.iter().any(|argument| is_it(argument));
    let is_used = module.calls.iter().any(|call| {
        functions.contains(&module.function_of(call.scope))
            && (call.receiver().is_some_and(is_it) || call.expr.arguments.args.iter().any(is_it))
    });
    !is_given && !is_used
}

/// FL131.
pub fn own_writing_end(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for child in &facts.processes.children {
        let Some(function) = child.function else { continue };
        if module.effective(child.object.method) != Method::Fork || child.object.class.is_some() {
            continue;
        }
        for (position, argument) in child.arguments.iter().enumerate() {
            let Some(pipe) = module.object(argument).filter(|object| object.kind == Kind::Connection) else { continue };
            let Some(site) = pipe.site else { continue };
            let Some(name) = parameter_name(module, function, position) else { continue };
            if reads_to_the_end(module, function, name) && !closes_another(module, function, name, site) {
                let message = format!(
                    "`{}` waits for the end of this pipe, but the fork gives it the writing end as well: the \
                     end never comes",
                    module.name_of(function)
                );
                hits.push(Hit { range: crate::syntax::Ranged::range(*argument), message });
            }
        }
    }
    hits
}

fn parameter_name<'a>(module: &Module<'a>, function: ScopeId, position: usize) -> Option<&'a str> {
    let crate::model::ScopeKind::Function(definition) = module.scopes[function].kind else { return None };
    let skipped = usize::from(module.class_of(function).is_some());
    definition.parameters.iter_non_variadic_params().nth(position + skipped).map(|parameter| parameter.name().as_str())
}

/// Whether a function receives from a parameter until EOFError.
fn reads_to_the_end(module: &Module<'_>, function: ScopeId, name: &str) -> bool {
    module.calls_in(function).any(|call| {
        let is_it = call.receiver().and_then(Expr::as_name_expr).is_some_and(|read| read.id.as_str() == name);
        is_it
            && matches!(call.name(), "recv" | "recv_bytes")
            && module.is_in_loop(call.place)
            && catches_end(module, call)
    })
}

/// `except EOFError`, by its name.
fn catches_end<'a>(module: &Module<'a>, call: &Call<'a>) -> bool {
    module.enclosing_in_function(call.place).any(|(_, place)| match place.kind {
        crate::model::PlaceKind::Try(attempt) => attempt.handlers.iter().any(|handler| {
            let ast::ExceptHandler::ExceptHandler(handler) = handler;
            handler.type_.as_deref().and_then(crate::model::flow::last_name) == Some("EOFError")
        }),
        _ => false,
    })
}

/// Whether a function closes another end of the pipe than the one that it reads.
fn closes_another(module: &Module<'_>, function: ScopeId, name: &str, site: TextRange) -> bool {
    module.calls_in(function).filter(|call| call.name() == "close").any(|call| {
        let Some(receiver) = call.receiver() else { return false };
        let is_reader = receiver.as_name_expr().is_some_and(|read| read.id.as_str() == name);
        !is_reader && module.object(receiver).is_none_or(|object| object.site.is_none_or(|other| other == site))
    })
}
