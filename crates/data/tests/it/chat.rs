//! Tokenizers and templates against `fixtures/chat`, exactly.

use std::path::PathBuf;

use postgrad_data::{ChatTemplate, TemplateOptions, Tokenizer};
use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat").join(name)
}

fn json(name: &str) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_and_decodings_are_those_of_transformers() {
    for name in ["bytelevel", "metaspace", "unigram"] {
        let tokenizer = Tokenizer::load(&fixture(name)).unwrap();
        for row in json(&format!("{name}/encodings.json")) {
            let text = row["text"].as_str().unwrap();
            let got = tokenizer.encode(text).unwrap();
            assert_eq!(got, ids(&row["ids"]), "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&got, false).unwrap(), row["decoded"].as_str().unwrap(), "{name}: {text:?}");
            let mut stream = tokenizer.stream(false);
            let mut streamed: String = got.iter().map(|id| stream.push(*id).unwrap()).collect();
            streamed += &stream.finish().unwrap();
            assert_eq!(streamed, row["decoded"].as_str().unwrap(), "{name} streamed: {text:?}");
        }
    }
}

#[test]
fn templates_render_as_transformers_does() {
    let tokenizer = Tokenizer::load(&fixture("bytelevel")).unwrap();
    let mut errors = 0;
    let mut masks = 0;
    for name in ["chatml", "chatml-untagged-default-system", "header", "inst", "thinker", "tools"] {
        let source = std::fs::read_to_string(fixture(&format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(&source, &tokenizer).unwrap();
        let rows = json(&format!("{name}.expected.json"));
        assert_eq!(rows.len(), 24);
        for row in rows {
            let place = format!("{name}/{} {}", row["conversation"], row["add_generation_prompt"]);
            let messages = row["messages"].as_array().unwrap();
            let tools = Some(&row["tools"]).filter(|t| !t.is_null());
            let add_generation_prompt = row["add_generation_prompt"].as_bool().unwrap();
            let options = TemplateOptions { add_generation_prompt, ..TemplateOptions::default() };
            let got = template.render(messages, tools, &options);
            if let Some(error) = row.get("error") {
                let message = got.unwrap_err().to_string();
                assert!(message.contains(error.as_str().unwrap()), "{place}: {message}");
                errors += 1;
                continue;
            }
            let got = got.unwrap_or_else(|e| panic!("{place}: {e}"));
            assert_eq!(got.text, row["text"].as_str().unwrap(), "{place}");
            let (tokens, spans) = tokenizer.encode_spans(&got.text).unwrap();
            assert_eq!(tokens, ids(&row["ids"]), "{place}");
            if let Some(mask) = row.get("assistant_mask") {
                let inside =
                    |s: &std::ops::Range<usize>| got.generated.iter().any(|g| s.start < g.end && g.start < s.end);
                let got: Vec<u32> = spans.iter().map(|s| u32::from(inside(s))).collect();
                assert_eq!(got, ids(mask), "{place}");
                masks += 1;
            }
        }
    }
    assert_eq!((errors, masks), (4, 24));
}
