//! What an expression can turn out to be.

use std::rc::Rc;

use crate::syntax::TextRange;

use super::{Kind, ScopeId};

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
    pub(super) fn or(self, other: Self) -> Self {
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
