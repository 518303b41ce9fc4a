//! What a module does with processes: the children it starts, its pools and their tasks, and its forks.

use crate::syntax::TextRange;
use crate::syntax::ast::Expr;

use super::build::elements;
use super::{Call, CallId, Kind, Method, Module, Object, ScopeId, Value};

/// A process that is made, with `Process(...)`.
pub struct Child<'a> {
    pub call: CallId,
    pub object: Object,
    /// What it runs.
    pub target: Option<&'a Expr>,
    pub function: Option<ScopeId>,
    /// What it is given.
    pub arguments: Vec<&'a Expr>,
}

/// A pool or executor of processes that is made.
pub struct PoolMade<'a> {
    pub call: CallId,
    pub object: Object,
    pub initializer: Option<&'a Expr>,
    pub initargs: Vec<&'a Expr>,
}

/// A task that a pool or an executor is given.
pub struct Task<'a> {
    pub call: CallId,
    pub pool: Object,
    /// What is called.
    pub target: &'a Expr,
    pub function: Option<ScopeId>,
    /// What it is called with; for a `map`, what is iterated.
    pub arguments: Vec<&'a Expr>,
    pub is_map: bool,
}

/// A moment in which processes come into being.
pub struct Start {
    pub call: CallId,
    pub method: Method,
    pub what: &'static str,
    /// The `Process(...)` that is started.
    pub child: Option<TextRange>,
    pub is_os_fork: bool,
}

/// All of them.
#[derive(Default)]
pub struct Processes<'a> {
    pub children: Vec<Child<'a>>,
    pub pools: Vec<PoolMade<'a>>,
    pub tasks: Vec<Task<'a>>,
    pub starts: Vec<Start>,
}

impl<'a> Processes<'a> {
    /// Finds them.
    pub fn of(module: &Module<'a>) -> Self {
        let mut found = Self::default();
        for (id, call) in module.calls.iter().enumerate() {
            found.note(module, id, call);
        }
        found
    }

    /// The functions that run in other processes, with how these are started, and where that is said.
    pub fn entries(&self, module: &Module<'a>) -> Vec<(ScopeId, Method, CallId)> {
        let children = self.children.iter().map(|child| (child.function, child.object.method, child.call));
        let tasks = self.tasks.iter().map(|task| (task.function, task.pool.method, task.call));
        let entries = children.chain(tasks);
        entries.filter_map(|(function, method, call)| Some((function?, module.effective(method), call))).collect()
    }

    fn note(&mut self, module: &Module<'a>, id: CallId, call: &Call<'a>) {
        match module.value(&call.expr.func) {
            Value::Path(path) if matches!(&*path, "os.fork" | "os.forkpty" | "pty.fork") => {
                self.starts.push(Start {
                    call: id,
                    method: Method::Fork,
                    what: "os.fork()",
                    child: None,
                    is_os_fork: true,
                });
            }
            Value::Unknown if call.name() == "run_in_executor" => self.note_of_loop(module, id, call),
            Value::Bound(receiver, name) => self.note_method(module, id, call, &receiver, name),
            _ => {}
        }
        if let Some(object) = module.object_made(call) {
            self.note_made(module, id, call, object);
        }
    }

    fn note_made(&mut self, module: &Module<'a>, id: CallId, call: &Call<'a>, object: Object) {
        let method = module.effective(object.method);
        match object.kind {
            Kind::Process => {
                let is_plain = object.class.is_none();
                let target = if is_plain { call.argument("target", 1) } else { None };
                let function = match object.class {
                    Some(class) => module.method(class, "run"),
                    None => target.and_then(|target| module.callable(&module.value(target))),
                };
                let arguments = if is_plain { arguments_of_target(call) } else { all_arguments(call) };
                self.children.push(Child { call: id, object, target, function, arguments });
            }
            Kind::Pool | Kind::Executor => {
                let (initializer, initargs) = match object.kind {
                    Kind::Pool => (call.argument("initializer", 1), call.argument("initargs", 2)),
                    _ => (call.argument("initializer", 2), call.argument("initargs", 3)),
                };
                let initargs = initargs.and_then(elements).unwrap_or_default().iter().collect();
                let what = object.kind.noun();
                self.starts.push(Start { call: id, method, what, child: None, is_os_fork: false });
                self.pools.push(PoolMade { call: id, object, initializer, initargs });
            }
            Kind::Manager => {
                self.starts.push(Start { call: id, method, what: "manager", child: None, is_os_fork: false });
            }
            _ => {}
        }
    }

    /// `loop.run_in_executor(executor, function, *arguments)`.
    fn note_of_loop(&mut self, module: &Module<'a>, id: CallId, call: &Call<'a>) {
        let [executor, target, arguments @ ..] = &*call.expr.arguments.args else { return };
        let Some(pool) = module.object(executor).filter(|pool| pool.kind == Kind::Executor) else { return };
        let function = module.callable(&module.value(target));
        let arguments = arguments.iter().collect();
        self.tasks.push(Task { call: id, pool, target, function, arguments, is_map: false });
    }

