//! `data show`: examples as the model sees them, what is trained marked.

use std::fmt::Write;

use postgrad_base::Result;

use crate::dataset::Dataset;
use crate::example::Example;
use crate::tokenizer::Tokenizer;

/// How trained tokens are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Green on a terminal.
    Colour,
    /// Between ⟦ and ⟧.
    Plain,
}

/// The next `n` examples of a dataset.
pub fn show(data: &mut Dataset, n: usize, marks: Marks) -> Result<String> {
    let mut out = String::new();
    let renderer = data.renderer().clone();
    for (file, kind) in &data.report().kinds {
        let _ = writeln!(out, "{}: {kind}", safe(file));
    }
    let _ = writeln!(out, "{}", renderer.says());
    for i in 1..=n {
        let Some(example) = data.next_example()? else { break };
        let _ = writeln!(out, "\n--- {i}: {} ---", safe(&example.place.to_string()));
        out.push_str(&show_example(&example, renderer.tokenizer(), marks)?);
    }
    for warning in data.report().warnings() {
        let _ = writeln!(out, "warning: {}", safe(&warning));
    }
    Ok(out)
}

/// One example: its text with what is trained marked, its counts, its first and last trained token.
pub fn show_example(example: &Example, tokenizer: &Tokenizer, marks: Marks) -> Result<String> {
    let (on, off) = match marks {
        Marks::Colour => ("\x1b[32m", "\x1b[0m"),
        Marks::Plain => ("⟦", "⟧"),
    };
    let mut out = String::new();
    let trained = |i: usize| example.weights[i] != 0.0;
    // One stream over all tokens, so that a character split over tokens is still shown.
    let mut stream = tokenizer.stream(false);
    let mut inside = false;
    for (i, id) in example.tokens.iter().enumerate() {
        if trained(i) != inside {
            out.push_str(&safe(&stream.finish()?));
            stream = tokenizer.stream(false);
            out.push_str(if inside { off } else { on });
            inside = !inside;
        }
        out.push_str(&safe(&stream.push(*id)?));
    }
    out.push_str(&safe(&stream.finish()?));
    if inside {
        out.push_str(off);
    }
    let _ = writeln!(out, "\n{} tokens, {} trained", example.len(), example.trained());
    let ends =
        [("first", (0..example.len()).find(|i| trained(*i))), ("last", (0..example.len()).rfind(|i| trained(*i)))];
    for (which, at) in ends {
        if let Some(at) = at {
            let id = example.tokens[at];
            let _ = writeln!(out, "{which} trained token: {:?} (id {id}, place {at})", tokenizer.decode(&[id], false)?);
        }
    }
    Ok(out)
}

/// Text of a data set may hold codes that command a terminal.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
