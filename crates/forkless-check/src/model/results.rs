//! What calls return.

use std::rc::Rc;

use crate::syntax::TextRange;
use crate::syntax::ast::Expr;

use super::{Call, Kind, Method, Module, Object, ScopeId, Value, kinds};

impl<'a> Module<'a> {
    /// What a call returns.
    pub(super) fn result(&self, call: &Call<'a>) -> Value<'a> {
        let make = |kind, method| Value::Object(Object { kind, method, site: Some(call.range()), class: None });
        match self.value(&call.expr.func) {
            Value::Path(path) => self.result_of_path(&path, call).unwrap_or_else(|| match made_by(&path) {
                Some((Kind::Executor, _)) => make(Kind::Executor, self.method_given(call.argument("mp_context", 1))),
                Some((kind @ (Kind::Pool | Kind::Queue), _)) if path.matches('.').count() > 1 => {
                    let context = call.argument("context", 4).or_else(|| call.argument("ctx", 1));
                    make(kind, self.method_given(context))
                }
                Some((kind, method)) => make(kind, method),
                None => Value::Unknown,
            }),
            Value::Member(method, "get_context") if call.expr.arguments.is_empty() => Value::Context(method),
            Value::Member(_, "get_context") => Value::Context(self.method_given(call.argument("method", 0))),
            Value::Member(method, "Pipe") => pipe(method, call.range()),
            Value::Member(method, name) => {
                kinds::of_multiprocessing(name).map_or(Value::Unknown, |kind| make(kind, method))
            }
            Value::Class(class) => match self.base_kind(class) {
                Some((kind, method)) => {
                    Value::Object(Object { kind, method, site: Some(call.range()), class: Some(class) })
                }
                None => Value::Instance(class),
            },
            Value::Function(function) => self.returned(function),
            Value::Bound(receiver, name) => self.result_of_method(&receiver, name, call),
            _ => Value::Unknown,
        }
    }

    fn result_of_path(&self, path: &str, call: &Call<'a>) -> Option<Value<'a>> {
        let first = call.expr.arguments.args.first();
        Some(match path {
            "multiprocessing.get_context" => match call.argument("method", 0) {
                Some(method) => Value::Context(self.method_given(Some(method))),
                None => Value::Context(Method::Default),
            },
            "multiprocessing.Pipe" | "multiprocessing.connection.Pipe" => pipe(Method::Default, call.range()),
            "os.pipe" => {
                let end =
                    Object { kind: Kind::PipeEnd, method: Method::Default, site: Some(call.range()), class: None };
                Value::Tuple([Value::Object(end.clone()), Value::Object(end)].into())
            }
            "builtins.list" | "builtins.dict" | "builtins.set" | "collections.deque" | "collections.defaultdict"
                if first.is_none() =>
            {
                Value::Tuple([].into())
            }
            "functools.partial" | "contextlib.closing" | "builtins.list" | "builtins.tuple" | "builtins.sorted"
            | "builtins.reversed" | "builtins.iter" | "builtins.set" => self.value(first?),
            _ => return None,
        })
    }

    fn result_of_method(&self, receiver: &Value<'a>, name: &str, call: &Call<'a>) -> Value<'a> {
        let make = |kind, method| Value::Object(Object { kind, method, site: Some(call.range()), class: None });
        let (kind, method) = match receiver {
            Value::Object(object) => (object.kind, object.method),
            Value::Each(_) if matches!(name, "values" | "copy") => return receiver.clone(),
            Value::Each(item) if matches!(name, "pop" | "get" | "popleft") => return (**item).clone(),
            Value::Instance(class) => {
                return self.method(*class, name).map_or(Value::Unknown, |function| self.returned(function));
            }
            _ => return Value::Unknown,
        };
        match (kind, name) {
            (Kind::Manager, _) => make(Kind::Proxy, method),
            (Kind::Pool, "apply_async" | "map_async" | "starmap_async") => make(Kind::AsyncResult, method),
            (Kind::Pool, "imap" | "imap_unordered") => make(Kind::LazyResult, method),
            (Kind::Executor, "submit") => make(Kind::Future, method),
            (_, "__enter__") => receiver.clone(),
            _ => Value::Unknown,
        }
    }

    /// What a function returns, if it is not a generator.
    fn returned(&self, function: ScopeId) -> Value<'a> {
        let scope = &self.scopes[function];
        if scope.has_yield {
            return Value::Unknown;
        }
        scope.returns.iter().map(|value| self.value(value)).reduce(Value::or).unwrap_or(Value::None)
    }

    /// The start method of a context, or of its name.
    fn method_given(&self, given: Option<&'a Expr>) -> Method {
        let Some(given) = given else { return Method::Default };
        match self.value(given) {
            Value::Context(method) => method,
            Value::Text(name) => Method::named(&name),
            Value::None => Method::Default,
            Value::Path(path) if &*path == "multiprocessing" => Method::Default,
            _ => Method::Unknown,
        }
    }
}

fn pipe<'a>(method: Method, site: TextRange) -> Value<'a> {
    let end = Value::Object(Object { kind: Kind::Connection, method, site: Some(site), class: None });
    Value::Tuple([end.clone(), end].into())
}

/// What calling an imported name makes.
pub(super) fn made_by(path: &str) -> Option<(Kind, Method)> {
    if let Some(kind) = kinds::of_library(path) {
        return Some((kind, Method::Default));
    }
    let name = path.strip_prefix("multiprocessing.")?;
    if let Some(kind) = kinds::of_multiprocessing(name) {
        return Some((kind, Method::Default));
    }
    match name {
        "context.ForkProcess" => Some((Kind::Process, Method::Fork)),
        "context.SpawnProcess" => Some((Kind::Process, Method::Spawn)),
        "context.ForkServerProcess" => Some((Kind::Process, Method::Forkserver)),
        "context.Process" => Some((Kind::Process, Method::Default)),
        _ => {
            let kind = kinds::of_multiprocessing(name.strip_prefix("synchronize.")?)?;
            Some((kind, Method::Unknown))
        }
    }
}

/// One name for what has several.
pub(super) fn normal(path: &str) -> Rc<str> {
    match path.strip_prefix("torch.multiprocessing") {
        Some(rest) => format!("multiprocessing{rest}").into(),
        None => path
            .strip_prefix("multiprocessing.context.")
            .filter(|rest| rest.starts_with("get_"))
            .map_or_else(|| path.into(), |rest| format!("multiprocessing.{rest}").into()),
    }
}
