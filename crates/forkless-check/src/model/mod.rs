//! What a module is made of: scopes and what they bind, blocks, calls, and where each of them stands.

mod assign;
mod blocks;
mod build;
mod evaluate;
pub mod flow;
pub mod kinds;
mod members;
pub mod processes;
mod reach;
mod results;
mod value;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::syntax::ast::{self, Expr, Stmt};
use crate::syntax::{TextRange, TextSize};

pub use build::{build, elements};
pub use kinds::Kind;
pub use value::{Method, Object, Value};

/// The number of a scope.
pub type ScopeId = usize;
/// The number of a block.
pub type PlaceId = usize;
/// The number of a call.
pub type CallId = usize;

/// A namespace.
pub struct Scope<'a> {
    pub kind: ScopeKind<'a>,
    pub parent: Option<ScopeId>,
    /// The block that the definition stands in.
    pub place: PlaceId,
    pub bindings: HashMap<&'a str, Vec<Binding<'a>>>,
    /// Names that are declared `global`.
    pub globals: HashSet<&'a str>,
    /// Of a class: what its methods and its body store in attributes.
    pub attributes: HashMap<&'a str, Vec<Bound<'a>>>,
    pub returns: Vec<&'a Expr>,
    pub has_yield: bool,
}

/// What a scope belongs to.
#[derive(Clone, Copy)]
pub enum ScopeKind<'a> {
    Module,
    Class(&'a ast::StmtClassDef),
    Function(&'a ast::StmtFunctionDef),
    Lambda,
    Comprehension,
}

/// One way in which a name gets a value.
pub struct Binding<'a> {
    pub bound: Bound<'a>,
    pub place: PlaceId,
    pub offset: TextSize,
}

/// What a name is bound to.
#[derive(Clone)]
pub enum Bound<'a> {
    /// The module or the name in a module that an import statement names.
    Import(Rc<str>),
    /// The value of an expression.
    Value(&'a Expr),
    /// A collection that now has this in it.
    Filled(&'a Expr),
    /// What `with` gets from an expression.
    Entered(&'a Expr),
    /// One of what an expression gives when it is iterated.
    Element(&'a Expr),
    /// The item with this number of another thing.
    Item(Box<Bound<'a>>, usize),
    /// The parameter with this number.
    Parameter(usize),
    Function(ScopeId),
    Class(ScopeId),
    Other,
}

/// A block of statements, in the blocks that it is in.
pub struct Place<'a> {
    pub parent: Option<PlaceId>,
    pub scope: ScopeId,
    pub kind: PlaceKind<'a>,
    pub range: TextRange,
}

/// Why a block is there.
#[derive(Clone, Copy)]
pub enum PlaceKind<'a> {
    /// The body of a module, class, function or lambda.
    Body,
    /// One of several: of `if`, `elif`, `else`, `case`. The test is that of this branch.
    Branch {
        of: TextRange,
        index: usize,
        test: Option<&'a Expr>,
        before: Option<&'a Expr>,
        body: &'a [Stmt],
    },
    Loop,
    With(&'a ast::StmtWith),
    Try(&'a ast::StmtTry),
    Handler(&'a ast::StmtTry, &'a ast::ExceptHandlerExceptHandler),
    Else(&'a ast::StmtTry),
    Finally,
}

/// A call, and where it is.
pub struct Call<'a> {
    pub expr: &'a ast::ExprCall,
    /// The expression that it is directly part of.
    pub parent: Option<&'a Expr>,
    /// The innermost statement that it is part of, as a whole.
    pub statement: Option<&'a Stmt>,
    pub scope: ScopeId,
    pub place: PlaceId,
}

impl<'a> Call<'a> {
    /// Where it starts.
    pub fn offset(&self) -> TextSize {
        self.range().start()
    }

    /// Where it is.
    pub fn range(&self) -> TextRange {
        crate::syntax::Ranged::range(self.expr)
    }

    /// The name that is called: that of a function, or of an attribute.
    pub fn name(&self) -> &'a str {
        match &*self.expr.func {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => "",
        }
    }

    /// What the method is called of, if it is one.
    pub fn receiver(&self) -> Option<&'a Expr> {
        self.expr.func.as_attribute_expr().map(|attribute| &*attribute.value)
    }

    /// An argument, by its name or its position.
    pub fn argument(&self, name: &str, position: usize) -> Option<&'a Expr> {
        let arguments = &self.expr.arguments;
        let starred = arguments.args.iter().take(position + 1).any(Expr::is_starred_expr);
        match arguments.find_keyword(name) {
            Some(keyword) => Some(&keyword.value),
            None if starred => None,
            None => arguments.args.get(position),
        }
    }
}

/// A name that is read, and where.
#[derive(Clone, Copy)]
pub struct Read {
    pub scope: ScopeId,
    pub place: PlaceId,
}

/// `thing.attribute = value`.
pub struct Store<'a> {
    pub target: &'a ast::ExprAttribute,
    pub value: &'a Expr,
    pub scope: ScopeId,
}

