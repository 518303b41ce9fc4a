//! `shared-memory-leak`: a segment lives until somebody unlinks it, and only its creator knows when that is.

use crate::model::{Call, Kind, Module, PlaceKind};
use crate::syntax::TextRange;
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL060.
pub fn not_unlinked(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    segments(module, true)
        .filter_map(|(call, site)| {
            let why = match owner(module, call) {
                Owner::Somebody => return None,
                Owner::Attribute(name) => {
                    let unlinked = module.calls_named("unlink").any(|unlink| names_attribute(unlink.receiver(), name));
                    (!unlinked).then_some("nothing in this module unlinks it")?
                }
                Owner::Name(name) => missing_unlink(module, call, site, name)?,
                Owner::Nobody => "nothing keeps it, so nothing can unlink it",
            };
            let message = format!("this segment stays in /dev/shm until somebody unlinks it: {why}");
            Some(Hit { range: site, message })
        })
        .collect()
}

/// Who has the segment.
enum Owner<'a> {
    /// A variable.
    Name(&'a str),
    /// An attribute.
    Attribute(&'a str),
    /// Code that is not seen: it is returned, or given to something.
    Somebody,
    Nobody,
}

fn owner<'a>(module: &Module<'a>, call: &Call<'a>) -> Owner<'a> {
    use crate::syntax::ast::Stmt;
    let is_whole = |value: &Expr| value.as_call_expr().is_some_and(|value| std::ptr::eq(value, call.expr));
    match call.statement {
        Some(Stmt::Assign(assign)) if is_whole(&assign.value) => match &assign.targets[..] {
            [Expr::Name(name)] if module.scopes[module.function_of(call.scope)].globals.contains(name.id.as_str()) => {
                Owner::Somebody
            }
            [Expr::Name(name)] => Owner::Name(name.id.as_str()),
            [Expr::Attribute(attribute)] => Owner::Attribute(attribute.attr.as_str()),
            _ => Owner::Somebody,
        },
        Some(Stmt::Expr(statement)) if is_whole(&statement.value) => Owner::Nobody,
        _ => Owner::Somebody,
    }
}

fn names_attribute(expr: Option<&Expr>, name: &str) -> bool {
    matches!(expr, Some(Expr::Attribute(attribute)) if attribute.attr.as_str() == name)
}

/// What is missing for a segment in a variable to be unlinked whatever happens.
fn missing_unlink<'a>(module: &Module<'a>, call: &Call<'a>, site: TextRange, name: &str) -> Option<&'static str> {
    let unlinks: Vec<&Call<'_>> = module.calls_on(site, &["unlink"]).collect();
    if is_registered(module, site) {
        return None;
    }
    let by_name = |unlink: &Call<'_>| {
        let receiver = unlink.receiver().and_then(Expr::as_name_expr);
        receiver.is_some_and(|receiver| receiver.id.as_str() == name)
            && module.function_of(unlink.scope) == module.function_of(call.scope)
    };
    if unlinks.is_empty() && module.calls_named("unlink").any(by_name) {
        // The name may also stand for another segment: it is not certain which is unlinked.
        return None;
    }
    if unlinks.is_empty() {
        return (!escapes(module, call, name)).then_some("nothing here unlinks it");
    }
    let is_certain = |unlink: &&Call<'_>| {
        let in_finally = module.enclosing(unlink.place).any(|(_, place)| matches!(place.kind, PlaceKind::Finally));
        // In another function: a fixture, a callback, a method that ends things.
        in_finally || module.function_of(unlink.scope) != module.function_of(call.scope)
    };
    if unlinks.iter().any(is_certain) || escapes(module, call, name) {
        return None;
    }
    let first = unlinks.iter().min_by_key(|unlink| unlink.offset())?;
    let between = module.calls.iter().any(|other| other.offset() > site.end() && module.comes_before(other, first));
    between.then_some("an exception before `unlink()` leaves it behind")
}

/// Whether `unlink` is handed to something that calls it at the end.
fn is_registered(module: &Module<'_>, site: TextRange) -> bool {
    ["callback", "register", "addCleanup", "addfinalizer", "finalize", "push", "enter_context", "closing"]
        .iter()
        .flat_map(|name| module.calls_named(name))
        .flat_map(|call| call.expr.arguments.args.iter())
        .any(|argument| {
            let value = match argument {
                Expr::Attribute(attribute) => &attribute.value,
                other => other,
            };
            module.object(value).is_some_and(|object| object.site == Some(site))
        })
}

/// Whether other code gets the segment itself: it is returned, stored, or given to something that is no process.
fn escapes<'a>(module: &Module<'a>, call: &Call<'a>, name: &str) -> bool {
    let function = module.function_of(call.scope);
    let is_it = |expr: &Expr| expr.as_name_expr().is_some_and(|read| read.id.as_str() == name);
    let within = |expr: &Expr| is_it(expr) || crate::model::elements(expr).is_some_and(|items| items.iter().any(is_it));
    let scope = &module.scopes[function];
    let is_returned = scope.has_yield || scope.returns.iter().any(|value| within(value));
    let is_stored =
        module.stores.iter().any(|store| within(store.value) && module.function_of(store.scope) == function);
    let is_given = module.calls_in(function).any(|other| {
        let arguments = &other.expr.arguments;
        let is_process =
            module.object_made(other).is_some_and(|object| matches!(object.kind, Kind::Process | Kind::Pool));
        !is_process && arguments.args.iter().chain(arguments.keywords.iter().map(|keyword| &keyword.value)).any(within)
    });
    is_returned || is_stored || is_given || scope_nested_reads(module, function, name)
}

/// Whether a function inside this one uses the name: a callback that may do anything.
fn scope_nested_reads(module: &Module<'_>, function: usize, name: &str) -> bool {
    function != 0
        && module.reads.values().any(|(read, read_name)| {
            *read_name == name
                && module.function_of(read.scope) != function
                && module.resolve(name, read.scope) == Some(function)
        })
}

/// The calls that make, or attach to, a segment.
fn segments<'m, 'a>(module: &'m Module<'a>, created: bool) -> impl Iterator<Item = (&'m Call<'a>, TextRange)> {
    module
        .calls_named("SharedMemory")
        .chain(module.calls.iter().filter(|call| call.name() != "SharedMemory"))
        .filter_map(move |call| {
            let object = module
                .object_made(call)
                .filter(|object| object.kind == Kind::SharedMemory && object.class.is_none())?;
            let create = call.argument("create", 1);
            let is_creating = match create {
                Some(Expr::BooleanLiteral(literal)) => literal.value,
                Some(_) => return None,
                None => false,
            };
            (is_creating == created).then_some((call, object.site?))
        })
}

/// FL061.
pub fn unlinked_by_a_guest(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits = Vec::new();
    for (call, site) in segments(module, false) {
        for unlink in module.calls_on(site, &["unlink"]) {
            // To clear away what an earlier run has left is the one good reason.
            let clears = call.parent.is_some_and(|parent| parent.is_attribute_expr())
                || module.enclosing(unlink.place).any(|(_, place)| matches!(place.kind, PlaceKind::Handler(..)));
            if !clears {
                let message =
                    "this process only attached to the segment: whoever still needs it finds it gone".to_owned();
                hits.push(Hit { range: unlink.range(), message });
            }
        }
    }
    hits
}