    fn note_method(&mut self, module: &Module<'a>, id: CallId, call: &Call<'a>, receiver: &Value<'a>, name: &str) {
        let Value::Object(object) = receiver else { return };
        if (object.kind, name) == (Kind::Process, "start") {
            let method = module.effective(object.method);
            self.starts.push(Start { call: id, method, what: "process", child: object.site, is_os_fork: false });
        } else if let Some((target, arguments)) = submitted(call, object.kind, name) {
            let function = module.callable(&module.value(target));
            let is_map = name.contains("map");
            self.tasks.push(Task { call: id, pool: object.clone(), target, function, arguments, is_map });
        }
    }
}

/// The function that a method of a pool or an executor is given, and with what it is called, or what is iterated.
fn submitted<'a>(call: &Call<'a>, kind: Kind, method: &str) -> Option<(&'a Expr, Vec<&'a Expr>)> {
    match (kind, method) {
        (Kind::Pool, "apply" | "apply_async") => {
            let arguments = call.argument("args", 1).and_then(elements).unwrap_or_default();
            Some((call.argument("func", 0)?, arguments.iter().collect()))
        }
        (Kind::Pool, "map" | "map_async" | "imap" | "imap_unordered" | "starmap" | "starmap_async") => {
            Some((call.argument("func", 0)?, call.argument("iterable", 1).into_iter().collect()))
        }
        (Kind::Executor, "submit" | "map") => {
            let (target, arguments) = call.expr.arguments.args.split_first()?;
            let keywords = call.expr.arguments.keywords.iter();
            let keywords = keywords.filter(|keyword| method == "submit" && keyword.arg.is_some());
            Some((target, arguments.iter().chain(keywords.map(|keyword| &keyword.value)).collect()))
        }
        _ => None,
    }
}

fn arguments_of_target<'a>(call: &Call<'a>) -> Vec<&'a Expr> {
    let args = call.argument("args", 3).and_then(elements).unwrap_or_default().iter();
    let kwargs = call.argument("kwargs", 4).and_then(Expr::as_dict_expr);
    args.chain(kwargs.into_iter().flat_map(|dict| dict.items.iter().map(|item| &item.value))).collect()
}

fn all_arguments<'a>(call: &Call<'a>) -> Vec<&'a Expr> {
    let arguments = &call.expr.arguments;
    arguments.args.iter().chain(arguments.keywords.iter().map(|keyword| &keyword.value)).collect()
}

impl<'a> Module<'a> {
    /// The object that a call makes, if it is the call that makes it.
    pub fn object_made(&self, call: &Call<'a>) -> Option<Object> {
        let func = self.value(&call.expr.func);
        if !matches!(func, Value::Path(_) | Value::Member(..) | Value::Class(_)) {
            return None;
        }
        match self.result(call) {
            Value::Object(object) if object.site == Some(call.range()) => Some(object),
            _ => None,
        }
    }

    /// All objects that are in an expression: items of collections, arguments of `partial`, `zip` and `repeat`.
    pub fn carried(&self, expr: &'a Expr) -> Vec<(Object, TextRange)> {
        let mut found = Vec::new();
        self.carry(expr, &mut found, 6);
        found
    }

    fn carry(&self, expr: &'a Expr, found: &mut Vec<(Object, TextRange)>, depth: usize) {
        if depth == 0 {
            return;
        }
        if let Some(object) = self.value(expr).object() {
            return found.push((object.clone(), crate::syntax::Ranged::range(expr)));
        }
        let mut all = |items: &mut dyn Iterator<Item = &'a Expr>| {
            for item in items {
                self.carry(item, found, depth - 1);
            }
        };
        match expr {
            Expr::Tuple(_) | Expr::List(_) => all(&mut elements(expr).unwrap_or_default().iter()),
            Expr::Dict(dict) => all(&mut dict.items.iter().map(|item| &item.value)),
            Expr::ListComp(comprehension) => all(&mut std::iter::once(&*comprehension.elt)),
            Expr::Generator(comprehension) => all(&mut std::iter::once(&*comprehension.elt)),
            Expr::BinOp(operation) => all(&mut [&*operation.left, &*operation.right].into_iter()),
            Expr::Starred(starred) => all(&mut std::iter::once(&*starred.value)),
            Expr::Call(call) => {
                let path = self.path(&call.func);
                let path = path.as_deref().unwrap_or("");
                if matches!(path, "functools.partial" | "itertools.repeat" | "builtins.zip" | "builtins.list") {
                    all(&mut call.arguments.args.iter());
                    all(&mut call.arguments.keywords.iter().map(|keyword| &keyword.value));
                }
            }
            _ => {}
        }
    }

    /// The calls of a method of an object that one call makes.
    pub fn calls_on<'b>(&'b self, site: TextRange, names: &'b [&str]) -> impl Iterator<Item = &'b Call<'a>> {
        let calls = names.iter().flat_map(|name| self.calls_named(name));
        calls.filter(move |call| {
            call.receiver()
                .is_some_and(|receiver| self.value(receiver).object().is_some_and(|object| object.site == Some(site)))
        })
    }
}
