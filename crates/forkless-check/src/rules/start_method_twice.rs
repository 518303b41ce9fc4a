//! `start-method-twice`: the start method of a program can be set only once.

use crate::model::{Call, Method, PlaceKind, Value};
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL030.
pub fn set_twice(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let setters: Vec<&Call<'_>> = module
        .calls_named("set_start_method")
        .filter(|call| module.path(&call.expr.func).as_deref() == Some("multiprocessing.set_start_method"))
        .filter(|call| !is_exempt(facts, call))
        .collect();
    let mut hits: Vec<Hit> = Vec::new();
    for (number, setter) in setters.iter().enumerate() {
        let function = module.function_of(setter.scope);
        let why = if module.is_in_loop(setter.place) {
            Some("in a loop it is set again and again".to_owned())
        } else if matches!(module.name_of(function), "__init__" | "__new__" | "__post_init__")
            && module.class_of(function).is_some()
        {
            Some("a constructor runs once for each object, and the second one fails".to_owned())
        } else if module.is_at_import(setter) && imports_again(facts, setter) {
            Some("children import this module and set it again".to_owned())
        } else {
            setters[..number]
                .iter()
                .find(|earlier| both_run(facts, earlier, setter))
                .map(|earlier| format!("it has already been set, in line {}", facts.line_of(earlier.range())))
        };
        if let Some(why) = why {
            let message = format!("`set_start_method` works once in a program, then it raises RuntimeError: {why}");
            hits.push(Hit { range: setter.range(), message });
        }
    }
    hits
}

fn imports_again<'a>(facts: &Facts<'a>, setter: &Call<'a>) -> bool {
    let method = setter.argument("method", 0).map(|method| facts.module.value(method));
    let method =
        method.and_then(|method| if let Value::Text(name) = method { Some(Method::named(&name)) } else { None });
    method.is_some_and(Method::imports_again)
}

/// Whether it can be set before by others without harm.
fn is_exempt<'a>(facts: &Facts<'a>, setter: &Call<'a>) -> bool {
    let module = &facts.module;
    let force = setter.argument("force", 1);
    let is_forced = force.is_some_and(|force| !matches!(force, Expr::BooleanLiteral(literal) if !literal.value));
    let is_tested = module.enclosing(setter.place).any(|(_, place)| match place.kind {
        PlaceKind::Branch { test, before, .. } => [test, before].into_iter().flatten().any(|test| asks(facts, test)),
        _ => false,
    });
    is_forced || is_tested || module.catches(setter.place, &["RuntimeError", "Exception", "BaseException"])
}

/// Whether a test asks which method is set.
fn asks<'a>(facts: &Facts<'a>, test: &'a Expr) -> bool {
    let is_asked = |call: &Call<'_>| call.name() == "get_start_method";
    let range = crate::syntax::Ranged::range(test);
    let module = &facts.module;
    let directly = module.calls_named("get_start_method").any(|call| range.contains_range(call.range()));
    let by_name = module.reads.iter().any(|(read, (_, name))| {
        range.contains_range(*read)
            && module.scopes.iter().flat_map(|scope| scope.bindings.get(name)).flatten().any(|binding| {
                match binding.bound {
                    crate::model::Bound::Value(Expr::Call(call)) => {
                        module.call(crate::syntax::Ranged::range(call)).is_some_and(is_asked)
                    }
                    _ => false,
                }
            })
    });
    directly || by_name
}

/// Whether a program can come by both.
fn both_run<'a>(facts: &Facts<'a>, one: &Call<'a>, other: &Call<'a>) -> bool {
    let module = &facts.module;
    let (first, second) = (module.function_of(one.scope), module.function_of(other.scope));
    if first == second {
        return module.comes_before(one, other);
    }
    let runs_both = |caller: usize, own: &Call<'_>, function: usize| {
        module.calls_in(caller).any(|call| {
            !module.are_exclusive(call.place, own.place)
                && module
                    .callable(&module.value(&call.expr.func))
                    .is_some_and(|callee| module.reachable(callee).contains(&function))
        })
    };
    runs_both(first, one, second) || runs_both(second, other, first)
}