/// One item of a `with` statement.
pub struct With<'a> {
    pub item: &'a ast::WithItem,
    pub scope: ScopeId,
    /// The block that it heads.
    pub body: PlaceId,
}

/// `raise` something.
pub struct Raise<'a> {
    pub exception: &'a Expr,
    pub scope: ScopeId,
}

/// A whole module.
pub struct Module<'a> {
    pub scopes: Vec<Scope<'a>>,
    pub places: Vec<Place<'a>>,
    /// In the order in which they stand in the source.
    pub calls: Vec<Call<'a>>,
    pub withs: Vec<With<'a>>,
    pub stores: Vec<Store<'a>>,
    pub raises: Vec<Raise<'a>>,
    pub loops: Vec<(&'a Expr, ScopeId, PlaceId)>,
    /// Names that are read, by where they stand.
    pub reads: HashMap<TextRange, (Read, &'a str)>,
    /// All attributes that are taken.
    pub attributes: Vec<&'a ast::ExprAttribute>,
    /// Modules whose names are all imported.
    pub stars: Vec<Rc<str>>,
    /// Whether children could not import it: a notebook, or standard input.
    pub has_no_file: bool,
    /// The start method of a program that asks for none.
    pub default_method: Method,
    calls_by_name: HashMap<&'a str, Vec<CallId>>,
    calls_by_range: HashMap<TextRange, CallId>,
    calls_by_function: HashMap<ScopeId, Vec<CallId>>,
    scopes_by_range: HashMap<TextRange, ScopeId>,
    values: RefCell<HashMap<*const Expr, Option<Value<'a>>>>,
    depth: std::cell::Cell<usize>,
    reaches: RefCell<HashMap<ScopeId, Rc<[ScopeId]>>>,
    lineages: RefCell<HashMap<ScopeId, Rc<[ScopeId]>>>,
}

impl<'a> Module<'a> {
    /// The calls of a function or attribute of this name.
    pub fn calls_named(&self, name: &str) -> impl Iterator<Item = &Call<'a>> {
        self.calls_by_name.get(name).into_iter().flatten().map(|id| &self.calls[*id])
    }

    /// The call that is this expression.
    pub fn call(&self, range: TextRange) -> Option<&Call<'a>> {
        self.calls_by_range.get(&range).map(|id| &self.calls[*id])
    }

    /// The calls in a function, those in comprehensions in it included.
    pub fn calls_in(&self, function: ScopeId) -> impl Iterator<Item = &Call<'a>> {
        self.calls_by_function.get(&function).into_iter().flatten().map(|id| &self.calls[*id])
    }

    /// The function, lambda or module whose code a scope's code is part of.
    pub fn function_of(&self, scope: ScopeId) -> ScopeId {
        match (self.scopes[scope].kind, self.scopes[scope].parent) {
            (ScopeKind::Comprehension | ScopeKind::Class(_), Some(parent)) => self.function_of(parent),
            _ => scope,
        }
    }

    /// The class that a function is a method of.
    pub fn class_of(&self, scope: ScopeId) -> Option<ScopeId> {
        let parent = self.scopes[self.function_of(scope)].parent?;
        matches!(self.scopes[parent].kind, ScopeKind::Class(_)).then_some(parent)
    }

    /// A method of a class of this module, its own or inherited.
    pub fn method(&self, class: ScopeId, name: &str) -> Option<ScopeId> {
        self.lineage(class).iter().find_map(|class| match self.scopes[*class].bindings.get(name)?.last()?.bound {
            Bound::Function(function) => Some(function),
            _ => None,
        })
    }

    /// The same module, with the start method that it chooses as its default.
    #[must_use]
    pub fn with_default_method(mut self) -> Self {
        let setters = self
            .calls_named("set_start_method")
            .filter(|call| self.path(&call.expr.func).as_deref() == Some("multiprocessing.set_start_method"));
        let mut chosen = None;
        for setter in setters {
            let method = setter.argument("method", 0).map(|method| self.value(method));
            let method = match method {
                Some(Value::Text(name)) => Method::named(&name),
                _ => Method::Unknown,
            };
            // What depends on a condition may not be so.
            let is_certain = !self.enclosing_in_function(setter.place).any(|(_, place)| {
                matches!(place.kind, PlaceKind::Branch { .. } | PlaceKind::Handler(..)) && !self.is_guard(place)
            });
            let method = if is_certain { method } else { Method::Unknown };
            chosen = Some(if chosen.is_none_or(|before| before == method) { method } else { Method::Unknown });
        }
        self.default_method = chosen.unwrap_or(self.default_method);
        self
    }

    /// What a function is called, for messages.
    pub fn name_of(&self, scope: ScopeId) -> &'a str {
        match self.scopes[scope].kind {
            ScopeKind::Function(function) => function.name.as_str(),
            ScopeKind::Class(class) => class.name.as_str(),
            ScopeKind::Lambda => "<lambda>",
            ScopeKind::Module | ScopeKind::Comprehension => "the module",
        }
    }
}
