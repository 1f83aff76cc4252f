//! Names, things and words that the language puzzles draw from, and reading of short answers.

use postgrad_base::Stream;

pub const NAMES: &[&str] = &[
    "Ada", "Alan", "Amy", "Anna", "Ben", "Bella", "Carl", "Cora", "Dan", "Dora", "Ella", "Emil", "Eva", "Finn",
    "Flora", "Fred", "Gina", "Glen", "Greta", "Hans", "Hugo", "Ida", "Igor", "Iris", "Jack", "Jane", "Joel", "Jude",
    "Kara", "Karl", "Kate", "Lars", "Lena", "Lily", "Luke", "Mara", "Mark", "Milo", "Mona", "Nina", "Noah", "Nora",
    "Olga", "Omar", "Oscar", "Paul", "Petra", "Rita", "Rosa", "Ruth", "Saul", "Seth", "Sofia", "Tara", "Theo", "Toby",
    "Vera", "Walt", "Yara", "Zara",
];

pub const THINGS: &[&str] = &[
    "ball", "bell", "belt", "book", "bowl", "box", "brush", "candle", "card", "chain", "clock", "coat", "coin", "comb",
    "cup", "doll", "drum", "fan", "flag", "flute", "fork", "glove", "hat", "jar", "kettle", "key", "kite", "knife",
    "lamp", "lens", "map", "mask", "mirror", "mug", "pen", "pipe", "plate", "ring", "rope", "scarf", "shell", "spoon",
    "stamp", "sword", "tent", "tie", "torch", "toy", "vase", "whistle",
];

pub const COLORS: &[&str] = &["red", "blue", "green", "black", "white", "pink", "brown", "gray", "yellow", "orange"];

pub const PLACES: &[&str] = &[
    "airport", "aquarium", "bakery", "bank", "barn", "beach", "bridge", "cafe", "castle", "cinema", "court", "farm",
    "forest", "garage", "garden", "gym", "harbor", "hospital", "hotel", "kitchen", "lake", "library", "market", "mill",
    "mine", "museum", "office", "park", "port", "school", "stable", "station", "studio", "temple", "theater", "tower",
    "tunnel", "valley", "village", "zoo",
];

