//! What a recipe must keep as a whole: every arm's stages are of their kinds and read what is there, claims name what is there,
//! the tuning set is none that is measured.

use std::collections::BTreeSet;

use postgrad_base::{Error, Result};

use super::fault::unknown;
use super::{Named, Override, Recipe, Resolved, Text};
use crate::claims::{Condition, Expr};
use crate::stage::Input;

pub(super) fn recipe(recipe: &Recipe) -> Result<()> {
    claims(recipe)?;
    for arm in &recipe.arms {
        let of_arm = |e: Error| if recipe.arms.len() > 1 { e.at(format!("arm `{}`", arm.name)) } else { e };
        let stages = recipe.stages(&arm.name, &[]).map_err(of_arm)?;
        if let Some(tune) = &recipe.tune {
            for axis in &tune.grid {
                for value in &axis.values {
                    let over = Override { stage: axis.stage.clone(), key: axis.key.clone(), value: value.clone() };
                    recipe.stages(&arm.name, &[over]).map_err(of_arm)?;
                }
            }
            tuning_set(recipe, &arm.name, &stages)?;
        }
    }
    Ok(())
}

/// One primary claim; arms and stages of claims and controls are there.
fn claims(recipe: &Recipe) -> Result<()> {
    let primary: Vec<&super::Claim> = recipe.claims.iter().filter(|c| c.primary).collect();
    match (primary.len(), recipe.claims.first()) {
        (0, Some(first)) => {
            return Err(first.value.span.fault("no claim is `primary`").help("one decides: write primary = true"));
        }
        (0 | 1, _) => {}
        _ => {
            let error = primary[1].value.span.fault("a second claim is `primary`");
            return Err(error.help(format!("one decides; the first is {}", primary[0].value.span.line())));
        }
    }
    let arms: Vec<&str> = recipe.arms.iter().map(|a| a.name.as_str()).collect();
    let stages: Vec<&str> = recipe.stage_names().collect();
    for (text, named) in recipe.read_by_claims() {
        if !arms.contains(&named.arm.as_str()) {
            let error = unknown(format!("there is no arm `{}`", named.arm), &named.arm, &arms);
            return Err(text.locate(named.arm_at, error));
        }
        if !stages.contains(&named.stage.as_str()) {
            let error = unknown(format!("there is no stage `{}`", named.stage), &named.stage, &stages);
            return Err(text.locate(named.stage_at, error));
        }
    }
    let whole = |text: &Text, e: Error| text.locate(0..text.len(), e);
    for text in recipe.claims.iter().map(|c| &c.value).chain(recipe.controls.iter().map(|c| &c.value)) {
        Expr::parse(text).map_err(|e| whole(text, e))?;
    }
    for claim in &recipe.claims {
        Condition::parse(&claim.holds).map_err(|e| whole(&claim.holds, e))?;
    }
    Ok(())
}

/// The arms and stages that a claim's value names, with their places: every `arm:stage.` in it.
pub(super) fn names(value: &Text) -> Vec<Named> {
    let text = value.text.as_str();
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut found = Vec::new();
    for (colon, _) in text.match_indices(':') {
        let arm =
            text[..colon].rfind(|c| !of_name(c)).map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
        let stage = text[colon + 1..].find(|c| !of_name(c)).map_or(text.len(), |n| colon + 1 + n);
        if arm < colon && colon + 1 < stage {
            found.push(Named {
                arm: text[arm..colon].into(),
                stage: text[colon + 1..stage].into(),
                arm_at: arm..colon,
                stage_at: colon + 1..stage,
            });
        }
    }
    found
}

/// What the grid is judged on is not measured, and asks nothing that a measured stage asks.
fn tuning_set(recipe: &Recipe, arm: &str, stages: &[Resolved]) -> Result<()> {
    let Some(tune) = &recipe.tune else { return Ok(()) };
    let on = &recipe.root.get("tune").and_then(|e| e.node.get("on")).expect("`tune` was read with it").node.span;
    let measured = recipe.wanted(arm)?;
    if measured.contains(&tune.on.0) {
        return Err(on
            .fault(format!("`{}` is measured: what is tuned on it cannot be judged by it", tune.on.0))
            .help("tune on a stage of its own, with other items"));
    }
    let (stage, metric) = &tune.on;
    Expr::parse(&format!("{arm}:{stage}.{metric}")).map_err(|e| on.locate(e))?;
    let find = |name: &str| stages.iter().find(|s| s.name == name);
    let asked =
        |stage: &str| find(stage).map_or(vec![], |s| s.inputs.iter().filter(|i| is_data(recipe, stages, i)).collect());
    let mine: Vec<&Input> = asked(&tune.on.0);
    for stage in &measured {
        for theirs in asked(stage) {
            let shared = mine.iter().find(|m| **m == theirs || same_draw(find(m.name()), find(theirs.name())));
            if let Some(mine) = shared {
                let same =
                    if *mine == theirs { String::new() } else { format!(", whose problems `{theirs}` draws too") };
                return Err(on
                    .fault(format!("`{}` reads `{mine}`{same}, and `{stage}` measures on it", tune.on.0))
                    .help("tune on other items: a `draw` with a `stream` of its own, another file"));
            }
        }
    }
    Ok(())
}

/// Whether a reference is to data that no model had a hand in.
fn is_data(recipe: &Recipe, stages: &[Resolved], input: &Input) -> bool {
    let mut open = vec![input.name()];
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if recipe.models.contains_key(name) {
            return false;
        }
        if seen.insert(name) {
            open.extend(stages.iter().filter(|s| s.name == name).flat_map(|s| s.inputs.iter().map(Input::name)));
        }
    }
    true
}

/// Two draws of one task from one stream begin with the same problems.
fn same_draw(a: Option<&Resolved>, b: Option<&Resolved>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    let drawn = |s: &Resolved| ["task", "difficulty", "split", "stream"].map(|k| s.config[k].clone());
    a.kind.name == "draw" && b.kind.name == "draw" && drawn(a) == drawn(b)
}
