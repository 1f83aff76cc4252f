//! What is trained of a record.

use std::sync::{Arc, OnceLock};

use postgrad_data::{Body, ChatTemplate, Example, Message, PromptOptions, Record, Renderer, Tokenizer};
use proptest::prelude::*;
use serde_json::json;

use crate::chat::fixture;

fn tokenizer() -> Arc<Tokenizer> {
    static ONCE: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    ONCE.get_or_init(|| Arc::new(Tokenizer::load(&fixture("bytelevel")).unwrap())).clone()
}

fn renderer(template: Option<&str>) -> Renderer {
    let tokenizer = tokenizer();
    let template = template.map(|name| {
        let source = std::fs::read_to_string(fixture(&format!("{name}.jinja"))).unwrap();
        ChatTemplate::new(&source, &tokenizer).unwrap()
    });
    Renderer::new(tokenizer, template).unwrap()
}

fn untagged_chatml() -> Renderer {
    let source = std::fs::read_to_string(fixture("chatml.jinja")).unwrap();
    let source = source.replace("{% generation %}", "").replace("{% endgeneration %}", "");
    let tokenizer = tokenizer();
    let template = ChatTemplate::new(&source, &tokenizer).unwrap();
    assert!(!template.marks_generation());
    Renderer::new(tokenizer, Some(template)).unwrap()
}

fn chat(turns: &[(&str, &str)]) -> Record {
    Record::from_body(Body::Messages(turns.iter().map(|(role, text)| Message::new(role, *text)).collect()))
}

/// The text of the trained tokens, and of all.
fn texts(r: &Renderer, e: &Example) -> (String, String) {
    let trained: Vec<u32> = e.tokens.iter().zip(&e.weights).filter(|(_, w)| **w != 0.0).map(|(t, _)| *t).collect();
    (r.tokenizer().decode(&trained, false).unwrap(), r.tokenizer().decode(&e.tokens, false).unwrap())
}

fn only(r: &Renderer, record: &Record) -> (String, String) {
    let rendered = r.examples(record).unwrap();
    assert_eq!(rendered.examples.len(), 1);
    texts(r, &rendered.examples[0])
}

const TALK: [(&str, &str); 5] =
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Add 4 and 9."), ("assistant", "13")];

#[test]
fn answers_and_their_end_tokens_are_trained_and_nothing_else() {
    assert_eq!(only(&renderer(Some("chatml")), &chat(&TALK)).0, "Hello!<|im_end|>13<|im_end|>");
    assert_eq!(only(&untagged_chatml(), &chat(&TALK)).0, "Hello!<|im_end|>13<|im_end|>");
    assert_eq!(only(&renderer(Some("header")), &chat(&TALK)).0, "Hello!<|eot|>13<|eot|>");
    assert_eq!(only(&renderer(Some("inst")), &chat(&TALK)).0, " Hello!<|im_end|> 13<|im_end|>");
    let default_system = renderer(Some("chatml-untagged-default-system"));
    let (trained, all) = only(&default_system, &chat(&TALK[1..]));
    assert_eq!(trained, "Hello!<|im_end|>13<|im_end|>");
    assert!(all.starts_with("<|im_start|>system\nYou are a careful tutor."));
    // The assistant may speak first.
    assert_eq!(only(&untagged_chatml(), &chat(&TALK[2..])).0, "Hello!<|im_end|>13<|im_end|>");
    assert_eq!(only(&default_system, &chat(&TALK[2..])).0, "Hello!<|im_end|>13<|im_end|>");
}

#[test]
fn a_turn_may_be_left_out_and_a_last_question_is_dropped() {
    let mut record = chat(&TALK);
    let Body::Messages(turns) = &mut record.body else { panic!() };
    turns[2].train = Some(false);
    turns.push(Message::new("user", "and now?"));
    for r in [renderer(Some("chatml")), untagged_chatml()] {
        let (trained, all) = only(&r, &record);
        assert_eq!(trained, "13<|im_end|>");
        assert!(all.contains("Hello!") && !all.contains("and now?"));
    }
    assert!(renderer(Some("chatml")).examples(&chat(&TALK[..2])).unwrap().examples.is_empty());
}

#[test]
fn where_the_past_is_rewritten_each_turn_is_its_own_example() {
    let r = renderer(Some("thinker"));
    let thought = |n: u32| format!("<think>\nstep {n}\n</think>\n\nanswer {n}");
    let (one, two) = (thought(1), thought(2));
    let record = chat(&[("user", "a"), ("assistant", &one), ("user", "b"), ("assistant", &two)]);
    let rendered = r.examples(&record).unwrap();
    assert_eq!((rendered.examples.len(), rendered.split), (2, 1));
    let (trained, _) = texts(&r, &rendered.examples[0]);
    assert_eq!(trained, format!("{one}<|im_end|>"));
    let (trained, all) = texts(&r, &rendered.examples[1]);
    assert_eq!(trained, format!("{two}<|im_end|>"));
    assert!(!all.contains("step 1"), "the template drops old thoughts");
    // Each example's untrained head is the prompt that the model gets when it is asked.
    let turns = record.messages().unwrap();
    for (example, upto) in rendered.examples.iter().zip([1, 3]) {
        let head = example.weights.iter().position(|w| *w != 0.0).unwrap();
        assert_eq!(example.tokens[..head], r.prompt_ids(&turns[..upto], None, &PromptOptions::default()).unwrap());
    }
    // Without thoughts nothing is rewritten.
    assert_eq!(r.examples(&chat(&TALK)).unwrap().split, 0);
}

