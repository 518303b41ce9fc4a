//! From a syntax tree to a module, in one walk.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::syntax::ast::visitor::{Visitor, walk_expr, walk_stmt};
use crate::syntax::ast::{self, Expr, Stmt};
use crate::syntax::{Ranged, TextRange, TextSize};

use super::blocks::range_of;
use super::{Binding, Bound, Call, Method, Module, Place, PlaceId, PlaceKind, Raise, Read, Scope, ScopeId, ScopeKind};

/// Makes a module of its statements.
pub fn build(body: &[Stmt], has_no_file: bool, default_method: Method) -> Module<'_> {
    let module = Module {
        scopes: Vec::new(),
        places: Vec::new(),
        calls: Vec::new(),
        withs: Vec::new(),
        stores: Vec::new(),
        raises: Vec::new(),
        loops: Vec::new(),
        reads: HashMap::new(),
        attributes: Vec::new(),
        stars: Vec::new(),
        has_no_file,
        default_method,
        calls_by_name: HashMap::new(),
        calls_by_range: HashMap::new(),
        calls_by_function: HashMap::new(),
        scopes_by_range: HashMap::new(),
        values: Default::default(),
        depth: Default::default(),
        reaches: Default::default(),
        lineages: Default::default(),
    };
    let mut builder = Builder { module, scope: 0, place: 0, statement: None, parents: Vec::new(), filled: Vec::new() };
    let end = body.last().map_or(TextSize::default(), Ranged::end);
    builder.enter(ScopeKind::Module, TextRange::up_to(end), |builder| builder.visit_body(body));
    let (mut module, filled) = (builder.module, builder.filled);
    for (name, scope, binding) in filled {
        if let Some(scope) = module.resolve(name, scope) {
            let bindings = module.scopes[scope].bindings.entry(name).or_default();
            let at = bindings.partition_point(|other| other.offset < binding.offset);
            bindings.insert(at, binding);
        }
    }
    module.calls.sort_by_key(|call| (call.offset(), call.range().end()));
    for (id, call) in module.calls.iter().enumerate() {
        module.calls_by_name.entry(call.name()).or_default().push(id);
        module.calls_by_range.insert(call.range(), id);
        module.calls_by_function.entry(module.function_of(call.scope)).or_default().push(id);
    }
    module
}

pub(super) struct Builder<'a> {
    pub(super) module: Module<'a>,
    pub(super) scope: ScopeId,
    pub(super) place: PlaceId,
    statement: Option<&'a Stmt>,
    pub(super) parents: Vec<&'a Expr>,
    /// Names of collections that something is put into, and where.
    pub(super) filled: Vec<(&'a str, ScopeId, Binding<'a>)>,
}

impl<'a> Builder<'a> {
    /// Does something in a new scope, whose body is a new block.
    pub(super) fn enter(&mut self, kind: ScopeKind<'a>, range: TextRange, inside: impl FnOnce(&mut Self)) -> ScopeId {
        let id = self.module.scopes.len();
        self.module.scopes.push(Scope {
            kind,
            parent: (id > 0).then_some(self.scope),
            place: self.place,
            bindings: HashMap::new(),
            globals: HashSet::new(),
            attributes: HashMap::new(),
            returns: Vec::new(),
            has_yield: false,
        });
        self.module.scopes_by_range.insert(range, id);
        let outer = std::mem::replace(&mut self.scope, id);
        let kind = if matches!(kind, ScopeKind::Comprehension) { PlaceKind::Loop } else { PlaceKind::Body };
        self.block(kind, range, inside);
        self.scope = outer;
        id
    }

    /// Does something in a new block, and returns that.
    pub(super) fn block(&mut self, kind: PlaceKind<'a>, range: TextRange, inside: impl FnOnce(&mut Self)) -> PlaceId {
        let id = self.module.places.len();
        let parent = (id > 0).then_some(self.place);
        self.module.places.push(Place { parent, scope: self.scope, kind, range });
        let outer = std::mem::replace(&mut self.place, id);
        inside(self);
        self.place = outer;
        id
    }

