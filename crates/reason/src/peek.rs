//! What a model would say next: the logits after a prompt, without sampling.

use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Result};
use postgrad_nn::sample::Source;

use crate::folder::ModelFolder;

/// Prompts read at a time.
const PLACES: usize = 32;
/// Tokens of a prompt read in one call.
const CHUNK: usize = 512;

/// Logits of the next token after each prompt, handed to `take` with the prompt's number, in order. A prompt that is empty
/// or does not fit the model's context is an error.
pub fn next_logits(
    model: &ModelFolder,
    prompts: &[Vec<u32>],
    cancel: &Cancel,
    mut take: impl FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let decoder = &model.decoder;
    let context = decoder.context();
    if let Some(i) = prompts.iter().position(|p| p.is_empty() || p.len() > context) {
        return Err(Error::usage(format!(
            "prompt {} has {} tokens, the model reads 1 to {context}",
            i + 1,
            prompts[i].len()
        )));
    }
    for (g, group) in prompts.chunks(PLACES).enumerate() {
        cancel.check()?;
        let mut states: Vec<_> = group.iter().map(|_| decoder.start()).collect();
        let mut last: Vec<Vec<f32>> = vec![vec![]; group.len()];
        let longest = group.iter().map(Vec::len).max().unwrap_or(0);
        for from in (0..longest).step_by(CHUNK) {
            let reading: Vec<usize> = (0..group.len()).filter(|i| group[*i].len() > from).collect();
            let tokens: Vec<&[u32]> =
                reading.iter().map(|i| &group[*i][from..group[*i].len().min(from + CHUNK)]).collect();
            let mut reads: Vec<_> =
                states.iter_mut().enumerate().filter(|(i, _)| group[*i].len() > from).map(|(_, s)| s).collect();
            let logits = decoder.next(&mut reads, &tokens)?;
            for (i, row) in reading.iter().zip(logits.chunks_exact(decoder.vocab())) {
                last[*i] = row.to_vec();
            }
        }
        for (i, row) in last.iter().enumerate() {
            take(g * PLACES + i, row)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Options, answers};
    use std::path::Path;

    #[test]
    fn the_likeliest_next_token_is_the_greedy_one() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat/model-chatml");
        let model = ModelFolder::load(&dir).unwrap();
        let texts = ["Tom has 3", "What is 2+3?", "a", "Tom has 3 apples and buys 4 more."];
        let prompts: Vec<Vec<u32>> = texts.iter().map(|t| model.renderer.tokenizer().encode(t).unwrap()).collect();
        let said = answers(&model, &prompts, &Options::greedy(1), &Cancel::new()).unwrap();
        let mut n = 0;
        next_logits(&model, &prompts, &Cancel::new(), |i, row| {
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            assert_eq!(best as u32, said[i].completion.tokens[0]);
            assert_eq!(i, n);
            n += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(n, 4);
        assert_eq!(next_logits(&model, &[vec![]], &Cancel::new(), |_, _| Ok(())).unwrap_err().exit_code(), 2);
    }
}