#[test]
fn thoughts_apart_from_the_content_are_put_where_the_template_reads_them() {
    let mut record = chat(&[("user", "a"), ("assistant", "b")]);
    let Body::Messages(turns) = &mut record.body else { panic!() };
    turns[1].reasoning_content = Some("why".into());
    assert_eq!(only(&renderer(Some("thinker")), &record).0, "<think>\nwhy\n</think>\n\nb<|im_end|>");
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let tokenizer = tokenizer();
    let r = Renderer::new(tokenizer.clone(), Some(ChatTemplate::new(source, &tokenizer).unwrap())).unwrap();
    assert_eq!(only(&r, &record).0, "<think>why</think>b<|im_end|>");
}

#[test]
fn marks_that_stop_short_of_the_end_token_are_widened_and_a_missing_one_is_added() {
    let tokenizer = tokenizer();
    let made =
        |source: &str| Renderer::new(tokenizer.clone(), Some(ChatTemplate::new(source, &tokenizer).unwrap())).unwrap();
    let short = made(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% generation %}{{ m.content if m.role == 'assistant' else '' }}{% endgeneration %}{{ (m.content if m.role != 'assistant' else '') + '<|im_end|>\n' }}{% endfor %}",
    );
    assert_eq!(only(&short, &chat(&TALK)).0, "Hello!<|im_end|>13<|im_end|>");
    let endless = made(
        "{% for m in messages %}{{ m.role + ':\n' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}",
    );
    let rendered = endless.examples(&chat(&TALK)).unwrap();
    assert!(rendered.end_added);
    assert_eq!(texts(&endless, &rendered.examples[0]).0, "Hello!\n13\n<|im_end|>");
}

#[test]
fn prompts_completions_and_texts_without_a_template() {
    let r = renderer(None);
    assert!(!r.has_template() && r.says().contains("no chat template"));
    let record = Record::from_body(Body::PromptCompletion { prompt: "2+2=".into(), completion: " 4".into() });
    assert_eq!(only(&r, &record), (" 4<|im_end|>".into(), "2+2= 4<|im_end|>".into()));
    assert_eq!(r.record_prompt_ids(&record, &PromptOptions::default()).unwrap(), r.tokenizer().encode("2+2=").unwrap());
    let rendered = r.examples(&Record::from_body(Body::Text("one two".into()))).unwrap();
    assert_eq!(
        rendered.examples[0].trained(),
        rendered.examples[0].len() - 1,
        "all but the first, which nothing predicts"
    );
    assert_eq!(rendered.examples[0].tokens.last().copied(), r.tokenizer().eos());
    let (trained, all) = only(&r, &chat(&TALK));
    assert_eq!(trained, " Hello!<|im_end|> 13<|im_end|>");
    assert_eq!(
        all,
        "System: Be brief.\nUser: Hi\nAssistant: Hello!<|im_end|>\nUser: Add 4 and 9.\nAssistant: 13<|im_end|>\n"
    );
    // With one, a prompt is a user's turn.
    assert_eq!(only(&renderer(Some("chatml")), &record).0, " 4<|im_end|>");
}

#[test]
fn a_tokenizer_that_opens_documents_does_so_here() {
    let json = std::fs::read(fixture("bytelevel/tokenizer.json")).unwrap();
    let config = json!({"bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>", "add_bos_token": true});
    let tokenizer = Arc::new(Tokenizer::from_parts(&json, config.as_object().unwrap().clone()).unwrap());
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.encode_document("a").unwrap()[0], tokenizer.bos().unwrap());
    let r = Renderer::new(tokenizer, None).unwrap();
    let rendered = r.examples(&Record::from_body(Body::Text("one two".into()))).unwrap();
    let e = &rendered.examples[0];
    assert_eq!((e.tokens[0], e.weights[0], e.weights[1]), (1, 0.0, 1.0));
    assert!(only(&r, &chat(&TALK)).1.starts_with("<s>System"));
}

#[test]
fn calls_of_tools_are_trained_with_arguments_as_the_template_wants_them() {
    let r = renderer(Some("tools"));
    let mut record = chat(&[("user", "add"), ("assistant", ""), ("tool", "5"), ("assistant", "It is 5.")]);
    let Body::Messages(turns) = &mut record.body else { panic!() };
    turns[1].tool_calls = Some(json!([{"type": "function", "function": {"name": "add", "arguments": "{\"x\": 2}"}}]));
    record.tools = Some(json!([{"type": "function", "function": {"name": "add"}}]));
    let (trained, all) = only(&r, &record);
    let call = r#"<tool_call>{"name": "add", "arguments": {"x": 2}}</tool_call>"#;
    assert_eq!(trained, format!("{call}<|im_end|>It is 5.<|im_end|>"));
    assert!(all.contains("Tools:"));
}

