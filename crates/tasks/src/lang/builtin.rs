//! The functions every program has.

use std::sync::Arc;

use super::interp::Vm;
use super::run::FaultKind;
use super::value::{Key, List, NoOrder, Value, compare};

type Done = Result<Value, (FaultKind, String)>;

macro_rules! builtins {
    ($($variant:ident $name:literal $least:literal..=$most:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Builtin { $($variant),* }

        impl Builtin {
            pub(super) fn named(name: &str) -> Option<Self> {
                Some(match name { $($name => Self::$variant,)* _ => return None })
            }

            /// Fewest and most arguments.
            pub(super) fn arity(self) -> (u32, u32) {
                match self { $(Self::$variant => ($least, $most)),* }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        /// The names of the functions every program has.
        pub const BUILTINS: &[&str] = &[$($name),*];
    };
}

builtins! {
    Abs "abs" 1..=1,
    Chars "chars" 1..=1,
    Chr "chr" 1..=1,
    Get "get" 2..=3,
    Int "int" 1..=1,
    Join "join" 2..=2,
    Keys "keys" 1..=1,
    Len "len" 1..=1,
    Max "max" 1..=8,
    Min "min" 1..=8,
    Ord "ord" 1..=1,
    Pow "pow" 2..=2,
    Print "print" 0..=8,
    Range "range" 1..=3,
    Reversed "reversed" 1..=1,
    Slice "slice" 2..=3,
    Sorted "sorted" 1..=1,
    Split "split" 1..=2,
    Str "str" 1..=1,
    Sum "sum" 1..=1,
    Type "type" 1..=1,
    Values "values" 1..=1,
}

fn fault<T>(kind: FaultKind, what: impl Into<String>) -> Result<T, (FaultKind, String)> {
    Err((kind, what.into()))
}

fn overflow<T>() -> Result<T, (FaultKind, String)> {
    fault(FaultKind::Overflow, "the result does not fit into 64 bits")
}

/// The numbers that `range` with these arguments runs through: first, bound, stride.
pub(super) fn range_of(args: &[Value]) -> Result<(i64, i64, i64), (FaultKind, String)> {
    let ints: Option<Vec<i64>> = args.iter().map(Value::as_int).collect();
    match ints.as_deref() {
        Some([n]) => Ok((0, *n, 1)),
        Some([a, b]) => Ok((*a, *b, 1)),
        Some([a, b, step]) if *step != 0 => Ok((*a, *b, *step)),
        Some(_) => fault(FaultKind::Value, "`range` with a stride of 0"),
        None => fault(FaultKind::Type, "`range` takes whole numbers"),
    }
}

impl Vm<'_> {
    pub(super) fn builtin(&mut self, b: Builtin, args: Vec<Value>) -> Done {
        let wrong = |this: &str| fault(FaultKind::Type, format!("`{}` does not take {this}", b.name()));
        Ok(match (b, &args[..]) {
            (Builtin::Abs, [Value::Int(n)]) => match n.checked_abs() {
                Some(n) => Value::Int(n),
                None => return overflow(),
            },
            (Builtin::Pow, [Value::Int(a), Value::Int(e)]) => {
                let Ok(e) = u32::try_from(*e) else { return fault(FaultKind::Value, "`pow` takes exponents from 0") };
                self.charge(6, 0)?;
                match a.checked_pow(e) {
                    Some(n) => Value::Int(n),
                    None => return overflow(),
                }
            }
            (Builtin::Len, [Value::List(l)]) => Value::Int(l.items.len() as i64),
            (Builtin::Len, [Value::Map(m)]) => Value::Int(m.items.len() as i64),
            (Builtin::Len, [Value::Str(s)]) => {
                self.charge(s.len() as u64 / 16, 0)?;
                Value::Int(s.chars().count() as i64)
            }
            (Builtin::Type, [v]) => Value::str(v.type_name()),
            (Builtin::Str, [Value::Str(s)]) => Value::Str(s.clone()),
            (Builtin::Str, [v]) => {
                let text = self.text(v)?;
                self.string(text)?
            }
            (Builtin::Int, [Value::Int(n)]) => Value::Int(*n),
            (Builtin::Int, [Value::Bool(b)]) => Value::Int(i64::from(*b)),
            (Builtin::Int, [Value::Str(s)]) => match s.trim().parse() {
                Ok(n) if s.len() <= 64 => Value::Int(n),
                _ => return fault(FaultKind::Value, "`int` of a text that is no whole number"),
            },
            (Builtin::Ord, [Value::Str(s)]) => {
                let mut chars = s.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Value::Int(i64::from(u32::from(c))),
                    _ => return fault(FaultKind::Value, "`ord` takes one character"),
                }
            }
            (Builtin::Chr, [Value::Int(n)]) => match u32::try_from(*n).ok().and_then(char::from_u32) {
                Some(c) => self.string(c.to_string())?,
                None => return fault(FaultKind::Value, "`chr` of a number that is no character"),
            },
            (Builtin::Chars, [Value::Str(s)]) => {
                self.charge(s.len() as u64, 2 * s.len() as u64)?;
                Value::list(s.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect())
            }
            (Builtin::Min | Builtin::Max, _) => return self.extreme(b, args),
            (Builtin::Sum, [Value::List(l)]) => {
                self.charge(l.items.len() as u64, 0)?;
                let mut sum = 0i64;
                for i in &l.items {
                    let Value::Int(n) = i else { return wrong("a list with something but whole numbers") };
                    match sum.checked_add(*n) {
                        Some(s) => sum = s,
                        None => return overflow(),
                    }
                }
                Value::Int(sum)
            }
            (Builtin::Range, _) => {
                let (first, bound, stride) = range_of(&args)?;
                let mut items = vec![];
                let mut n = first;
                while if stride > 0 { n < bound } else { n > bound } {
                    self.charge(1, 1)?;
                    items.push(Value::Int(n));
                    match n.checked_add(stride) {
                        Some(next) => n = next,
                        None => break,
                    }
                }
                Value::list(items)
            }
            (Builtin::Reversed, [Value::List(l)]) => {
                self.charge(l.items.len() as u64 / 8, l.items.len() as u64)?;
                let items = l.items.iter().rev().cloned().collect();
                Value::List(Arc::new(List { items, nesting: l.nesting }))
            }
            (Builtin::Reversed, [Value::Str(s)]) => {
                self.charge(s.len() as u64 / 8, 0)?;
                self.string(s.chars().rev().collect())?
            }
            (Builtin::Sorted, [Value::List(l)]) => self.sorted(l)?,
            (Builtin::Keys, [Value::Map(m)]) => {
                self.charge(m.items.len() as u64, m.items.keys().map(Key::cost).sum::<u64>() * 2)?;
                Value::list(m.items.keys().map(Key::value).collect())
            }
            (Builtin::Values, [Value::Map(m)]) => {
                self.charge(m.items.len() as u64, m.items.len() as u64)?;
                let items = m.items.values().cloned().collect();
                Value::List(Arc::new(List { items, nesting: m.nesting }))
            }
            (Builtin::Get, [Value::Map(m), key]) => self.lookup(m, key)?.unwrap_or(Value::None),
            (Builtin::Get, [Value::Map(m), key, default]) => self.lookup(m, key)?.unwrap_or_else(|| default.clone()),
            (Builtin::Slice, [of, Value::Int(a)]) => self.slice(of, *a, i64::MAX)?,
            (Builtin::Slice, [of, Value::Int(a), Value::Int(z)]) => self.slice(of, *a, *z)?,
            (Builtin::Split, [Value::Str(s)]) => {
                self.charge(s.len() as u64, 2 * s.len() as u64)?;
                Value::list(s.split_whitespace().map(Value::str).collect())
            }
            (Builtin::Split, [Value::Str(s), Value::Str(by)]) if !by.is_empty() => {
                self.charge(s.len() as u64, 2 * s.len() as u64)?;
                Value::list(s.split(&**by).map(Value::str).collect())
            }
            (Builtin::Join, [Value::List(l), Value::Str(by)]) => {
                let mut out = String::new();
                for (i, item) in l.items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(by);
                    }
                    let Value::Str(s) = item else { return wrong("a list with something but strings") };
                    self.charge(1 + (s.len() + by.len()) as u64 / 8, 0)?;
                    out.push_str(s);
                    self.room(out.len() as u64)?;
                }
                self.string(out)?
            }
            (Builtin::Print, _) => {
                let mut line = String::new();
                for (i, v) in args.iter().enumerate() {
                    if i > 0 {
                        line.push(' ');
                    }
                    match v {
                        Value::Str(s) => {
                            self.charge(s.len() as u64 / 16, 0)?;
                            self.output_room(line.len() + s.len())?;
                            line.push_str(s);
                        }
                        v => line.push_str(&self.text(v)?),
                    }
                }
                line.push('\n');
                self.print(&line)?;
                Value::None
            }
            _ => {
                let kinds: Vec<&str> = args.iter().map(Value::type_name).collect();
                return wrong(&kinds.join(", "));
            }
        })
    }

    fn extreme(&mut self, b: Builtin, args: Vec<Value>) -> Done {
        let of: &[Value] = match &args[..] {
            [Value::List(l)] => &l.items,
            many => many,
        };
        let Some((first, rest)) = of.split_first() else {
            return fault(FaultKind::Value, format!("`{}` of an empty list", b.name()));
        };
        let mut best = first;
        for v in rest {
            let order = self.order(v, best)?;
            if if b == Builtin::Min { order.is_lt() } else { order.is_gt() } {
                best = v;
            }
        }
        Ok(best.clone())
    }

    pub(super) fn order(&mut self, a: &Value, b: &Value) -> Result<std::cmp::Ordering, (FaultKind, String)> {
        let mut budget = self.left();
        let before = budget;
        let result = compare(a, b, &mut budget);
        self.charge(before - budget, 0)?;
        match result {
            Ok(order) => Ok(order),
            Err(NoOrder::Budget) => self.charge(u64::MAX / 2, 0).map(|()| std::cmp::Ordering::Equal),
            Err(NoOrder::Kinds) => {
                fault(FaultKind::Type, format!("no order between {} and {}", a.type_name(), b.type_name()))
            }
        }
    }

    /// Merge sort, so that the cost is charged as it arises and equal items keep their order.
    fn sorted(&mut self, l: &List) -> Done {
        let n = l.items.len();
        self.charge(n as u64, n as u64)?;
        let mut from: Vec<Value> = l.items.clone();
        let mut width = 1;
        while width < n {
            let mut to = Vec::with_capacity(n);
            for start in (0..n).step_by(2 * width) {
                let (mut a, mid) = (start, (start + width).min(n));
                let (mut b, end) = (mid, (start + 2 * width).min(n));
                while a < mid || b < end {
                    let left = b >= end || a < mid && self.order(&from[a], &from[b])?.is_le();
                    let i = if left { &mut a } else { &mut b };
                    to.push(from[*i].clone());
                    *i += 1;
                }
            }
            from = to;
            width *= 2;
        }
        Ok(Value::List(Arc::new(List { items: from, nesting: l.nesting })))
    }

    /// Items or characters from `a` to before `z`; negative numbers count from the end, as in Python.
    fn slice(&mut self, of: &Value, a: i64, z: i64) -> Done {
        let bounds = |len: usize| {
            let place =
                |i: i64| if i < 0 { len.saturating_sub(i.unsigned_abs() as usize) } else { (i as usize).min(len) };
            let (a, z) = (place(a), place(z));
            (a, z.max(a))
        };
        match of {
            Value::List(l) => {
                let (a, z) = bounds(l.items.len());
                self.charge((z - a) as u64 / 8, (z - a) as u64)?;
                Ok(Value::List(Arc::new(List { items: l.items[a..z].to_vec(), nesting: l.nesting })))
            }
            Value::Str(s) => {
                self.charge(s.len() as u64 / 16, 0)?;
                let (a, z) = bounds(s.chars().count());
                self.string(s.chars().skip(a).take(z - a).collect())
            }
            v => fault(FaultKind::Type, format!("no slice of a {}", v.type_name())),
        }
    }
}
