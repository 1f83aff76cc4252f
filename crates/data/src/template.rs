//! Chat templates: Jinja as Hugging Face's `apply_chat_template` runs it, on minijinja.
//!
//! Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), `{% generation %}` marks what the model says, and the text, masks
//! and errors agree with jinja2's (`fixtures/chat`). Templates come with models and are not trusted: their source, their
//! instructions and their output are bounded, they see no file and no other template.
//! Left out on purpose: `lipsum`, includes and imports, local time (`strftime_now` is in UTC). What minijinja cannot
//! bound is the size of a string that a template builds by doubling it; jinja2 does not bound it either.

use std::io;
use std::ops::Range;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, State, UndefinedBehavior};
use postgrad_base::{Context, Error, Result};
use serde_json::{Map, Value as Json};

use crate::python::{JsonStyle, json_dumps, py_str, to_value};
use crate::tokenizer::Tokenizer;

const MAX_SOURCE: usize = 1 << 20;
const MAX_OUTPUT: usize = 64 << 20;
/// Template instructions a rendering may run; a turn of a common template takes about a hundred.
const FUEL: u64 = 20_000_000;
const MAIN: &str = "chat_template";
const TOOL_USE: &str = "tool_use";

/// Used where a model has no template: roles as plain words, each answer ended by the end token.
const PLAIN: &str = "{%- if bos_token is defined and add_bos %}{{- bos_token }}{%- endif %}\
{%- for m in messages %}\
{%- if m.role == 'assistant' %}{{- 'Assistant:' }}\
{%- generation %}{{- ' ' + m.content + (eos_token if eos_token is defined else '') }}{%- endgeneration %}{{- '\\n' }}\
{%- else %}{{- m.role | capitalize + ': ' + m.content + '\\n' }}{%- endif %}\
{%- endfor %}\
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}";

/// Where a template wants an assistant turn's thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoughts {
    /// In the message's `reasoning_content`.
    ReasoningContent,
    /// In the message's `thinking`.
    Thinking,
    /// In the content, between `<think>` and `</think>`.
    InContent,
}

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    specials: Vec<(&'static str, String)>,
    add_bos: bool,
    marks_generation: bool,
    has_tool_use: bool,
    plain: bool,
}

/// What a rendering is asked for besides messages and tools.
#[derive(Clone, Debug, Default)]
pub struct TemplateOptions {
    /// End with the opening of an assistant turn.
    pub add_generation_prompt: bool,
    /// Passed on where given; templates differ in what they take as the default.
    pub enable_thinking: Option<bool>,
    /// More variables for the template.
    pub extra: Map<String, Json>,
}

