//! What Python would write: `str`, `repr` and `json.dumps` of template values. Chat templates are tested with Python's
//! jinja2, so a template that prints a list or a float must print it as Python does.

use minijinja::value::{Value, ValueKind};

/// A JSON value as templates see it.
pub(crate) fn to_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            (None, None) => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(list) => Value::from(list.iter().map(to_value).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), to_value(v)))),
    }
}

const MAX_DEPTH: usize = 64;

/// Python's `str(value)`.
pub(crate) fn py_str(value: &Value) -> String {
    match value.as_str() {
        Some(s) => s.to_string(),
        None if value.is_undefined() => String::new(),
        None => py_repr(value),
    }
}

/// Python's `repr(value)`.
pub(crate) fn py_repr(value: &Value) -> String {
    let mut out = String::new();
    repr(&mut out, value, 0);
    out
}

fn repr(out: &mut String, value: &Value, depth: usize) {
    if depth > MAX_DEPTH {
        return out.push_str("...");
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(out, &key, depth + 1);
                out.push_str(": ");
                repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(out, &item, depth + 1);
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn quoted(out: &mut String, s: &str) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// Python's `repr(float)`: shortest digits that read back, exponent form below 1e-4 and from 1e16.
pub(crate) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let exp_form = format!("{x:e}");
    let (digits, exp) = exp_form.split_once('e').unwrap_or((&exp_form, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exp) {
        let sign = if exp < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exp.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// How `json.dumps` is asked to write.
pub(crate) struct JsonStyle {
    pub ensure_ascii: bool,
    /// `None`: one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

/// Python's `json.dumps`. `Err` holds what Python's `TypeError` would say.
pub(crate) fn json_dumps(value: &Value, style: &JsonStyle) -> Result<String, String> {
    let mut out = String::new();
    dump(&mut out, value, style, 0)?;
    Ok(out)
}

fn dump(out: &mut String, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), String> {
    if depth > 256 {
        return Err("too deeply nested for JSON".into());
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&match number(value).as_str() {
            "nan" => "NaN".to_string(),
            "inf" => "Infinity".to_string(),
            "-inf" => "-Infinity".to_string(),
            n => n.to_string(),
        }),
        ValueKind::String => json_string(out, value.as_str().unwrap_or_default(), style.ensure_ascii),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            if style.sort_keys {
                keys.sort();
            }
            let items = keys.len();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                between(out, style, i, depth + 1);
                let name = match key.kind() {
                    ValueKind::String => key.as_str().unwrap_or_default().to_string(),
                    ValueKind::Bool => key.is_true().to_string(),
                    ValueKind::None => "null".into(),
                    ValueKind::Number => number(&key),
                    kind => return Err(format!("a JSON key cannot be a {kind}")),
                };
                json_string(out, &name, style.ensure_ascii);
                out.push_str(&style.key_separator);
                dump(out, &value.get_item(&key).unwrap_or_default(), style, depth + 1)?;
            }
            close(out, style, items, depth);
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = 0;
            out.push('[');
            for item in value.try_iter().into_iter().flatten() {
                between(out, style, items, depth + 1);
                dump(out, &item, style, depth + 1)?;
                items += 1;
            }
            close(out, style, items, depth);
            out.push(']');
        }
        kind => return Err(format!("a value of type {kind} is not JSON serializable")),
    }
    Ok(())
}

fn between(out: &mut String, style: &JsonStyle, i: usize, depth: usize) {
    if i > 0 {
        out.push_str(&style.item_separator);
    }
    new_line(out, style, depth);
}

fn close(out: &mut String, style: &JsonStyle, items: usize, depth: usize) {
    if items > 0 {
        new_line(out, style, depth);
    }
}

fn new_line(out: &mut String, style: &JsonStyle, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
}

fn json_string(out: &mut String, s: &str, ensure_ascii: bool) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ensure_ascii && !c.is_ascii() => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        to_value(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn values_print_as_python_prints_them() {
        // Each right side is what CPython 3.12 printed.
        assert_eq!(
            py_repr(&value(r#"[1, 2.0, 1e16, 1.5e-5, 0.0001, true, null, "it's", "a\"b'c\n"]"#)),
            r#"[1, 2.0, 1e+16, 1.5e-05, 0.0001, True, None, "it's", 'a"b\'c\n']"#
        );
        assert_eq!(py_str(&value(r#"{"b": {"x": []}, "a": "é"}"#)), "{'b': {'x': []}, 'a': 'é'}");
        assert_eq!(float(123456789.5), "123456789.5");
        assert_eq!(float(-0.0), "-0.0");
        assert_eq!(float(1e22), "1e+22");
    }

    #[test]
    fn json_is_written_as_json_dumps_writes_it() {
        let v = value(r#"{"b": [1, 2.0, {}], "a": "é<&'\u0001\u007f", "e": []}"#);
        let mut style = JsonStyle {
            ensure_ascii: false,
            indent: None,
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            sort_keys: false,
        };
        let one_line = "{\"b\": [1, 2.0, {}], \"a\": \"é<&'\\u0001\u{7f}\", \"e\": []}";
        assert_eq!(json_dumps(&v, &style).unwrap(), one_line);
        style.indent = Some("  ".into());
        style.item_separator = ",".into();
        let v = value(r#"{"b": [1, {}], "a": {"x": "🙂"}}"#);
        assert_eq!(
            json_dumps(&v, &style).unwrap(),
            "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": {\n    \"x\": \"🙂\"\n  }\n}"
        );
        style = JsonStyle { ensure_ascii: true, indent: None, sort_keys: true, ..style };
        assert_eq!(json_dumps(&v, &style).unwrap(), r#"{"a": {"x": "\ud83d\ude42"},"b": [1,{}]}"#);
    }
}
