//! What an expression is, as far as it can be known without running it.
//!
//! A name is looked up through its scopes. Where several things may be meant, the answer is what they have in common,
//! which may be nothing: whoever asks is to say less then, not more.

use std::rc::Rc;

use crate::syntax::ast::{self, Expr, Number};
use crate::syntax::{Ranged, TextRange, TextSize};

use super::build::elements;
use super::{Binding, Bound, Call, Kind, Module, PlaceId, ScopeId, ScopeKind, kinds};

/// How far names are followed.
const DEEPEST: usize = 40;

/// How a context starts its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As the program has chosen, or Python has for it.
    Default,
    Fork,
    Spawn,
    Forkserver,
    Unknown,
}

impl Method {
    /// The method of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "fork" => Self::Fork,
            "spawn" => Self::Spawn,
            "forkserver" => Self::Forkserver,
            _ => Self::Unknown,
        }
    }

    /// Whether children import the program again.
    pub fn imports_again(self) -> bool {
        matches!(self, Self::Spawn | Self::Forkserver)
    }

    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Fork => "fork",
            Self::Spawn => "spawn",
            Self::Forkserver => "forkserver",
            Self::Unknown => "unknown",
        }
    }
}

/// An object of a kind that matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub kind: Kind,
    /// The context that it was made with.
    pub method: Method,
    /// The call that makes it, if it is only one.
    pub site: Option<TextRange>,
    /// The class of this module that it is an instance of.
    pub class: Option<ScopeId>,
}

/// What is known about a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Unknown,
    None,
    /// A module, or a name in a module.
    Path(Rc<str>),
    /// A context of `multiprocessing`.
    Context(Method),
    /// A class or function of a context.
    Member(Method, &'a str),
    Object(Object),
    Function(ScopeId),
    Class(ScopeId),
    Instance(ScopeId),
    /// A method of something.
    Bound(Box<Value<'a>>, &'a str),
    /// A collection of these.
    Each(Box<Value<'a>>),
    Tuple(Rc<[Value<'a>]>),
    /// Pairs of a number and one of these, or what else stands in a place of its own in each item.
    Text(Rc<str>),
    Number(i128),
}

impl<'a> Value<'a> {
    /// The object that it is, or that each item of it is.
    pub fn object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Each(item) => item.object(),
            _ => None,
        }
    }

    /// What it is if it is one of both.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::None, value) | (value, Self::None) => value,
            (Self::Object(a), Self::Object(b)) if a.kind == b.kind => Self::Object(Object {
                kind: a.kind,
                method: if a.method == b.method { a.method } else { Method::Unknown },
                site: if a.site == b.site { a.site } else { None },
                class: if a.class == b.class { a.class } else { None },
            }),
            // As far as it matters here, these two are the same.
            (Self::Text(a), Self::Text(b))
                if Method::named(&a).imports_again() && Method::named(&b).imports_again() =>
            {
                Self::Text(a)
            }
            (Self::Context(_), Self::Context(_)) => Self::Context(Method::Unknown),
            (Self::Member(_, a), Self::Member(_, b)) if a == b => Self::Member(Method::Unknown, a),
            (Self::Each(a), Self::Each(b)) => Self::Each(Box::new(a.or(*b))),
            (Self::Tuple(a), Self::Each(b)) | (Self::Each(b), Self::Tuple(a)) if a.is_empty() => Self::Each(b),
            _ => Self::Unknown,
        }
    }
}