/// A rendering: its text, and the byte ranges that the template marks as the model's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderedText {
    pub text: String,
    pub generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// A template from its source. The tokenizer gives `bos_token` and its like.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::with_tool_use(source, None, tokenizer)
    }

    /// The stand-in for a model without a template: `User: …`, `Assistant: …`, one line a turn.
    pub fn plain(tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { plain: true, ..Self::new(PLAIN, tokenizer)? })
    }

    fn with_tool_use(source: &str, tool_use: Option<&str>, tokenizer: &Tokenizer) -> Result<Self> {
        let mut env = environment(unix_now());
        let mut marks_generation = false;
        for (name, text) in [(MAIN, Some(source)), (TOOL_USE, tool_use)] {
            let Some(text) = text else { continue };
            if text.len() > MAX_SOURCE {
                return Err(Error::usage(format!(
                    "the chat template is {} bytes long; the limit is {MAX_SOURCE}",
                    text.len()
                )));
            }
            let (rewritten, marked) = rewrite_generation(text);
            marks_generation |= marked;
            env.add_template_owned(name, rewritten)
                .map_err(|e| template_error("the chat template cannot be read", &e))?;
        }
        Ok(Self {
            env,
            source: source.to_string(),
            specials: tokenizer.named_specials(),
            add_bos: tokenizer.adds_bos(),
            marks_generation,
            has_tool_use: tool_use.is_some(),
            plain: false,
        })
    }

    /// The template of a model folder: `chat_template.jinja`, `chat_template.json`, or `chat_template` in
    /// `tokenizer_config.json` (a string, or a list of named ones of which `default`, and with tools `tool_use`, are
    /// used). `None` where the model has none.
    pub fn load(dir: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let jinja = dir.join("chat_template.jinja");
        if jinja.exists() {
            let source = std::fs::read_to_string(&jinja).context(|| format!("cannot read {}", jinja.display()))?;
            let tools = std::fs::read_to_string(dir.join("additional_chat_templates/tool_use.jinja")).ok();
            return Self::with_tool_use(&source, tools.as_deref(), tokenizer)
                .map(Some)
                .map_err(|e| e.at(jinja.display()));
        }
        let json = dir.join("chat_template.json");
        let (place, entry) = if json.exists() {
            let text = std::fs::read_to_string(&json).context(|| format!("cannot read {}", json.display()))?;
            let value: Json = serde_json::from_str(&text).context(|| format!("{} is not JSON", json.display()))?;
            (json, value.get("chat_template").cloned())
        } else {
            (dir.join("tokenizer_config.json"), tokenizer.config().get("chat_template").cloned())
        };
        let made = match entry {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => Self::new(&source, tokenizer),
            Some(Json::Array(list)) => {
                let named = |name: &str| {
                    let entry = list.iter().find(|t| t["name"] == name);
                    entry.and_then(|t| t["template"].as_str())
                };
                let first = || list.first().and_then(|t| t["template"].as_str());
                match named("default").or_else(first) {
                    Some(source) => Self::with_tool_use(source, named(TOOL_USE), tokenizer),
                    None => Err(Error::usage("the list of chat templates has none with a `name` and a `template`")),
                }
            }
            Some(_) => Err(Error::usage("`chat_template` is neither a text nor a list of named templates")),
        };
        made.map(Some).map_err(|e| e.at(place.display()))
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The template marks what the model says with `{% generation %}`.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// This is the stand-in of a model without a template.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Where thoughts go, by what the source reads.
    pub fn thoughts(&self) -> Thoughts {
        let reads = |name: &str| {
            [format!(".{name}"), format!("['{name}']"), format!("[\"{name}\"]"), format!("get('{name}'")]
                .iter()
                .any(|form| self.source.contains(form.as_str()))
        };
        if reads("reasoning_content") {
            Thoughts::ReasoningContent
        } else if reads("thinking") {
            Thoughts::Thinking
        } else {
            Thoughts::InContent
        }
    }

    /// Renders messages (JSON objects with `role`, `content`, …) as the model's template writes them.
    pub fn render(&self, messages: &[Json], tools: Option<&Json>, options: &TemplateOptions) -> Result<RenderedText> {
        let mark = unused_mark(messages, tools);
        let mut context: Vec<(String, Value)> = vec![
            ("messages".into(), Value::from(messages.iter().map(to_value).collect::<Vec<_>>())),
            ("tools".into(), tools.map_or(Value::from(()), to_value)),
            ("documents".into(), Value::from(())),
            ("add_generation_prompt".into(), Value::from(options.add_generation_prompt)),
            ("__mark".into(), Value::from(mark.clone())),
        ];
        if self.plain {
            context.push(("add_bos".into(), Value::from(self.add_bos)));
        }
        context.extend(self.specials.iter().map(|(name, token)| (name.to_string(), Value::from(token.as_str()))));
        if let Some(on) = options.enable_thinking {
            context.push(("enable_thinking".into(), Value::from(on)));
        }
        context.extend(options.extra.iter().map(|(k, v)| (k.clone(), to_value(v))));
        let name = if tools.is_some() && self.has_tool_use { TOOL_USE } else { MAIN };
        let template = self.env.get_template(name).map_err(|e| template_error("the chat template is missing", &e))?;
        let mut out = Bounded(Vec::new());
        template
            .render_captured_to(Value::from_pairs(context), &mut out)
            .map_err(|e| template_error("the chat template failed", &e))?;
        let text = String::from_utf8(out.0).context(|| "the chat template wrote something that is not text".into())?;
        Ok(if self.marks_generation { strip_marks(&text, &mark) } else { RenderedText { text, generated: vec![] } })
    }
}

