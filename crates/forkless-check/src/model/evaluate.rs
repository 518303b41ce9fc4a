//! What an expression is, as far as it can be known without running it.
//!
//! A name is looked up through its scopes. Where several things may be meant, the answer is what they have in common,
//! which may be nothing: whoever asks is to say less then, not more.

use std::rc::Rc;

use crate::syntax::ast::{self, Expr, Number};
use crate::syntax::{Ranged, TextRange, TextSize};

use super::build::elements;
use super::results::normal;
use super::{Binding, Bound, Method, Module, Object, PlaceId, ScopeId, ScopeKind, Value, kinds};

/// How many things a name may stand for.
const MOST: usize = 64;
/// How far names are followed.
const DEEPEST: usize = 40;

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
            Expr::Dict(dict) if dict.is_empty() => Value::Tuple([].into()),
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
                let known =
                    operation.values.iter().map(|value| self.value(value)).filter(|value| *value != Value::Unknown);
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
        if bindings.len() > MOST {
            return Value::Unknown;
        }
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

    /// The bindings that may be in force at a place: the last one that certainly came before, and those after it that
    /// may have.
    fn latest<'b>(&self, bindings: &'b [Binding<'a>], offset: TextSize, place: PlaceId) -> &'b [Binding<'a>] {
        let count = bindings.iter().take_while(|binding| binding.offset < offset).count();
        if count == 0 {
            return bindings;
        }
        let before = &bindings[..count];
        let replaces =
            |binding: &Binding<'a>| !matches!(binding.bound, Bound::Filled(_)) && self.is_within(place, binding.place);
        let certain = before.iter().rposition(replaces).unwrap_or(0);
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

    pub(super) fn bound(&self, bound: &Bound<'a>, scope: ScopeId) -> Value<'a> {
        match bound {
            Bound::Import(path) => Value::Path(normal(path)),
            Bound::Value(value) => self.value(value),
            Bound::Filled(item) => Value::Each(Box::new(self.value(item))),
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
}