impl<'a> Module<'a> {
    /// What an expression is.
    pub fn value(&self, expr: &'a Expr) -> Value<'a> {
        let key = std::ptr::from_ref(expr);
        if let Some(known) = self.values.borrow().get(&key) {
            // None: it is being found out, so it depends on itself.
            return known.clone().unwrap_or(Value::Unknown);
        }
        if self.depth.get() > DEEPEST {
            return Value::Unknown;
        }
        self.values.borrow_mut().insert(key, None);
        self.depth.set(self.depth.get() + 1);
        let value = self.find_out(expr);
        self.depth.set(self.depth.get() - 1);
        self.values.borrow_mut().insert(key, Some(value.clone()));
        value
    }

    /// The dotted name of an imported thing.
    pub fn path(&self, expr: &'a Expr) -> Option<Rc<str>> {
        match self.value(expr) {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    /// The object that an expression is.
    pub fn object(&self, expr: &'a Expr) -> Option<Object> {
        match self.value(expr) {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A method, as it is in force when the program runs.
    pub fn effective(&self, method: Method) -> Method {
        if method == Method::Default { self.default_method } else { method }
    }

    /// A whole number that an expression is, or may be: the largest of several.
    pub fn number(&self, expr: &'a Expr) -> Option<i128> {
        match expr {
            Expr::NumberLiteral(ast::ExprNumberLiteral { value: Number::Int(value), .. }) => {
                value.as_i64().map(i128::from)
            }
            Expr::NumberLiteral(ast::ExprNumberLiteral { value: Number::Float(value), .. }) => Some(*value as i128),
            Expr::BinOp(operation) => {
                let (left, right) = (self.number(&operation.left)?, self.number(&operation.right)?);
                match operation.op {
                    ast::Operator::Add => left.checked_add(right),
                    ast::Operator::Sub => left.checked_sub(right),
                    ast::Operator::Mult => left.checked_mul(right),
                    ast::Operator::FloorDiv | ast::Operator::Div => left.checked_div(right),
                    ast::Operator::Pow => left.checked_pow(u32::try_from(right).ok()?),
                    ast::Operator::LShift => left.checked_mul(1_i128.checked_shl(u32::try_from(right).ok()?)?),
                    _ => None,
                }
            }
            Expr::If(choice) => self.number(&choice.body).max(self.number(&choice.orelse)),
            Expr::Name(_) => match self.value(expr) {
                Value::Number(number) => Some(number),
                _ => None,
            },
            _ => None,
        }
    }

    fn find_out(&self, expr: &'a Expr) -> Value<'a> {
        match expr {
            Expr::Name(name) => self.name(name),
            Expr::Attribute(attribute) => self.attribute(attribute),
            Expr::Call(call) => self.call(call.range()).map_or(Value::Unknown, |call| self.result(call)),
            Expr::NoneLiteral(_) => Value::None,
            Expr::StringLiteral(text) => Value::Text(text.value.to_str().into()),
            Expr::NumberLiteral(_) | Expr::BinOp(_) => self.arithmetic(expr),
            Expr::Tuple(_) | Expr::List(_) => {
                let items = elements(expr).unwrap_or_default();
                if items.len() > 64 || items.iter().any(Expr::is_starred_expr) {
                    return Value::Unknown;
                }
                Value::Tuple(items.iter().map(|item| self.value(item)).collect())
            }
            Expr::ListComp(ast::ExprListComp { elt, .. })
            | Expr::SetComp(ast::ExprSetComp { elt, .. })
            | Expr::Generator(ast::ExprGenerator { elt, .. }) => Value::Each(Box::new(self.value(elt))),
            Expr::DictComp(comprehension) => Value::Each(Box::new(self.value(&comprehension.value))),
            Expr::Subscript(subscript) => match (self.value(&subscript.value), self.number(&subscript.slice)) {
                (Value::Tuple(items), Some(index)) => {
                    usize::try_from(index).ok().and_then(|index| items.get(index).cloned()).unwrap_or(Value::Unknown)
                }
                (collection @ Value::Each(_), _) if subscript.slice.is_slice_expr() => collection,
                (Value::Each(item), _) => *item,
                _ => Value::Unknown,
            },
            Expr::If(choice) => self.value(&choice.body).or(self.value(&choice.orelse)),
            Expr::BoolOp(operation) if operation.op == ast::BoolOp::Or => {
                // `given or default`: an unknown given thing is most likely of the same kind.
                let known = operation.values.iter().map(|value| self.value(value)).filter(|value| *value != Value::Unknown);
                known.reduce(Value::or).unwrap_or(Value::Unknown)
            }
            Expr::Named(named) => self.value(&named.value),
            Expr::Await(awaited) => self.value(&awaited.value),
            Expr::Starred(starred) => self.value(&starred.value),
            Expr::Lambda(lambda) => self.scope_at(lambda.range()).map_or(Value::Unknown, Value::Function),
            _ => Value::Unknown,
        }
    }

    fn arithmetic(&self, expr: &'a Expr) -> Value<'a> {
        if let Some(number) = self.number(expr) {
            return Value::Number(number);
        }
        match expr {
            // `[thing] * 4` has the thing in it.
            Expr::BinOp(ast::ExprBinOp { left, op: ast::Operator::Mult, .. }) => self.value(left),
            _ => Value::Unknown,
        }
    }

    fn scope_at(&self, range: TextRange) -> Option<ScopeId> {
        self.scopes_by_range.get(&range).copied()
    }

    fn name(&self, name: &'a ast::ExprName) -> Value<'a> {
        let Some((read, _)) = self.reads.get(&name.range()) else { return Value::Unknown };
        let id = name.id.as_str();
        let Some(scope) = self.resolve(id, read.scope) else { return self.unbound(id) };
        let bindings = &self.scopes[scope].bindings[id];
        let bindings: &[Binding<'a>] = if self.function_of(scope) == self.function_of(read.scope) {
            self.latest(bindings, name.start(), read.place)
        } else {
            bindings
        };
        self.all_of(bindings.iter().map(|binding| &binding.bound), scope)
    }

    fn all_of<'b>(&self, bounds: impl Iterator<Item = &'b Bound<'a>>, scope: ScopeId) -> Value<'a>
    where
        'a: 'b,
    {
        bounds.map(|bound| self.bound(bound, scope)).reduce(Value::or).unwrap_or(Value::Unknown)
    }

    /// The scope in which a name is bound that is used in this one.
    pub fn resolve(&self, name: &str, from: ScopeId) -> Option<ScopeId> {
        let mut scope = from;
        loop {
            let this = &self.scopes[scope];
            if this.globals.contains(name) {
                return self.scopes[0].bindings.contains_key(name).then_some(0);
            }
            // Methods do not see the names of their class.
            let is_visible = scope == from || !matches!(this.kind, ScopeKind::Class(_));
            if is_visible && this.bindings.contains_key(name) {
                return Some(scope);
            }
            scope = this.parent?;
        }
    }

    /// The bindings that may be in force at a place: the last one that certainly came before, and those after it that may have.
    fn latest<'b>(&self, bindings: &'b [Binding<'a>], offset: TextSize, place: PlaceId) -> &'b [Binding<'a>] {
        let count = bindings.iter().take_while(|binding| binding.offset < offset).count();
        if count == 0 {
            return bindings;
        }
        let before = &bindings[..count];
        let certain = before.iter().rposition(|binding| self.is_within(place, binding.place)).unwrap_or(0);
        &before[certain..]
    }

    fn unbound(&self, name: &'a str) -> Value<'a> {
        for star in &self.stars {
            let path = format!("{star}.{name}");
            if (&**star == "multiprocessing" && kinds::of_multiprocessing(name).is_some())
                || kinds::of_library(&path).is_some()
            {
                return Value::Path(path.into());
            }
        }
        Value::Path(format!("builtins.{name}").into())
    }

    fn bound(&self, bound: &Bound<'a>, scope: ScopeId) -> Value<'a> {
        match bound {
            Bound::Import(path) => Value::Path(normal(path)),
            Bound::Value(value) => self.value(value),
            Bound::Entered(value) => match self.value(value) {
                entered @ (Value::Object(_) | Value::Instance(_)) => entered,
                _ => Value::Unknown,
            },
            Bound::Element(iterated) => self.element(iterated),
            Bound::Item(whole, index) => match self.bound(whole, scope) {
                Value::Tuple(items) => items.get(*index).cloned().unwrap_or(Value::Unknown),
                Value::Each(item) => *item,
                _ => self.item_of_element(whole, *index),
            },
            Bound::Parameter(number) => self.parameter(scope, *number),
            Bound::Function(function) => Value::Function(*function),
            Bound::Class(class) => Value::Class(*class),
            Bound::Other => Value::Unknown,
        }
    }

    /// What `for` gets of a collection.
    fn element(&self, iterated: &'a Expr) -> Value<'a> {
        match self.value(iterated) {
            Value::Each(item) => *item,
            Value::Tuple(items) => items.iter().cloned().reduce(Value::or).unwrap_or(Value::Unknown),
            _ => Value::Unknown,
        }
    }

    /// The parts of what `enumerate`, `zip` and `items` give.
    fn item_of_element(&self, whole: &Bound<'a>, index: usize) -> Value<'a> {
        let Bound::Element(Expr::Call(call)) = whole else { return Value::Unknown };
        let Some(call) = self.call(call.range()) else { return Value::Unknown };
        let argument = |number: usize| call.expr.arguments.args.get(number);
        let found = match (call.name(), index) {
            ("enumerate", 1) => argument(0),
            ("zip", _) => argument(index),
            ("items", 1) => call.receiver(),
            _ => None,
        };
        found.map_or(Value::Unknown, |iterated| self.element(iterated))
    }

    /// What the calls in this module give for a parameter.
    fn parameter(&self, function: ScopeId, number: usize) -> Value<'a> {
        let class = self.class_of(function);
        let ScopeKind::Function(definition) = self.scopes[function].kind else { return Value::Unknown };
        let is_static = definition.decorator_list.iter().any(|decorator| {
            decorator.expression.as_name_expr().is_some_and(|name| name.id.as_str() == "staticmethod")
        });
        let is_method = class.is_some() && !is_static;
        if let (true, 0, Some(class)) = (is_method, number, class) {
            return self.self_of(class);
        }
        let position = number - usize::from(is_method);
        let Some(parameter) = definition.parameters.iter().nth(number) else { return Value::Unknown };
        let given = self.arguments_given(function, class, parameter.name().as_str(), position);
        given.map(|expr| self.value(expr)).reduce(Value::or).unwrap_or(Value::Unknown)
    }

    fn self_of(&self, class: ScopeId) -> Value<'a> {
        match self.base_kind(class) {
            Some((kind, method)) => Value::Object(Object { kind, method, site: None, class: Some(class) }),
            None => Value::Instance(class),
        }
    }

    /// The expressions that calls give for a parameter, also through `target=` and `args=`.
    fn arguments_given(
        &self,
        function: ScopeId,
        class: Option<ScopeId>,
        name: &str,
        position: usize,
    ) -> impl Iterator<Item = &'a Expr> {
        let called = match (class, self.name_of(function)) {
            (Some(class), "__init__") => self.name_of(class),
            (_, name) => name,
        };
        let direct = self
            .calls_named(called)
            .filter(|call| self.callable(&self.value(&call.expr.func)) == Some(function))
            .filter_map(|call| call.argument(name, position));
        let started = self
            .calls_named("Process")
            .chain(self.calls_named("Thread"))
            .filter(|call| {
                let target = call.argument("target", 1);
                target.is_some_and(|target| self.callable(&self.value(target)) == Some(function))
            })
            .filter_map(|call| {
                let keywords = call.argument("kwargs", 4).and_then(Expr::as_dict_expr);
                let named = keywords.and_then(|dict| {
                    dict.items.iter().find_map(|item| match &item.key {
                        Some(Expr::StringLiteral(key)) if key.value.to_str() == name => Some(&item.value),
                        _ => None,
                    })
                });
                named.or_else(|| elements(call.argument("args", 3)?)?.get(position))
            });
        let submitted = self
            .calls_named("submit")
            .filter(|call| {
                let task = call.expr.arguments.args.first();
                task.is_some_and(|task| self.callable(&self.value(task)) == Some(function))
            })
            .filter_map(move |call| call.expr.arguments.args.get(position + 1));
        direct.chain(started).chain(submitted).take(16).collect::<Vec<_>>().into_iter()
    }

    fn attribute(&self, attribute: &'a ast::ExprAttribute) -> Value<'a> {
        let name = attribute.attr.as_str();
        match self.value(&attribute.value) {
            Value::Path(path) => Value::Path(normal(&format!("{path}.{name}"))),
            Value::Context(method) => Value::Member(method, name),
            Value::Instance(class) => self.member(class, name).unwrap_or_else(|| {
                let is_method = self.method(class, name).is_some();
                if is_method { Value::Bound(Box::new(Value::Instance(class)), name) } else { Value::Unknown }
            }),
            Value::Class(class) => match self.method(class, name) {
                Some(function) => Value::Function(function),
                None => self.member(class, name).unwrap_or(Value::Unknown),
            },
            Value::Object(object) => {
                let member = object.class.and_then(|class| self.member(class, name));
                member.unwrap_or_else(|| Value::Bound(Box::new(Value::Object(object)), name))
            }
            collection @ (Value::Each(_) | Value::Tuple(_)) => Value::Bound(Box::new(collection), name),
            _ => Value::Unknown,
        }
    }

    /// What methods and the body of a class store in an attribute.
    fn member(&self, class: ScopeId, name: &str) -> Option<Value<'a>> {
        let scope = &self.scopes[class];
        let stored = scope.attributes.get(name).into_iter().flatten().map(|value| self.value(value));
        let body = scope.bindings.get(name).into_iter().flatten();
        let body = body.filter(|binding| !matches!(binding.bound, Bound::Function(_)));
        let body = body.map(|binding| self.bound(&binding.bound, class));
        let own = stored.chain(body).reduce(Value::or);
        own.or_else(|| {
            let ScopeKind::Class(definition) = scope.kind else { return None };
            definition.bases().iter().find_map(|base| match self.value(base) {
                Value::Class(base) if base != class => self.member(base, name),
                _ => None,
            })
        })
    }

    /// What a class of this module is a kind of.
    fn base_kind(&self, class: ScopeId) -> Option<(Kind, Method)> {
        let ScopeKind::Class(definition) = self.scopes[class].kind else { return None };
        definition.bases().iter().find_map(|base| match self.value(base) {
            Value::Path(path) => made_by(&path),
            Value::Member(method, name) => kinds::of_multiprocessing(name).map(|kind| (kind, method)),
            Value::Class(base) if base != class && self.depth.get() < DEEPEST => {
                self.depth.set(self.depth.get() + 1);
                let kind = self.base_kind(base);
                self.depth.set(self.depth.get() - 1);
                kind
            }
            _ => None,
        })
    }

    /// What a call returns.
    pub(super) fn result(&self, call: &Call<'a>) -> Value<'a> {
        let make = |kind, method| {
            Value::Object(Object { kind, method, site: Some(call.range()), class: None })
        };
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
                let end = Object {
                    kind: Kind::PipeEnd,
                    method: Method::Default,
                    site: Some(call.range()),
                    class: None,
                };
                Value::Tuple([Value::Object(end.clone()), Value::Object(end)].into())
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
fn made_by(path: &str) -> Option<(Kind, Method)> {
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
fn normal(path: &str) -> Rc<str> {
    match path.strip_prefix("torch.multiprocessing") {
        Some(rest) => format!("multiprocessing{rest}").into(),
        None => path.strip_prefix("multiprocessing.context.").filter(|rest| rest.starts_with("get_")).map_or_else(
            || path.into(),
            |rest| format!("multiprocessing.{rest}").into(),
        ),
    }
}