/// A template of a text, in the language and with the limits of chat templates. A name that has no value is an error.
#[derive(Debug)]
pub struct TextTemplate(Environment<'static>);

impl TextTemplate {
    pub fn new(source: &str) -> Result<Self> {
        let mut env = environment(0);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.add_template_owned(MAIN, source.to_string())
            .map_err(|e| template_error("the template cannot be read", &e))?;
        Ok(Self(env))
    }

    pub fn render(&self, values: &Map<String, Json>) -> Result<String> {
        let fault = |e| template_error("the template failed", &e);
        let template = self.0.get_template(MAIN).map_err(fault)?;
        let context = Value::from_pairs(values.iter().map(|(k, v)| (k.clone(), to_value(v))));
        let mut out = Bounded(Vec::new());
        template.render_captured_to(context, &mut out).map_err(fault)?;
        String::from_utf8(out.0).context(|| "the template wrote something that is not text".into())
    }
}

/// An output that refuses to grow past its limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the output is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template's own `raise_exception` says is the message; for the rest the engine's words and the line.
fn template_error(what: &str, e: &minijinja::Error) -> Error {
    let mut detail = e.detail().map_or_else(|| e.kind().to_string(), str::to_string);
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        detail = format!("{detail}: {c}");
        cause = c.source();
    }
    if e.kind() == ErrorKind::OutOfFuel {
        detail = format!("it ran more than {FUEL} instructions");
    }
    let line = e.line().map_or(String::new(), |l| format!(" (line {l} of the template)"));
    Error::work(format!("{what}: {detail}{line}"))
}

fn environment(now: i64) -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the default delimiters"));
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(200);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(|out, _, value| {
        match value.as_str() {
            Some(s) => out.write_str(s),
            None => out.write_str(&py_str(value)),
        }
        .map_err(minijinja::Error::from)
    });
    env.add_filter("tojson", to_json);
    env.add_filter("string", |value: &Value| py_str(value));
    env.add_filter("trim", |value: &Value, chars: Option<String>| match chars {
        Some(chars) => py_str(value).trim_matches(|c| chars.contains(c)).to_string(),
        None => py_str(value).trim().to_string(),
    });
    // Python's strings and mappings have a length and items too.
    env.add_test("sequence", |v: &Value| {
        matches!(v.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    env.add_test("iterable", |v: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(v.kind(), Undefined | String | Seq | Map | Iterable)
    });
    env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", move |format: String| strftime(&format, now));
    env.add_function("__generation", generation);
    env
}

/// `tojson` as transformers defines it.
fn to_json(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    let invalid = |what: String| minijinja::Error::new(ErrorKind::InvalidOperation, what);
    let mut given = args.0.into_iter();
    let mut next = |name: &str| -> Result<Option<Value>, minijinja::Error> {
        let by_name: Option<Value> = kwargs.get(name)?;
        Ok(given.next().or(by_name).filter(|v| !v.is_none() && !v.is_undefined()))
    };
    let ensure_ascii = next("ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = next("indent")?.map(|v| match v.as_str() {
        Some(s) => s.to_string(),
        None => " ".repeat(v.as_usize().unwrap_or(0).min(64)),
    });
    let separators = next("separators")?;
    let sort_keys = next("sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let (mut item_separator, mut key_separator) =
        (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    if let Some(pair) = separators {
        item_separator = py_str(&pair.get_item_by_index(0)?);
        key_separator = py_str(&pair.get_item_by_index(1)?);
    }
    json_dumps(value, &JsonStyle { ensure_ascii, indent, item_separator, key_separator, sort_keys }).map_err(invalid)
}

/// The body of a `{% generation %}` block between marks.
fn generation(state: &mut State, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    let caller: Value = kwargs.get("caller")?;
    let mark = state.lookup("__mark").map(|m| py_str(&m)).unwrap_or_default();
    let body = caller.call(state, &[])?;
    Ok(format!("{mark}({}{mark})", py_str(&body)))
}

/// A mark of private-use characters that stands nowhere in the conversation.
fn unused_mark(messages: &[Json], tools: Option<&Json>) -> String {
    const SIGN: char = '\u{F5A1B}';
    fn holds(value: &Json, what: &str) -> bool {
        match value {
            Json::String(s) => s.contains(what),
            Json::Array(list) => list.iter().any(|v| holds(v, what)),
            Json::Object(map) => map.iter().any(|(k, v)| k.contains(what) || holds(v, what)),
            _ => false,
        }
    }
    // Longer runs of the sign until one is unused: a conversation is finite, so this ends.
    let mut mark = SIGN.to_string();
    while messages.iter().chain(tools).any(|v| holds(v, &mark)) {
        mark.push(SIGN);
    }
    mark
}

fn strip_marks(marked: &str, mark: &str) -> RenderedText {
    let mut out = RenderedText::default();
    let mut rest = marked;
    let mut open = None;
    while let Some(at) = rest.find(mark) {
        let after = &rest[at + mark.len()..];
        out.text.push_str(&rest[..at]);
        match (after.as_bytes().first(), open) {
            (Some(b'('), None) => open = Some(out.text.len()),
            (Some(b')'), Some(start)) => {
                out.generated.push(start..out.text.len());
                open = None;
            }
            // A template that cut or repeated a mark: what is left of it is not text of the conversation.
            (Some(b'(' | b')'), _) => {}
            _ => {
                rest = after;
                continue;
            }
        }
        rest = &after[1..];
    }
    out.text.push_str(rest);
    out
}

/// `{% generation %}` becomes a call block, which is what transformers' extension makes of it; whitespace signs stay.
/// True where there was one.
fn rewrite_generation(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') if !raw => rest.find("#}").map(|e| e + 2),
            Some(b'{') if !raw => tag_end(rest, "}}"),
            Some(b'%') => tag_end(rest, "%}"),
            _ => None,
        };
        let Some(end) = end else {
            out.push('{');
            rest = &rest[1..];
            continue;
        };
        let tag = &rest[..end];
        let word = tag.strip_prefix("{%").map(|t| t[..t.len() - 2].trim_matches(['-', '+']).trim());
        match word {
            Some("raw") => raw = true,
            Some("endraw") => raw = false,
            _ => {}
        }
        match word {
            Some(word @ ("generation" | "endgeneration")) if !raw => {
                found = true;
                out.push_str(&tag.replacen(
                    word,
                    if word == "generation" { "call __generation()" } else { "endcall" },
                    1,
                ));
            }
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    (out, found)
}

/// The end of a tag that starts at 0, quotes respected.
fn tag_end(text: &str, close: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = 2;
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => {
                i += 1;
                while i < bytes.len() && bytes[i] != quote {
                    i += if bytes[i] == b'\\' { 2 } else { 1 };
                }
            }
            _ if bytes[i..].starts_with(close.as_bytes()) => return Some(i + close.len()),
            _ => {}
        }
        i += 1;
    }
    None
}

