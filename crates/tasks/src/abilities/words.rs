//! The words that the abilities use: short, common, of known kind.

pub const ANIMALS: &[&str] =
    &["cat", "dog", "cow", "pig", "hen", "fox", "bee", "owl", "ant", "bear", "frog", "goat", "lion", "wolf", "duck"];
pub const FRUITS: &[&str] = &["apple", "pear", "plum", "fig", "lemon", "peach", "grape", "mango", "kiwi", "melon"];
pub const COLORS: &[&str] = &["red", "blue", "green", "black", "white", "pink", "brown", "gray", "gold", "orange"];
pub const TOOLS: &[&str] = &["saw", "axe", "drill", "pen", "brush", "rope", "nail", "spade", "knife", "needle"];
pub const PLACES: &[&str] = &["town", "farm", "lake", "hill", "park", "shop", "road", "barn", "port", "cave"];

/// Kinds with their words, for questions about kinds.
pub const KINDS: &[(&str, &[&str])] =
    &[("an animal", ANIMALS), ("a fruit", FRUITS), ("a color", COLORS), ("a tool", TOOLS), ("a place", PLACES)];

/// All words.
pub fn all() -> impl Iterator<Item = &'static str> {
    KINDS.iter().flat_map(|k| k.1.iter().copied())
}

pub fn any(stream: &mut postgrad_base::Stream) -> &'static str {
    let kind = KINDS[stream.below(KINDS.len())].1;
    kind[stream.below(kind.len())]
}

/// `n` different words.
pub fn different(stream: &mut postgrad_base::Stream, n: usize) -> Vec<&'static str> {
    let words: Vec<&str> = all().collect();
    stream.sample(words.len(), n).into_iter().map(|i| words[i]).collect()
}
