//! Any text as a chat template, rendered over a short conversation with tools.
#![no_main]
use std::path::Path;
use std::sync::LazyLock;

use postgrad_data::{ChatTemplate, TemplateOptions, Tokenizer};
use serde_json::{Value, json};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/chat/bytelevel");
    Tokenizer::load(&dir).expect("the tokenizer of the fixtures")
});

static TURNS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    vec![
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "What is 2 + 3?"}),
        json!({"role": "assistant", "content": "", "reasoning_content": "Add.", "tool_calls":
            [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}}]}),
        json!({"role": "tool", "content": "5", "name": "add"}),
        json!({"role": "assistant", "content": "5"}),
    ]
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(template) = ChatTemplate::new(source, &TOKENIZER) else { return };
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {}}}]);
    if let Ok(rendered) = template.render(&TURNS, Some(&tools), &TemplateOptions::default()) {
        for span in rendered.generated {
            assert!(rendered.text.get(span).is_some(), "a mark outside the text");
        }
    }
});