#[test]
fn the_model_folder_renders_with_its_own_files() {
    let r = Renderer::load(&fixture("model-chatml")).unwrap();
    assert!(r.has_template() && r.template().marks_generation());
    assert_eq!(only(&r, &chat(&TALK)).0, "Hello!<|im_end|>13<|im_end|>");
    let dir = tempfile::tempdir().unwrap();
    r.tokenizer().save(dir.path()).unwrap();
    let again = Renderer::load(dir.path()).unwrap();
    assert_eq!(again.examples(&chat(&TALK)).unwrap(), r.examples(&chat(&TALK)).unwrap());
}

#[test]
fn hostile_templates_end_with_an_error() {
    let tokenizer = tokenizer();
    let run = |source: &str| {
        let template = ChatTemplate::new(source, &tokenizer)?;
        template.render(&[json!({"role": "user", "content": "x"})], None, &Default::default())
    };
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 10000000000 }}",
        "{{ 10 ** 10000000 }}",
        "{% include '/etc/passwd' %}",
        "{{ messages.__class__.__mro__ }}",
        "{% for",
        "{% generation %}x",
        "{{ raise_exception('no') }}",
        &"{{ (".repeat(10_000),
        &"{% if true %}".repeat(10_000),
        &"x".repeat(2 << 20),
    ] {
        assert!(run(source).is_err(), "{}", &source[..source.len().min(60)]);
    }
    assert_eq!(run("{{ [1, 2.0, none, true, 'a'] }}{{ none }}").unwrap().text, "[1, 2.0, None, True, 'a']None");
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 .,!?\n]{0,24}",
        "\\PC{0,12}",
        Just("<|im_end|>".to_string()),
        Just("a <|im_start|>assistant\n b</s>".to_string()),
        Just("\u{F5A1B}(x\u{F5A1B})".to_string()),
        Just("{% generation %}{{ 1/0 }}".to_string()),
    ]
}

fn talk() -> impl Strategy<Value = Vec<(String, String)>> {
    let role = prop_oneof![3 => Just("user"), 3 => Just("assistant"), 1 => Just("system"), 1 => Just("tool")];
    proptest::collection::vec((role.prop_map(String::from), content()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn marks_and_renderings_agree_on_what_is_trained(talk in talk()) {
        let turns: Vec<(&str, &str)> = talk.iter().map(|(r, c)| (r.as_str(), c.as_str())).collect();
        let record = chat(&turns);
        let (tagged, untagged) = (renderer(Some("chatml")), untagged_chatml());
        let (a, b) = (tagged.examples(&record).unwrap(), untagged.examples(&record).unwrap());
        prop_assert_eq!(&a, &b);
        // Content that begins with white space may share its first token with the line end before it.
        if turns.iter().all(|(_, c)| !c.starts_with(char::is_whitespace)) {
            let said: String = turns.iter().filter(|t| t.0 == "assistant").map(|t| format!("{}<|im_end|>", t.1)).collect();
            let got: String = a.examples.iter().map(|e| texts(&tagged, e).0).collect();
            prop_assert_eq!(got, said);
        }
    }

    #[test]
    fn no_conversation_makes_a_template_panic(talk in talk()) {
        let turns: Vec<(&str, &str)> = talk.iter().map(|(r, c)| (r.as_str(), c.as_str())).collect();
        for name in ["inst", "thinker", "tools", "header", "chatml-untagged-default-system"] {
            let r = renderer(Some(name));
            if let Ok(rendered) = r.examples(&chat(&turns)) {
                for e in rendered.examples {
                    prop_assert_eq!(e.tokens.len(), e.weights.len());
                    prop_assert_eq!(e.weights[0], 0.0);
                }
            }
        }
    }

    #[test]
    fn no_template_makes_the_engine_panic(parts in proptest::collection::vec(prop_oneof![
        Just("{% for m in messages %}"), Just("{% endfor %}"), Just("{{ m.content"), Just(" }}"), Just("{% generation %}"),
        Just("{%- endgeneration -%}"), Just("{{ messages[-9:9][::-1] }}"), Just("{% if m.role == 'user' %}"), Just("{% endif %}"),
        Just("{{ (1/0) }}"), Just("{# "), Just(" #}"), Just("{% set x = x ~ 'y' %}"), Just("{{ m | tojson(indent=2) }}"), Just("'"),
        Just("{% raw %}"), Just("{% endraw %}"), Just("{{ messages | map(attribute='role') | join(',') }}"), Just("{{ 'a'.split('') }}"),
    ], 0..14)) {
        let tokenizer = tokenizer();
        if let Ok(template) = ChatTemplate::new(&parts.concat(), &tokenizer) {
            let _ = template.render(&[json!({"role": "user", "content": "é"})], None, &Default::default());
        }
    }
}