    pub(super) fn bind(&mut self, name: &'a str, bound: Bound<'a>, offset: TextSize) {
        let scope = if self.module.scopes[self.scope].globals.contains(name) { 0 } else { self.scope };
        let binding = Binding { bound, place: self.place, offset };
        self.module.scopes[scope].bindings.entry(name).or_default().push(binding);
    }

    fn parameters(&mut self, parameters: &'a ast::Parameters) {
        for (number, parameter) in parameters.iter().enumerate() {
            let bound = if parameter.is_variadic() { Bound::Other } else { Bound::Parameter(number) };
            self.bind(parameter.name().as_str(), bound, parameter.name().start());
        }
    }

    fn function(&mut self, function: &'a ast::StmtFunctionDef) {
        for decorator in &function.decorator_list {
            self.visit_expr(&decorator.expression);
        }
        for default in function.parameters.iter_non_variadic_params().filter_map(|parameter| parameter.default()) {
            self.visit_expr(default);
        }
        let id = self.enter(ScopeKind::Function(function), function.range(), |builder| {
            builder.parameters(&function.parameters);
            builder.visit_body(&function.body);
        });
        self.bind(function.name.as_str(), Bound::Function(id), function.name.start());
    }

    fn class(&mut self, class: &'a ast::StmtClassDef) {
        for decorator in &class.decorator_list {
            self.visit_expr(&decorator.expression);
        }
        if let Some(arguments) = &class.arguments {
            self.visit_arguments(arguments);
        }
        let id = self.enter(ScopeKind::Class(class), class.range(), |builder| builder.visit_body(&class.body));
        self.bind(class.name.as_str(), Bound::Class(id), class.name.start());
    }

    fn import_from(&mut self, import: &'a ast::StmtImportFrom) {
        let module = import.module.as_ref().map_or("", |module| module.as_str());
        let from = format!("{}{module}", ".".repeat(import.level as usize));
        for alias in &import.names {
            if alias.name.as_str() == "*" {
                self.module.stars.push(from.as_str().into());
            } else {
                let name = alias.asname.as_ref().unwrap_or(&alias.name);
                let separator = if module.is_empty() { "" } else { "." };
                let path: Rc<str> = format!("{from}{separator}{}", alias.name).into();
                self.bind(name.as_str(), Bound::Import(path), alias.start());
            }
        }
    }

    fn import(&mut self, import: &'a ast::StmtImport) {
        for alias in &import.names {
            let whole = alias.name.as_str();
            let (name, path) = match &alias.asname {
                Some(name) => (name.as_str(), whole),
                None => whole.split_once('.').map_or((whole, whole), |(top, _)| (top, top)),
            };
            self.bind(name, Bound::Import(path.into()), alias.start());
        }
    }

    /// What a statement does beyond what is in it.
    fn note(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.assign_parts(target, &assign.value);
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    self.assign(&assign.target, Bound::Value(value));
                }
            }
            Stmt::Expr(statement) => {
                let Some(call) = statement.value.as_call_expr() else { return };
                if let (Expr::Attribute(method), [item]) = (&*call.func, &*call.arguments.args)
                    && matches!(method.attr.as_str(), "append" | "add" | "appendleft")
                {
                    self.fill(&method.value, item);
                }
            }
            Stmt::AugAssign(assign) => self.assign(&assign.target, Bound::Other),
            Stmt::Return(ast::StmtReturn { value: Some(value), .. }) => {
                let function = self.module.function_of(self.scope);
                self.module.scopes[function].returns.push(value);
            }
            Stmt::Raise(ast::StmtRaise { exc: Some(exception), .. }) => {
                self.module.raises.push(Raise { exception, scope: self.scope });
            }
            _ => {}
        }
    }
}

