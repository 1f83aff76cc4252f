//! Stages of an arm: overrides laid over the file's, typed by their kinds, in an order in which each follows what it reads.

use std::collections::BTreeSet;

use postgrad_base::{Error, Result};
use serde_json::Value;

use super::fault::unknown;
use super::tree::{Node, What};
use super::{Arm, Override, Recipe, Resolved, Span, check};
use crate::stage::{Fault, Input, Kind};

/// A stage of an arm with the places of its values.
pub(super) struct Merged<'a> {
    pub name: &'a str,
    /// Where the stage is named.
    pub at: &'a Span,
    pub node: Node,
}

impl Recipe {
    /// All stages of an arm, each after what it reads; ties by the order of the file.
    pub fn stages(&self, arm: &str, overrides: &[Override]) -> Result<Vec<Resolved>> {
        let merged = self.merged(self.arm(arm)?, overrides)?;
        let resolved: Vec<Resolved> = merged.iter().map(|m| self.resolve(m)).collect::<Result<_>>()?;
        self.in_order(&merged, resolved)
    }

    /// The stages that `wanted` need, themselves among them, in the order of [`Recipe::stages`].
    pub fn needed(&self, arm: &str, wanted: &[&str], overrides: &[Override]) -> Result<Vec<Resolved>> {
        let all = self.stages(arm, overrides)?;
        let known: Vec<&str> = self.stage_names().collect();
        if let Some(name) = wanted.iter().find(|w| !known.contains(w)) {
            return Err(unknown(format!("the recipe has no stage `{name}`"), name, &known).at(self.path.display()));
        }
        let mut needed: BTreeSet<&str> = wanted.iter().copied().collect();
        // From the last to the first: whoever reads a stage comes after it.
        for stage in all.iter().rev() {
            if needed.contains(stage.name.as_str()) {
                needed.extend(stage.inputs.iter().map(Input::name));
            }
        }
        let needed: BTreeSet<String> = needed.into_iter().map(String::from).collect();
        Ok(all.into_iter().filter(|s| needed.contains(&s.name)).collect())
    }

    /// The stages whose rows an arm is to produce: those of `measure` and those that claims and controls read of this arm. Where
    /// there are none, all that no other stage reads.
    pub fn wanted(&self, arm: &str) -> Result<Vec<String>> {
        let claimed = self.read_by_claims().filter(|(_, named)| named.arm == arm).map(|(_, named)| named.stage);
        let mut wanted: Vec<String> = self.measure.clone();
        for stage in claimed {
            if !wanted.contains(&stage) {
                wanted.push(stage);
            }
        }
        if !wanted.is_empty() {
            return Ok(wanted);
        }
        let all = self.stages(arm, &[])?;
        let read: BTreeSet<&str> = all.iter().flat_map(|s| s.inputs.iter().map(Input::name)).collect();
        Ok(self.stage_names().filter(|s| !read.contains(s)).map(String::from).collect())
    }

