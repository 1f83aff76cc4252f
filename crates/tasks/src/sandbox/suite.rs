//! HumanEval and MBPP: rows, the program that a completion makes, and pass@k.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374); Austin et al., "Program Synthesis with Large Language
//! Models" (arXiv 2108.07732).

use serde::Deserialize;

use super::Test;

/// A row of HumanEval.
#[derive(Clone, Debug, Deserialize)]
pub struct HumanEval {
    pub task_id: String,
    /// Imports, signature and docstring; a completion goes on from here.
    pub prompt: String,
    pub entry_point: String,
    pub canonical_solution: String,
    /// Defines `check(candidate)`.
    pub test: String,
}

impl HumanEval {
    /// The program for a completion: the text after the prompt, or (where it defines the entry point itself) a whole function.
    pub fn program(&self, completion: &str) -> Test {
        let whole = completion.lines().any(|line| {
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ");
            rest.is_some_and(|rest| {
                rest.trim_start().strip_prefix(&self.entry_point).is_some_and(|r| r.trim_start().starts_with('('))
            })
        });
        // A whole function still gets the prompt's imports and helpers: the prompt's own (bodiless but documented) function is then replaced.
        let glue = if whole { "\n    pass\n\n" } else { "" };
        Test::asserts(format!("{}{glue}{completion}\n\n{}\n\ncheck({})\n", self.prompt, self.test, self.entry_point))
    }
}

/// A row of MBPP, full (`text`) or sanitized (`prompt`, `test_imports`).
#[derive(Clone, Debug, Deserialize)]
pub struct Mbpp {
    pub task_id: u64,
    #[serde(alias = "prompt")]
    pub text: String,
    pub code: String,
    pub test_list: Vec<String>,
    #[serde(default)]
    pub test_setup_code: String,
    #[serde(default)]
    pub test_imports: Vec<String>,
    #[serde(default)]
    pub challenge_test_list: Vec<String>,
}

impl Mbpp {
    /// The program for a completion: setup, code, then every assertion of the row.
    pub fn program(&self, completion: &str) -> Test {
        let mut parts = self.test_imports.clone();
        parts.extend([self.test_setup_code.clone(), completion.to_string()]);
        parts.extend(self.test_list.iter().cloned());
        Test::asserts(parts.join("\n") + "\n")
    }
}

/// Chance that at least one of `k` samples drawn without replacement from `n`, of which `c` pass, passes: 1 - C(n-c, k) / C(n, k)
/// (the unbiased estimator of arXiv 2107.03374). None where `k` is 0 or above `n`, or `c` above `n`.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    Some(1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::sandbox::Expect;

    #[test]
    fn all_164_rows_parse_and_assemble() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/humaneval/HumanEval.jsonl.gz");
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        let rows: Vec<HumanEval> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 164);
        for row in &rows {
            let test = row.program(&row.canonical_solution);
            assert!(matches!(test.expect, Expect::Asserts));
            assert!(
                test.source.starts_with(&row.prompt) && test.source.ends_with(&format!("check({})\n", row.entry_point)),
                "{}",
                row.task_id
            );
            assert!(test.source.contains(&row.canonical_solution));
        }
    }

    #[test]
    fn a_whole_function_follows_a_closed_prompt() {
        let row = HumanEval {
            task_id: "t/0".into(),
            prompt: "def f(x):\n    \"\"\"Adds one.\"\"\"\n".into(),
            entry_point: "f".into(),
            canonical_solution: "    return x + 1\n".into(),
            test: "def check(c):\n    assert c(1) == 2".into(),
        };
        assert!(!row.program("    return x + 1\n").source.contains("pass"));
        assert!(row.program("def f (x):\n    return x + 1").source.contains("\n    pass\n\ndef f (x):"));
        assert!(!row.program("    def f2(x): pass").source.contains("\n    pass\n"));
    }

    #[test]
    fn mbpp_rows_of_both_kinds_parse() {
        let full = r#"{"text": "t", "code": "def f(x):\r\n  return x", "task_id": 1, "test_setup_code": "import math", "test_list": ["assert f(1) == 1"], "challenge_test_list": []}"#;
        let row: Mbpp = serde_json::from_str(full).unwrap();
        assert_eq!(row.program("def f(x): return 1").source, "import math\ndef f(x): return 1\nassert f(1) == 1\n");
        let sanitized = r#"{"source_file": "a.ipynb", "task_id": 2, "prompt": "p", "code": "c", "test_imports": ["import re"], "test_list": ["assert g()", "assert h()"]}"#;
        let row: Mbpp = serde_json::from_str(sanitized).unwrap();
        assert_eq!(row.program("x").source, "import re\n\nx\nassert g()\nassert h()\n");
    }

    #[test]
    fn pass_at_k_equals_the_count_of_subsets() {
        // By enumeration of all k-subsets of n samples, the first c of which pass.
        for n in 1..=8u64 {
            for c in 0..=n {
                for k in 1..=n {
                    let subsets: Vec<u32> = (0u32..1 << n).filter(|s| s.count_ones() as u64 == k).collect();
                    let hit = subsets.iter().filter(|&&s| s & ((1 << c) - 1) != 0).count();
                    let expected = hit as f64 / subsets.len() as f64;
                    assert!((pass_at_k(n, c, k).unwrap() - expected).abs() < 1e-12, "{n} {c} {k}");
                }
            }
        }
        assert_eq!((pass_at_k(5, 1, 0), pass_at_k(5, 1, 6), pass_at_k(5, 6, 1)), (None, None, None));
    }
}
