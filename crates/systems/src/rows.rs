//! The 101 published systems that the recipes are of: number, slug, title, kind.
//!
//! A slug names the folder of a system's recipe. What stands here is planned; what is done has a folder in `recipes/`
//! ([`crate::recipes`]), and what was measured stands in its ledger.

/// A published system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// From 1.
    pub number: u16,
    /// `masked-thought`.
    pub slug: &'static str,
    /// As published.
    pub title: &'static str,
    /// What it is: a method, a study, a benchmark, a data pipeline, ...
    pub kind: &'static str,
}

/// The row of a slug.
pub fn row(slug: &str) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.slug == slug)
}

const fn of(number: u16, slug: &'static str, title: &'static str, kind: &'static str) -> Row {
    Row { number, slug, title, kind }
}

/// All of them, by number.
#[rustfmt::skip]
pub static ROWS: [Row; 101] = [
    of(1, "cot-faithfulness", "On the Impact of Fine-Tuning on Chain-of-Thought Reasoning", "study, metric"),
    of(2, "masked-thought", "Masked Thought: Simply Masking Partial Reasoning Steps Can Improve Mathematical Reasoning Learning", "method (SFT regulariser)"),
    of(3, "logicllama", "Harnessing LLMs for Natural Language to First-Order Logic Translation", "method, data pipeline, metric"),
    of(4, "morepair", "Multi-Objective Fine-Tuning for Enhanced Program Repair with LLMs", "method (objective), benchmark harness"),
    of(5, "r2s", "Raw Text is All you Need: Knowledge-intensive Multi-turn Instruction Tuning", "data pipeline, benchmark"),
    of(6, "doit", "Dynamics of Instruction Tuning: Each Ability Has Its Own Growth Pace", "study, benchmark"),
    of(7, "mis", "Rethinking Bottlenecks in Safety Fine-Tuning of Vision Language Models (MIS data, MIRage tuning)", "data pipeline, benchmark, method"),
    of(8, "pstl-diffusion", "Diverse Controllable Diffusion Policy with Signal Temporal Logic", "method, environment"),
    of(9, "one-shot-cft", "Critique Fine-Tuning on One Problem", "method, data pipeline"),
    of(10, "r-tuning", "R-Tuning: Teaching LLMs to Refuse Unknown Questions", "method, data pipeline"),
    of(11, "kk-memorization", "On Memorization of LLMs in Logical Reasoning (Knights & Knaves)", "benchmark, study, metric"),
    of(12, "eit", "System-2 Mathematical Reasoning via Enriched Instruction Tuning", "data pipeline, method"),
    of(13, "sgft", "Enhancing the Reasoning of Small Language Models via Solution Guidance Fine-Tuning", "method, data pipeline, decoding (two-model)"),
    of(14, "resa", "Resa: Transparent Reasoning Models via SAEs (SAE-Tuning)", "method, activation lens"),
    of(15, "aft", "Making LLMs Better Reasoners with Alignment (Alignment Fine-Tuning)", "method (objective, preference)"),
    of(16, "entity-tracking", "Fine-Tuning Enhances Existing Mechanisms: A Case Study on Entity Tracking", "analysis"),
    of(17, "think2sql", "Think2SQL: Reinforce LLM Reasoning Capabilities for Text2SQL", "study, method (RL with execution reward)"),
    of(18, "reft", "ReFT: Reasoning with Reinforced Fine-Tuning", "method (RL)"),
    of(19, "hft", "HFT: Half Fine-Tuning for Large Language Models", "method (trainable-parameter selection)"),
    of(20, "nlsat", "Pushing the Limits of Rule Reasoning in Transformers through Natural Language Satisfiability", "benchmark, data pipeline, study"),
    of(21, "dpo-variants", "Insights into Alignment: Evaluating DPO and its Variants Across Multiple Tasks", "study"),
    of(22, "dart-math", "Difficulty-Aware Rejection Tuning (DART) for math problem solving", "method, data pipeline"),
    of(23, "lift", "Low-rank Informed Sparse Fine-Tuning (Principal Weights)", "method"),
    of(24, "implicit-inference", "Catastrophic forgetting as skewed task inference; Conjugate Prompting", "analysis, method"),
    of(25, "fait", "Fault-Aware Fine-Tuning for code generation (later renamed FGIT)", "method"),
    of(26, "ft-guide", "The Ultimate Guide to Fine-Tuning LLMs (seven-stage pipeline)", "survey"),
    of(27, "zno-cot", "Chain-of-thought PEFT of small models for Ukrainian exam tasks (ZNO-Eval)", "study, benchmark"),
    of(28, "peft-unittest", "PEFT for unit test generation: an empirical study", "study"),
    of(29, "implicit-ins", "Instruction Following without Instruction Tuning", "analysis, decoding"),
    of(30, "mistake-tuning", "Learning from previous mistakes: CoTErrorSet, self-rethinking, mistake tuning", "data pipeline, method"),
    of(31, "llmtune", "LLM that proposes a starting configuration for database knob tuning (later E2ETune)", "method, data pipeline"),
    of(32, "brain-align", "Instruction-tuning aligns LLMs to the human brain", "analysis, study"),
    of(33, "scr-math", "Fine-tuning for MATH: SSFT, solution-cluster re-ranking (SCR), sequential multi-task tuning", "method, study"),
    of(34, "retro-search", "Retro-Search: revise reasoning traces by exploring untaken continuations", "method, data pipeline"),
    of(35, "perfrl", "RL + small LLMs for code optimisation (PIE data, CodeT5, RRHF); later named PerfRL", "method"),
    of(36, "logiglue", "LogiGLUE: logical-reasoning survey, 24-set benchmark, LogiT5", "benchmark, survey"),
    of(37, "milp-synth", "MILP models from natural-language descriptions (3-stage, constraint classes + templates)", "method, benchmark"),
    of(38, "arith-heads", "Interpreting and improving LLMs in arithmetic: key heads/MLPs, precise tuning", "analysis, method"),
    of(39, "opt-iml", "OPT-IML: instruction meta-learning through the lens of generalisation", "benchmark, study"),
    of(40, "fs1", "Scaling reasoning can improve factuality (reasoning traces + knowledge-graph paths)", "data pipeline, study"),
    of(41, "relift", "ReLIFT: RL interleaved with online fine-tuning on the hardest questions", "method"),
    of(42, "abc-rl", "ABC-RL: retrieval-guided RL (MCTS) for Boolean circuit minimisation", "method, environment"),
    of(43, "select2reason", "Select2Reason: Efficient Instruction-Tuning Data Selection for Long-CoT Reasoning", "data pipeline (data selection)"),
    of(44, "epicoder", "EpiCoder: Encompassing Diversity and Complexity in Code Generation", "data pipeline"),
    of(45, "acereason11", "AceReason-Nemotron 1.1: Advancing Math and Code Reasoning through SFT and RL Synergy", "study, method (post-training recipe)"),
    of(46, "sass", "Harnessing the Power of David against Goliath: Instruction Data Generation without Closed-Source Models (later title: SASS, self-alignment with semi-supervised instruction generation)", "data pipeline, study"),
    of(47, "rise", "Recursive Introspection: Teaching Language Model Agents How to Self-Improve (RISE)", "method"),
    of(48, "quantum-circuits", "Fine-Tuning LLMs on Quantum Optimization Problems for Circuit Generation (v2 title: Agent-Q)", "data pipeline, method"),
    of(49, "cogex", "Learning to Reason via Program Generation, Emulation, and Search (CoGEX + CoTACS)", "method, data pipeline"),
    of(50, "vgrp-bench", "VGRP-Bench: Visual Grid Reasoning Puzzle Benchmark for Large Vision-Language Models", "benchmark, study"),
    of(51, "echo-chamber", "Echo Chamber: RL Post-training Amplifies Behaviors Learned in Pretraining", "study"),
    of(52, "dmt", "How Abilities in LLMs are Affected by SFT Data Composition (Dual-stage Mixed Fine-tuning)", "study, method (mixture/curriculum)"),
    of(53, "proxy-tuning", "Tuning Language Models by Proxy", "decoding, method"),
    of(54, "sec", "Self-Evolving Curriculum for LLM Reasoning", "method (curriculum for RL)"),
    of(55, "instruct-robust", "Evaluating the Zero-shot Robustness of Instruction-tuned Language Models", "study, method"),
    of(56, "still2", "Imitate, Explore, and Self-Improve: A Reproduction Report on Slow-thinking Reasoning Systems (STILL-2)", "method, study"),
    of(57, "doctoragent-rl", "DoctorAgent-RL: Multi-Agent Collaborative RL for Multi-Turn Clinical Dialogue", "method, environment"),
    of(58, "deita", "What Makes Good Data for Alignment? A Comprehensive Study of Automatic Data Selection (Deita)", "data pipeline (data selection), study"),
    of(59, "eft", "An Emulator for Fine-Tuning Large Language Models using Small Language Models (Emulated Fine-Tuning)", "decoding, analysis"),
    of(60, "mbpp", "Program Synthesis with Large Language Models (MBPP, MathQA-Python)", "benchmark, study"),
    of(61, "lemma", "LEMMA: Learning from Errors for MatheMatical Advancement in LLMs", "data pipeline, method"),
    of(62, "tower-plus", "Tower+: Bridging Generality and Translation Specialization in Multilingual LLMs", "method (four-stage post-training recipe), benchmark (IF-MT)"),
    of(63, "demystify-long-cot", "Demystifying Long Chain-of-Thought Reasoning in LLMs", "study, method (reward shaping)"),
    of(64, "traced", "TRACED: Execution-aware Pre-training for Source Code", "method, data pipeline"),
    of(65, "lrm-safety", "How Should We Enhance the Safety of Large Reasoning Models: An Empirical Study", "study, data pipeline"),
    of(66, "cot-valve", "CoT-Valve: Length-Compressible Chain-of-Thought Tuning", "method (adapter + inference), data pipeline"),
    of(67, "logicasker", "A & B == B & A: Triggering Logical Reasoning Failures in LLMs (LogicAsker)", "benchmark, method (test-driven improvement)"),
    of(68, "quiet-star", "Quiet-STaR: Language Models Can Teach Themselves to Think Before Speaking", "method"),
    of(69, "open-rs", "Reinforcement Learning for Reasoning in Small LLMs: What Works and What Doesn't", "study, method (low-budget GRPO recipe), data pipeline"),
    of(70, "semantic-fragments", "Probing Natural Language Inference Models through Semantic Fragments", "benchmark, method (lossless inoculation)"),
    of(71, "unir", "Universal Reasoner: A Single, Composable Plug-and-Play Reasoner for Frozen LLMs", "method, decoding"),
    of(72, "cocktail", "Mixing It Up: The Cocktail Effect of Multi-Task Fine-Tuning (Case Study in Finance)", "study"),
    of(73, "pensez", "Pensez: Less Data, Better Reasoning – Rethinking French LLM", "data pipeline, method (SFT recipe)"),
    of(74, "nap", "End-to-End Meta-Bayesian Optimisation with Transformer Neural Processes (NAP)", "method (RL + supervised), domain: Bayesian optimisation"),
    of(75, "itool", "Boosting Tool Use of LLMs via Iterative Reinforced Fine-Tuning (iTool)", "method, data pipeline"),
    of(76, "protoqa-prompts", "Large Language Models Are Also Good Prototypical Commonsense Reasoners", "decoding (prompt pipeline), benchmark (ProtoQA metric)"),
    of(77, "data-tsunami", "Unleashing the Power of Data Tsunami: Survey on Data Assessment and Selection for Instruction Tuning", "survey (as a system: runnable taxonomy + comparison study)"),
    of(78, "peft-code", "Exploring Parameter-Efficient Fine-Tuning Techniques for Code Generation with LLMs", "study"),
    of(79, "synlogic", "SynLogic: Synthesizing Verifiable Reasoning Data at Scale for Learning Logical Reasoning and Beyond", "data pipeline, benchmark, method (RL mixture)"),
    of(80, "tuco", "TuCo: Measuring the Contribution of Fine-Tuning to Individual Responses of LLMs", "analysis (activation lens), metric"),
    of(81, "trice", "Training Chain-of-Thought via Latent-Variable Inference (TRICE)", "method"),
    of(82, "sparkle", "Beyond Accuracy: Dissecting Mathematical Reasoning for LLMs Under Reinforcement Learning (SPARKLE)", "study, benchmark, method (RL with partial-solution scaffolding)"),
    of(83, "ft-safety-audit", "Fine-tuning Aligned Language Models Compromises Safety, Even When Users Do Not Intend To!", "study, metric/evaluation (defensive)"),
    of(84, "skill-graft", "Task-Specific Skill Localization in Fine-tuned Language Models", "method, analysis"),
    of(85, "crash", "CRaSh: Clustering, Removing, and Sharing Enhance Fine-tuning without Full LLM", "method, analysis"),
    of(86, "lora-safety-audit", "LoRA Fine-tuning Efficiently Undoes Safety Training in Llama 2-Chat 70B", "study, metric/evaluation (defensive)"),
    of(87, "code-pretrain-logic", "Which Programming Language and What Features at Pre-training Stage Affect Downstream Logical Inference Performance?", "study"),
    of(88, "deconfound", "Aligning Language Models with Observational Data (DeconfoundLM)", "method, study"),
    of(89, "memory-r", "Reasoning Under 1 Billion: Memory-Augmented RL (Memory-R / Memory-R+)", "method"),
    of(90, "ldc-ideas", "LDC: Learning to Generate Research Idea with Dynamic Control", "method, decoding"),
    of(91, "thoughtmani", "Thought Manipulation: External Thought Can Be Efficient for Large Reasoning Models", "decoding, study"),
    of(92, "ept", "Efficient Prompt Tuning by Multi-Space Projection and Prompt Fusion", "method"),
    of(93, "dots", "DOTS: Learning to Reason Dynamically in LLMs via Optimal Reasoning Trajectories Search", "method, data pipeline"),
    of(94, "autopeft", "AutoPEFT: Automatic Configuration Search for Parameter-Efficient Fine-Tuning", "method, study"),
    of(95, "domain-merge", "Fine-tuning LLMs for domain adaptation: training strategies, scaling, model merging and synergistic capabilities", "study, method"),
    of(96, "mind", "Done Is Better than Perfect: Unlocking Efficient Reasoning by Structured Multi-Turn Decomposition (MinD)", "method, data pipeline"),
    of(97, "agent-q", "Agent Q: Advanced Reasoning and Learning for Autonomous AI Agents", "method, environment"),
    of(98, "awl-tools", "Adapting While Learning (AWL): Grounding LLMs for Scientific Problems with Tool Usage Adaptation", "method, data pipeline"),
    of(99, "llm-heuristics", "Classical Planning with LLM-Generated Heuristics", "method, search"),
    of(100, "hdflow", "HDFlow: Enhancing LLM Complex Problem-Solving with Hybrid Thinking and Dynamic Workflows", "method, data pipeline"),
    of(101, "dto", "Don't Think Longer, Think Wisely: Optimizing Thinking Dynamics for Large Reasoning Models", "method, data pipeline"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_row_is_there_once_and_in_order() {
        assert!(ROWS.iter().map(|r| r.number).eq(1..=101));
        let slugs: BTreeSet<&str> = ROWS.iter().map(|r| r.slug).collect();
        assert_eq!(slugs.len(), 101);
        let plain = |s: &str| s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        for r in &ROWS {
            assert!(plain(r.slug) && !r.slug.is_empty() && !r.title.is_empty() && !r.kind.is_empty(), "{r:?}");
            assert_eq!(row(r.slug), Some(r));
        }
        assert_eq!((row("masked-thought").unwrap().number, row("dto").unwrap().number, row("none")), (2, 101, None));
    }

    #[test]
    fn every_folder_of_recipes_is_a_row() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        for folder in std::fs::read_dir(root).unwrap().flatten().filter(|e| e.path().is_dir()) {
            let slug = folder.file_name().to_string_lossy().into_owned();
            assert!(row(&slug).is_some(), "recipes/{slug} is none of the 101 systems");
        }
    }
}