    pub(super) fn merged(&self, arm: &Arm, overrides: &[Override]) -> Result<Vec<Merged<'_>>> {
        let mut merged: Vec<Merged> =
            self.stages.iter().map(|s| Merged { name: &s.name, at: &s.at, node: s.node.clone() }).collect();
        for (stage, over) in &arm.overrides {
            let m = merged.iter_mut().find(|m| m.name == stage).expect("an arm's stages were checked");
            match over.get("use") {
                Some(_) => m.node = over.clone(),
                None => m.node.merge(over),
            }
        }
        for o in overrides {
            let Some(m) = merged.iter_mut().find(|m| m.name == o.stage) else {
                let known: Vec<&str> = self.stage_names().collect();
                return Err(unknown(format!("the recipe has no stage `{}`", o.stage), &o.stage, &known));
            };
            let axis = self.tune.iter().flat_map(|t| &t.grid).find(|a| a.stage == o.stage && a.key == o.key);
            let at = axis.map_or(m.at, |a| &a.at);
            let of_axis = axis.and_then(|a| a.nodes.iter().zip(&a.values).find(|(_, v)| **v == o.value));
            let node = of_axis.map_or_else(|| Node::of_json(&o.value, at), |(node, _)| node.clone());
            m.node.merge(&Node::nested(&o.key.split('.').collect::<Vec<_>>(), at, node));
        }
        Ok(merged)
    }

    pub(super) fn resolve(&self, stage: &Merged) -> Result<Resolved> {
        let kind = self.kind(stage)?;
        let mut config = stage.node.to_json();
        if let Value::Object(map) = &mut config {
            map.shift_remove("use");
        }
        let config = (kind.resolve)(&config).map_err(|f| self.show(f, stage, &kind))?;
        let mut inputs: Vec<Input> = Vec::new();
        for input in Input::all(&config) {
            if !self.named.contains_key(input.name()) {
                let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
                let error = unknown(format!("`{input}` names nothing"), input.name(), &known);
                return Err(place_of(&input, stage).locate(error));
            }
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        Ok(Resolved { name: stage.name.into(), kind, config, inputs })
    }

    fn kind(&self, stage: &Merged) -> Result<Kind> {
        let Some(used) = stage.node.get("use") else {
            let known: Vec<&str> = self.kinds.iter().map(|k| k.name).collect();
            let error = Error::usage(format!("the stage `{}` does not say its kind", stage.name));
            return Err(stage.node.span.locate(error.help(format!("use = one of {}", known.join(", ")))));
        };
        let name = used.node.text()?;
        self.kinds.iter().find(|k| k.name == name).copied().ok_or_else(|| {
            let known: Vec<&str> = self.kinds.iter().map(|k| k.name).collect();
            used.node.span.locate(unknown(format!("there is no kind of stage `{name}`"), name, &known))
        })
    }

    /// A fault of a typed configuration, in words and at its place.
    fn show(&self, fault: Fault, stage: &Merged, kind: &Kind) -> Error {
        let (node, _) = stage.node.at_path(&fault.path);
        let said = fault.error.what().to_string();
        let of = match fault.path.rsplit_once(['.', '[']).map(|(before, _)| before).unwrap_or("") {
            _ if matches!(node.what, What::Table(_)) && !fault.path.is_empty() => {
                format!("`{}` of `{}`", fault.path, kind.name)
            }
            "" => format!("`{}`", kind.name),
            parent => format!("`{parent}` of `{}`", kind.name),
        };
        let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
        if said.starts_with("unknown field") && !quoted.is_empty() {
            let known: Vec<&str> = quoted[1..].to_vec();
            let error = unknown(format!("{of} has no key `{}`", quoted[0]), quoted[0], &known);
            // serde's path may or may not end in the unknown key.
            let at = match node.get(quoted[0]) {
                Some(entry) => &entry.at,
                None => stage.node.at_path(&fault.path).1.unwrap_or(&node.span),
            };
            return at.locate(error);
        }
        if said.starts_with("unknown variant") && !quoted.is_empty() {
            let error = unknown(format!("`{}` cannot be {:?}", fault.path, quoted[0]), quoted[0], &quoted[1..]);
            return node.span.locate(error);
        }
        if said.starts_with("missing field") && !quoted.is_empty() {
            return node.span.fault(format!("{of} needs the key `{}`", quoted[0]));
        }
        if let Some((_, wanted)) = said.split_once(", expected ").filter(|_| said.starts_with("invalid ")) {
            return node.span.fault(format!("`{}`: expected {}, found {}", fault.path, plain(wanted), node.kind()));
        }
        if said.contains("did not match any variant of untagged enum") {
            let error = Error::usage(format!("`{}` cannot be {}", fault.path, node.kind()));
            let named = |s: &str| self.named.contains_key(s);
            let error = match (&node.what, node.find(&named)) {
                (What::Text(s), _) if named(s) => error.help(format!("write \"@{s}\" to name it")),
                (What::List(_), Some(span)) => {
                    error.help(format!("write \"@{}", span.written().trim_start_matches('"')))
                }
                _ => error.help(format!("`postgrad` documents what `{}` of `{}` takes", fault.path, kind.name)),
            };
            return node.span.locate(error);
        }
        // A kind's own check names no key: point at what it quotes, if that is written in the stage.
        let quoted_here = quoted.iter().filter(|q| fault.path.is_empty() && q.chars().count() > 1);
        let at = quoted_here.filter_map(|q| {
            let body = &stage.node;
            body.find(&|s| s == *q && s != "use").or_else(|| body.find(&|s| s.contains(*q)))
        });
        at.into_iter().next().unwrap_or(&node.span).locate(match (&node.what, said.contains("is no reference")) {
            (What::Text(s), true) if self.named.contains_key(s) => fault.error.help(format!("write \"@{s}\"")),
            _ => fault.error,
        })
    }

    fn in_order(&self, merged: &[Merged], resolved: Vec<Resolved>) -> Result<Vec<Resolved>> {
        let mut waiting: Vec<(usize, Resolved)> = resolved.into_iter().enumerate().collect();
        let mut ordered: Vec<Resolved> = Vec::new();
        while !waiting.is_empty() {
            let names: BTreeSet<String> = waiting.iter().map(|(_, s)| s.name.clone()).collect();
            let free = waiting.iter().position(|(_, s)| s.inputs.iter().all(|i| !names.contains(i.name())));
            match free {
                Some(n) => ordered.push(waiting.remove(n).1),
                None => return Err(cycle(merged, &waiting)),
            }
        }
        Ok(ordered)
    }

    /// Every mention of an arm's stage in claims and controls, with the text it stands in.
    pub(super) fn read_by_claims(&self) -> impl Iterator<Item = (&super::Text, super::Named)> {
        let values = self.claims.iter().map(|c| &c.value).chain(self.controls.iter().map(|c| &c.value));
        values.flat_map(|value| check::names(value).into_iter().map(move |n| (value, n)))
    }
}

/// Where a stage's table holds a reference; the stage's name where it is a default.
pub(super) fn place_of<'a>(input: &Input, stage: &'a Merged) -> &'a Span {
    let text = input.to_string();
    stage.node.find(&|s| s == text).unwrap_or(stage.at)
}

/// Every stage that waits reads one that waits: following the first such reference comes round.
fn cycle(merged: &[Merged], waiting: &[(usize, Resolved)]) -> Error {
    let mut walk: Vec<usize> = vec![0];
    loop {
        let (_, here) = &waiting[*walk.last().expect("it has a start")];
        let find = |i: &Input| waiting.iter().position(|(_, s)| s.name == i.name());
        let (input, next) =
            here.inputs.iter().find_map(|i| find(i).map(|n| (i, n))).expect("it waits for one that waits");
        if let Some(start) = walk.iter().position(|w| *w == next) {
            let names: Vec<&str> = walk[start..].iter().chain([&next]).map(|w| waiting[*w].1.name.as_str()).collect();
            let stage = &merged[waiting[*walk.last().expect("it has a start")].0];
            return place_of(input, stage).fault(format!("stages read each other in a circle: {}", names.join(" <- ")));
        }
        walk.push(next);
    }
}

/// serde's words for a type, in ours.
fn plain(wanted: &str) -> String {
    let whole = ["u8", "u16", "u32", "u64", "usize"];
    match wanted {
        w if whole.contains(&w) => "a whole number that is not negative".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        w if w.starts_with("struct ") => "a table".into(),
        "a map" => "a table".into(),
        w => w.into(),
    }
}