fn unix_now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// The common directives of C's `strftime`, in UTC, English names.
fn strftime(format: &str, unix: i64) -> String {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (days, secs) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Days to civil date: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][(month - 1) as usize];
    let day_of_year = before + day + i64::from(leap && month > 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let (weekday, month_name) = (DAYS[days.rem_euclid(7) as usize], MONTHS[(month - 1) as usize]);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = chars.next();
        }
        let two = |n: i64| if unpadded { n.to_string() } else { format!("{n:02}") };
        out.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => two(year.rem_euclid(100)),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => weekday.into(),
            Some('a') => weekday[..3].into(),
            Some('j') => {
                if unpadded {
                    day_of_year.to_string()
                } else {
                    format!("{day_of_year:03}")
                }
            }
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{other}"),
            None => "%".into(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_c_writes_them() {
        // `date -u -d @… +…` printed the right sides.
        assert_eq!(
            strftime("%d %b %Y|%A %B %-d|%H:%M:%S|%j", 1_709_210_096),
            "29 Feb 2024|Thursday February 29|12:34:56|060"
        );
        assert_eq!(strftime("%Y-%m-%d %a %%", 0), "1970-01-01 Thu %");
        assert_eq!(strftime("%F", -86_400), "1969-12-31");
    }

    #[test]
    fn generation_tags_are_found_only_where_they_are_tags() {
        let (text, found) = rewrite_generation(
            "a{%- generation -%}b{% endgeneration +%}c{{ '{% generation %}' }}{# {% generation %} #}",
        );
        assert!(found);
        assert_eq!(text, "a{%- call __generation() -%}b{% endcall +%}c{{ '{% generation %}' }}{# {% generation %} #}");
        assert!(!rewrite_generation("{% raw %}{% generation %}{% endraw %}{").1);
    }
}