pub const WORDS: &[&str] = &[
    "acorn", "actor", "after", "agree", "alarm", "album", "alone", "angle", "ankle", "apple", "apron", "arena",
    "arrow", "aside", "autumn", "badge", "bagel", "baker", "banana", "barrel", "basic", "basket", "beach", "beard",
    "beetle", "begin", "berry", "bishop", "blade", "blank", "blaze", "board", "bottle", "brain", "branch", "brave",
    "bread", "brick", "bride", "bronze", "bucket", "build", "bundle", "butter", "button", "cabin", "cactus", "camel",
    "candle", "canoe", "carpet", "carrot", "castle", "cattle", "center", "chair", "chalk", "charm", "cheese", "cherry",
    "chest", "circle", "clever", "cliff", "clock", "cloud", "coast", "coffee", "collar", "comet", "copper", "coral",
    "cotton", "cradle", "cream", "crown", "curtain", "dagger", "dairy", "dance", "danger", "debate", "decade", "deer",
    "desert", "diamond", "dinner", "doctor", "dolphin", "donkey", "dragon", "drama", "dream", "drift", "eagle",
    "early", "earth", "easel", "echo", "elbow", "elder", "ember", "empire", "engine", "equal", "eraser", "event",
    "exact", "fabric", "falcon", "family", "feast", "fence", "ferry", "fiber", "field", "finger", "flame", "flock",
    "flour", "flower", "forest", "fossil", "frame", "frost", "fruit", "funnel", "galaxy", "garden", "garlic", "gentle",
    "ghost", "giant", "ginger", "glass", "globe", "glove", "grain", "grape", "grass", "guest", "guitar", "habit",
    "hammer", "handle", "harbor", "hazel", "heart", "hedge", "helmet", "hero", "hollow", "honey", "horse", "hotel",
    "humble", "hunter", "igloo", "image", "index", "insect", "island", "ivory", "jacket", "jelly", "jewel", "jungle",
    "kettle", "kitten", "knight", "ladder", "lantern", "laser", "laurel", "lawyer", "leader", "lemon", "letter",
    "lily", "linen", "lizard", "lobster", "locket", "lumber", "magnet", "maple", "marble", "market", "meadow", "medal",
    "melody", "metal", "mirror", "model", "monkey", "mother", "motor", "muscle", "museum", "napkin", "native",
    "needle", "nephew", "noble", "noodle", "north", "novel", "nurse", "oasis", "ocean", "olive", "onion", "orange",
    "orbit", "orchid", "otter", "oxygen", "oyster", "paddle", "palace", "panda", "paper", "parrot", "pastry", "pearl",
    "pencil", "pepper", "piano", "pickle", "pigeon", "pillow", "pirate", "planet", "plate", "pocket", "poet", "pond",
    "powder", "prince", "puppet", "puzzle", "quartz", "queen", "quilt", "rabbit", "radar", "raven", "razor", "reader",
    "ribbon", "river", "robin", "rocket", "saddle", "salad", "salmon", "scarf", "school", "season", "shadow", "shell",
    "shield", "signal", "silver", "singer", "sister", "sketch", "smoke", "snail", "soldier", "spider", "spoon",
    "spring", "square", "stable", "statue", "stone", "storm", "street", "sugar", "summer", "sunset", "table", "tailor",
    "talent", "tiger", "timber", "tomato", "tower", "trail", "train", "tulip", "tunnel", "turtle", "uncle", "under",
    "unit", "urban", "valley", "velvet", "vessel", "violin", "vision", "vowel", "wagon", "walnut", "water", "whale",
    "wheat", "whisper", "window", "winter", "wizard", "wonder", "yacht", "yellow", "yogurt", "zebra", "zipper",
];

/// `n` different ones of `from`, in random order.
pub fn some(stream: &mut Stream, from: &'static [&'static str], n: usize) -> Vec<String> {
    stream.sample(from.len(), n).into_iter().map(|i| from[i].to_string()).collect()
}

/// `a, b and c`.
pub fn listed(items: &[impl AsRef<str>]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_string(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

/// The first letter in capitals.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// The words of an answer that is a list, in lower case, without commas, semicolons, brackets, quotes, `and` and a last
/// full stop. None when there is no word, or one that cannot stand in such an answer.
pub fn items(answer: &str, may: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let apart = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '[' | ']' | '(' | ')' | '"' | '\'' | '`' | '*');
    let words = answer.trim().trim_end_matches('.').split(apart);
    let words: Vec<String> = words.filter(|w| !w.is_empty() && *w != "and").map(str::to_lowercase).collect();
    (!words.is_empty() && words.iter().all(|w| may(w))).then_some(words)
}

/// Whole numbers.
pub fn numbers(answer: &str) -> Option<Vec<i64>> {
    let digits = |w: &str| w.parse::<i64>().is_ok();
    items(answer, digits).map(|all| all.iter().filter_map(|w| w.parse().ok()).collect())
}

/// Whether an answer is this one whole number.
pub fn is_number(answer: &str, right: i64) -> Option<bool> {
    numbers(answer).map(|said| said == [right])
}

/// Whether an answer holds these words once each, in any order; `none` stands for no word.
pub fn is_set(answer: &str, may: impl Fn(&str) -> bool, right: &[String]) -> Option<bool> {
    let mut said = items(answer, |w| w == "none" || may(w))?;
    let mut right: Vec<String> = right.iter().map(|w| w.to_lowercase()).collect();
    if right.is_empty() {
        right.push("none".into());
    }
    said.sort();
    right.sort();
    Some(said == right)
}
