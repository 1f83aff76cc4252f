//! Values. Lists and maps are values, too: assigning or passing one copies it (lazily), so no program can build a cycle
//! or change a list behind another's back.
//!
//! Nesting is bounded by [`MAX_NESTING`]; walks over values carry a budget, since shared parts can make a small value
//! look exponentially large.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::print::quote;

/// Lists in lists (and maps) at most.
pub const MAX_NESTING: u32 = 64;

#[derive(Clone)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Str(Arc<str>),
    List(Arc<List>),
    Map(Arc<Map>),
}

#[derive(Clone, Default)]
pub struct List {
    pub(super) items: Vec<Value>,
    pub(super) nesting: u32,
}

/// Ordered by key, so that every walk over a map is the same.
#[derive(Clone, Default)]
pub struct Map {
    pub(super) items: BTreeMap<Key, Value>,
    pub(super) nesting: u32,
}

/// What can be a map's key: whole numbers, booleans, strings, and flat lists of these (at most 16 items, 1,024 bytes).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
}

impl Key {
    pub(super) fn from(v: &Value) -> Option<Self> {
        Some(match v {
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(n) => Key::Int(*n),
            Value::Str(s) if s.len() <= 1024 => Key::Str(s.clone()),
            Value::List(l) if l.items.len() <= 16 => {
                let parts: Option<Vec<Key>> =
                    l.items.iter().map(|i| if matches!(i, Value::List(_)) { None } else { Key::from(i) }).collect();
                let parts = parts?;
                let bytes: usize = parts.iter().map(|k| if let Key::Str(s) = k { s.len() } else { 8 }).sum();
                if bytes > 1024 {
                    return None;
                }
                Key::Tuple(parts)
            }
            _ => return None,
        })
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(n) => Value::Int(*n),
            Key::Str(s) => Value::Str(s.clone()),
            Key::Tuple(parts) => Value::list(parts.iter().map(Key::value).collect()),
        }
    }

    /// Steps that a comparison with this key is charged.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Key::Str(s) => 1 + s.len() as u64 / 16,
            Key::Tuple(parts) => parts.iter().map(Key::cost).sum(),
            _ => 1,
        }
    }
}

impl Value {
    pub fn str(s: &str) -> Self {
        Value::Str(s.into())
    }

    /// A list; nesting deeper than a program could make is cut by the interpreter, not here.
    pub fn list(items: Vec<Value>) -> Self {
        let nesting = items.iter().map(Value::nesting).max().unwrap_or(0) + 1;
        Value::List(Arc::new(List { items, nesting }))
    }

    /// A map; `None` if one of the keys cannot be a key.
    pub fn map(pairs: impl IntoIterator<Item = (Value, Value)>) -> Option<Self> {
        let items: BTreeMap<Key, Value> =
            pairs.into_iter().map(|(k, v)| Some((Key::from(&k)?, v))).collect::<Option<_>>()?;
        let nesting = items.values().map(Value::nesting).max().unwrap_or(0) + 1;
        Some(Value::Map(Arc::new(Map { items, nesting })))
    }

    pub(super) fn nesting(&self) -> u32 {
        match self {
            Value::List(l) => l.nesting,
            Value::Map(m) => m.nesting,
            _ => 0,
        }
    }

    /// A copy that shares no list or map with this one, cut where `parts` runs out.
    pub(super) fn detached(&self, parts: &mut usize) -> Value {
        match self {
            Value::List(l) => {
                let mut items = vec![];
                for i in &l.items {
                    if *parts == 0 {
                        break;
                    }
                    *parts -= 1;
                    items.push(i.detached(parts));
                }
                Value::List(Arc::new(List { items, nesting: l.nesting }))
            }
            Value::Map(m) => {
                let mut items = BTreeMap::new();
                for (k, i) in &m.items {
                    if *parts == 0 {
                        break;
                    }
                    *parts -= 1;
                    items.insert(k.clone(), i.detached(parts));
                }
                Value::Map(Arc::new(Map { items, nesting: m.nesting }))
            }
            _ => self.clone(),
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(n) = self { Some(*n) } else { None }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = self { Some(*b) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(s) = self { Some(s) } else { None }
    }

    pub fn items(&self) -> Option<&[Value]> {
        if let Value::List(l) = self { Some(&l.items) } else { None }
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Value::None => "none",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    /// The text a program would write for it, cut after about `bytes`.
    pub fn text(&self, bytes: usize) -> String {
        let mut out = String::new();
        if !write(self, bytes, &mut out) {
            out.push('…');
        }
        out
    }
}

/// False where the budget ran out.
pub(super) fn write(v: &Value, bytes: usize, out: &mut String) -> bool {
    if out.len() > bytes {
        return false;
    }
    match v {
        Value::None => out.push_str("none"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Str(s) => {
            if s.len() > bytes {
                let cut: String = s.chars().take(bytes / 4).collect();
                quote(&cut, out);
                return false;
            }
            quote(s, out);
        }
        Value::List(l) => {
            out.push('[');
            for (i, item) in l.items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                if !write(item, bytes, out) {
                    return false;
                }
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            for (i, (k, item)) in m.items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                if !write(&k.value(), bytes, out) {
                    return false;
                }
                out.push_str(": ");
                if !write(item, bytes, out) {
                    return false;
                }
            }
            out.push('}');
        }
    }
    out.len() <= bytes
}

/// Are two values equal? Takes one from the budget per part; `None` where it ran out.
pub(super) fn equal(a: &Value, b: &Value, budget: &mut u64) -> Option<bool> {
    *budget = budget.checked_sub(1)?;
    Some(match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => {
            *budget = budget.checked_sub(a.len().min(b.len()) as u64 / 16)?;
            a == b
        }
        (Value::List(a), Value::List(b)) => {
            if Arc::ptr_eq(a, b) {
                return Some(true);
            }
            if a.items.len() != b.items.len() {
                return Some(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, budget)? {
                    return Some(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if Arc::ptr_eq(a, b) {
                return Some(true);
            }
            if a.items.len() != b.items.len() {
                return Some(false);
            }
            for ((ka, a), (kb, b)) in a.items.iter().zip(&b.items) {
                *budget = budget.checked_sub(ka.cost())?;
                if ka != kb || !equal(a, b, budget)? {
                    return Some(false);
                }
            }
            true
        }
        _ => false,
    })
}

pub(super) enum NoOrder {
    Budget,
    /// Kinds that have no order between them.
    Kinds,
}

/// The order of two numbers, strings, booleans, or lists of these.
pub(super) fn compare(a: &Value, b: &Value, budget: &mut u64) -> Result<Ordering, NoOrder> {
    *budget = budget.checked_sub(1).ok_or(NoOrder::Budget)?;
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Str(a), Value::Str(b)) => {
            *budget = budget.checked_sub(a.len().min(b.len()) as u64 / 16).ok_or(NoOrder::Budget)?;
            a.cmp(b)
        }
        (Value::List(a), Value::List(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                let order = compare(a, b, budget)?;
                if order != Ordering::Equal {
                    return Ok(order);
                }
            }
            a.items.len().cmp(&b.items.len())
        }
        _ => return Err(NoOrder::Kinds),
    })
}

/// Equal within ten million parts; larger values count as different.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        equal(self, other, &mut 10_000_000) == Some(true)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(1000))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(100_000))
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::str(s)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::list(items.into_iter().map(Into::into).collect())
    }
}
