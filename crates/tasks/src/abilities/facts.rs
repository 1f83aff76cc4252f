//! `facts`: a closed table of 88 facts asked in several words. Train and test ask the same facts in other words: this is
//! knowledge, which is there or not; what a careless fine-tune forgets.

use super::*;
use serde_json::json;

pub struct Facts;

/// A relation: its wordings (`{}` is the subject) and its pairs of subject and answer.
pub struct Relation {
    pub name: &'static str,
    pub wordings: &'static [&'static str],
    pub pairs: &'static [(&'static str, &'static str)],
}

pub const FACTS: &[Relation] = &[
    Relation {
        name: "capital",
        wordings: &[
            "What is the capital of {}?",
            "Capital of {}?",
            "Name the capital of {}.",
            "The capital of {} is",
            "Which city is the capital of {}?",
        ],
        pairs: &[
            ("France", "Paris"),
            ("Spain", "Madrid"),
            ("Italy", "Rome"),
            ("Germany", "Berlin"),
            ("Japan", "Tokyo"),
            ("China", "Beijing"),
            ("Egypt", "Cairo"),
            ("Greece", "Athens"),
            ("Norway", "Oslo"),
            ("Sweden", "Stockholm"),
            ("Finland", "Helsinki"),
            ("Poland", "Warsaw"),
            ("Austria", "Vienna"),
            ("Portugal", "Lisbon"),
            ("Ireland", "Dublin"),
            ("Russia", "Moscow"),
            ("Cuba", "Havana"),
            ("Peru", "Lima"),
            ("Chile", "Santiago"),
            ("Kenya", "Nairobi"),
            ("Canada", "Ottawa"),
            ("Hungary", "Budapest"),
            ("Denmark", "Copenhagen"),
            ("Belgium", "Brussels"),
        ],
    },
    Relation {
        name: "young",
        wordings: &[
            "What is a young {} called?",
            "A young {} is a",
            "Name for a baby {}?",
            "What do we call a young {}?",
            "Young of the {}?",
        ],
        pairs: &[
            ("cat", "kitten"),
            ("dog", "puppy"),
            ("cow", "calf"),
            ("hen", "chick"),
            ("sheep", "lamb"),
            ("pig", "piglet"),
            ("horse", "foal"),
            ("duck", "duckling"),
            ("lion", "cub"),
            ("goat", "kid"),
            ("frog", "tadpole"),
            ("goose", "gosling"),
            ("swan", "cygnet"),
            ("deer", "fawn"),
            ("owl", "owlet"),
            ("kangaroo", "joey"),
        ],
    },
    Relation {
        name: "opposite",
        wordings: &[
            "What is the opposite of {}?",
            "Opposite of {}?",
            "Not {} but",
            "Name the opposite of {}.",
            "The opposite of {} is",
        ],
        pairs: &[
            ("hot", "cold"),
            ("big", "small"),
            ("up", "down"),
            ("left", "right"),
            ("day", "night"),
            ("wet", "dry"),
            ("old", "new"),
            ("fast", "slow"),
            ("open", "closed"),
            ("rich", "poor"),
            ("hard", "soft"),
            ("full", "empty"),
            ("early", "late"),
            ("light", "dark"),
            ("loud", "quiet"),
            ("happy", "sad"),
            ("first", "last"),
            ("push", "pull"),
            ("strong", "weak"),
            ("long", "short"),
            ("thick", "thin"),
            ("true", "false"),
            ("war", "peace"),
            ("win", "lose"),
        ],
    },
    Relation {
        name: "maker",
        wordings: &[
            "What does a {} make?",
            "A {} makes",
            "What comes from a {}?",
            "Name what a {} makes.",
            "The work of a {}?",
        ],
        pairs: &[
            ("baker", "bread"),
            ("tailor", "clothes"),
            ("poet", "poems"),
            ("potter", "pots"),
            ("brewer", "beer"),
            ("painter", "pictures"),
            ("cobbler", "shoes"),
            ("bee", "honey"),
            ("spider", "webs"),
            ("carpenter", "furniture"),
            ("mason", "walls"),
            ("composer", "music"),
        ],
    },
    Relation {
        name: "after",
        wordings: &[
            "What comes after {}?",
            "After {} comes",
            "Which follows {}?",
            "Name what comes next after {}.",
            "Next after {}?",
        ],
        pairs: &[
            ("Monday", "Tuesday"),
            ("Tuesday", "Wednesday"),
            ("Wednesday", "Thursday"),
            ("Thursday", "Friday"),
            ("Friday", "Saturday"),
            ("Saturday", "Sunday"),
            ("Sunday", "Monday"),
            ("spring", "summer"),
            ("summer", "autumn"),
            ("autumn", "winter"),
            ("winter", "spring"),
            ("breakfast", "lunch"),
        ],
    },
];

impl Ability for Facts {
    const NAME: &'static str = "facts";
    const ABOUT: &'static str = "a closed table of facts, asked in several words";
    const KNOBS: &'static [Knob] = &[];

    fn make(stream: &mut Stream, _: &Difficulty) -> Made {
        let sizes: Vec<f64> = FACTS.iter().map(|r| r.pairs.len() as f64).collect();
        let relation = &FACTS[stream.weighted(&sizes)];
        let (subject, _) = *stream.choose(relation.pairs);
        let prompt = word(stream, relation.wordings, &[subject]);
        let meta = json!({"relation": relation.name, "subject": subject});
        Made { prompt, key: format!("{} {subject}", relation.name), meta, known: true }
    }

    fn answer(meta: &Value) -> Option<String> {
        let relation = FACTS.iter().find(|r| meta["relation"] == r.name)?;
        relation.pairs.iter().find(|p| meta["subject"] == p.0).map(|p| p.1.to_string())
    }
}