/// The items of a tuple or list that is written out.
pub fn elements(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(tuple) => Some(&tuple.elts),
        Expr::List(list) => Some(&list.elts),
        _ => None,
    }
}

impl<'a> Visitor<'a> for Builder<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        let outer = self.statement.replace(statement);
        let parents = std::mem::take(&mut self.parents);
        match statement {
            Stmt::FunctionDef(function) => self.function(function),
            Stmt::ClassDef(class) => self.class(class),
            Stmt::Import(import) => self.import(import),
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::If(statement) => self.branches(statement),
            Stmt::Match(statement) => self.cases(statement),
            Stmt::With(statement) => self.with(statement),
            Stmt::Try(statement) => self.attempt(statement),
            Stmt::For(statement) => {
                self.visit_expr(&statement.iter);
                let body = &statement.body;
                self.assign(&statement.target, Bound::Element(&statement.iter));
                let place = self.block(PlaceKind::Loop, range_of(body), |builder| builder.visit_body(body));
                self.module.loops.push((&statement.iter, self.scope, place));
                self.visit_body(&statement.orelse);
            }
            Stmt::While(statement) => {
                let range =
                    TextRange::new(statement.test.start(), range_of(&statement.body).end().max(statement.test.end()));
                self.block(PlaceKind::Loop, range, |builder| {
                    builder.visit_expr(&statement.test);
                    builder.visit_body(&statement.body);
                });
                self.visit_body(&statement.orelse);
            }
            Stmt::Global(global) => {
                let names = global.names.iter().map(|name| name.as_str());
                self.module.scopes[self.scope].globals.extend(names);
            }
            _ => {
                walk_stmt(self, statement);
                self.note(statement);
            }
        }
        self.parents = parents;
        self.statement = outer;
    }

    /// Annotations make no processes.
    fn visit_annotation(&mut self, _: &'a Expr) {}

    fn visit_expr(&mut self, expr: &'a Expr) {
        let parent = self.parents.last().copied();
        self.parents.push(expr);
        match expr {
            Expr::Name(name) if name.ctx.is_load() => {
                let read = Read { scope: self.scope, place: self.place };
                self.module.reads.insert(name.range(), (read, name.id.as_str()));
            }
            Expr::Attribute(attribute) => {
                self.module.attributes.push(attribute);
                walk_expr(self, expr);
            }
            Expr::Call(call) => {
                let (scope, place, statement) = (self.scope, self.place, self.statement);
                self.module.calls.push(Call { expr: call, parent, statement, scope, place });
                walk_expr(self, expr);
            }
            Expr::Lambda(lambda) => {
                self.enter(ScopeKind::Lambda, lambda.range(), |builder| {
                    if let Some(parameters) = &lambda.parameters {
                        builder.parameters(parameters);
                    }
                    builder.module.scopes[builder.scope].returns.push(&lambda.body);
                    builder.visit_expr(&lambda.body);
                });
            }
            Expr::ListComp(ast::ExprListComp { elt, generators, .. })
            | Expr::SetComp(ast::ExprSetComp { elt, generators, .. })
            | Expr::Generator(ast::ExprGenerator { elt, generators, .. }) => {
                self.comprehension(expr, generators, &[elt]);
            }
            Expr::DictComp(comprehension) => {
                let key = comprehension.key.as_deref();
                let results: Vec<&Expr> = key.into_iter().chain([&*comprehension.value]).collect();
                self.comprehension(expr, &comprehension.generators, &results);
            }
            Expr::Named(named) => {
                self.visit_expr(&named.value);
                self.assign(&named.target, Bound::Value(&named.value));
            }
            Expr::Yield(_) | Expr::YieldFrom(_) => {
                let function = self.module.function_of(self.scope);
                self.module.scopes[function].has_yield = true;
                walk_expr(self, expr);
            }
            _ => walk_expr(self, expr),
        }
        self.parents.pop();
    }
}
