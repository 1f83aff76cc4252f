//! From a tree of values to a [`Recipe`]: names and types of all keys but those of stages, which their kinds read.

use std::collections::BTreeMap;
use std::path::Path;

use postgrad_base::Result;

use super::fault::unknown;
use super::tree::{Entry, Node, What};
use super::{Arm, Axis, BUDGETS, Bound, Claim, Control, MAIN, Recipe, STREAMS, Seeds, Span, Text, Tune, VARY, Written};
use crate::stage::Kind;

const KEYS: &[&str] = &[
    "title", "about", "needs", "vary", "measure", "seeds", "match", "tune", "models", "data", "stage", "arm", "claim",
    "control",
];

/// Names with a meaning of their own beside those of stages.
const RESERVED: &[&str] = &["says", "unmatched", "use", "on", "models", "data", "stage", "arm"];

pub(super) fn recipe(path: &Path, root: Node, kinds: &[Kind]) -> Result<Recipe> {
    root.only("a recipe", KEYS)?;
    let text = |key: &str| root.get(key).map_or(Ok(String::new()), |e| e.node.text().map(String::from));
    let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let title = Some(text("title")?).filter(|t| !t.is_empty()).or(folder).unwrap_or_default();

    let mut named = BTreeMap::new();
    let mut models = BTreeMap::new();
    for e in entries(&root, "models")? {
        name_once(e, "a model", &mut named)?;
        models.insert(e.key.clone(), e.node.text()?.to_string());
    }
    let mut data = BTreeMap::new();
    for e in entries(&root, "data")? {
        name_once(e, "data", &mut named)?;
        let paths = match &e.node.what {
            What::Text(one) => vec![one.clone()],
            What::List(list) if !list.is_empty() => {
                list.iter().map(|n| n.text().map(String::from)).collect::<Result<_>>()?
            }
            _ => return Err(e.node.not("a string or a list of strings")),
        };
        data.insert(e.key.clone(), paths);
    }
    let mut stages = Vec::new();
    for e in entries(&root, "stage")? {
        name_once(e, "a stage", &mut named)?;
        e.node.entries()?;
        stages.push(Written { name: e.key.clone(), at: e.at.clone(), node: e.node.clone() });
    }
    if stages.is_empty() {
        return Err(root.span.fault("the recipe has no stages").help("write [stage.NAME] with `use = \"KIND\"`"));
    }
    let known: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();

    let claims: Vec<Claim> = tables(&root, "claim")?.iter().map(claim).collect::<Result<_>>()?;
    let controls: Vec<Control> = tables(&root, "control")?.iter().map(control).collect::<Result<_>>()?;
    let vary = match root.get("vary") {
        Some(e) => names(&e.node, "random stream", STREAMS)?,
        None => VARY.iter().map(|s| s.to_string()).collect(),
    };
    let measure = root.get("measure").map_or(Ok(vec![]), |e| names(&e.node, "stage", &known))?;
    let matched = root.get("match").map_or(Ok(vec![]), |e| names(&e.node, "budget", BUDGETS))?;
    let seeds = match root.get("seeds") {
        Some(e) => seeds(&e.node)?,
        None => match tables(&root, "claim")?.first().or(tables(&root, "control")?.first()) {
            Some(first) => {
                return Err(first.span.fault("claims need `seeds`").help("write seeds = { primary = 5, others = 3 }"));
            }
            None => Seeds { primary: 1, others: 1 },
        },
    };
    let tune = root.get("tune").map(|e| tune(&e.node, &known)).transpose()?;
    let arms = arms(&root, &known)?;
    let about = text("about")?;
    let needs = root.get("needs").map(program).transpose()?;
    let (path, kinds) = (path.to_path_buf(), kinds.to_vec());
    Ok(Recipe {
        path,
        title,
        about,
        vary,
        measure,
        seeds,
        matched,
        tune,
        needs,
        models,
        data,
        arms,
        claims,
        controls,
        stages,
        named,
        root,
        kinds,
    })
}

/// The name of a program, without a folder.
fn program(e: &Entry) -> Result<String> {
    let name = e.node.text()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    match name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain) {
        true => Ok(name.into()),
        false => Err(e.node.not("the name of a program, as \"gcc\"")),
    }
}

/// The entries of a table that may be missing.
fn entries<'a>(root: &'a Node, key: &str) -> Result<&'a [Entry]> {
    root.get(key).map_or(Ok(&[]), |e| e.node.entries())
}

/// The tables of a list that may be missing: `[[claim]]`.
fn tables<'a>(root: &'a Node, key: &str) -> Result<&'a [Node]> {
    match root.get(key) {
        Some(e) if matches!(e.node.what, What::Table(_)) => {
            Err(e.node.span.fault(format!("`{key}` is a list")).help(format!("write [[{key}]]")))
        }
        Some(e) => e.node.list(),
        None => Ok(&[]),
    }
}

/// A name of letters, digits, `-` and `_` that begins with a letter, so that claims and references can hold it.
fn plain_name(e: &Entry, thing: &str) -> Result<()> {
    let plain = e.key.starts_with(|c: char| c.is_ascii_alphabetic())
        && e.key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match plain {
        true => Ok(()),
        false => Err(e
            .at
            .fault(format!("`{}` cannot be the name of {thing}", e.key))
            .help("names have letters, digits, `-` and `_`, and begin with a letter")),
    }
}

/// Models, data and stages share one space of names: a reference says no more.
fn name_once(e: &Entry, thing: &str, named: &mut BTreeMap<String, Span>) -> Result<()> {
    plain_name(e, thing)?;
    if RESERVED.contains(&e.key.as_str()) {
        return Err(e.at.fault(format!("`{}` cannot be the name of {thing}: it means something else here", e.key)));
    }
    match named.insert(e.key.clone(), e.at.clone()) {
        Some(first) => Err(e
            .at
            .fault(format!("the name `{}` is taken: {}", e.key, first.line()))
            .help("models, data and stages share one space of names")),
        None => Ok(()),
    }
}

/// A list of known names, each once.
fn names(node: &Node, thing: &str, known: &[&str]) -> Result<Vec<String>> {
    let mut list: Vec<String> = Vec::new();
    for n in node.list()? {
        let name = n.text()?;
        if !known.contains(&name) {
            return Err(n.span.locate(unknown(format!("there is no {thing} `{name}`"), name, known)));
        }
        if list.iter().any(|l| l == name) {
            return Err(n.span.fault(format!("`{name}` is there twice")));
        }
        list.push(name.into());
    }
    Ok(list)
}

fn seeds(node: &Node) -> Result<Seeds> {
    node.only("`seeds`", &["primary", "others"])?;
    let count = |key: &str| match node.get(key) {
        Some(Entry { node: Node { what: What::Int(n @ 1..=1000), .. }, .. }) => Ok(*n as u64),
        Some(e) => Err(e.node.not("a number of seeds from 1 to 1000")),
        None => Err(node.span.fault(format!("`seeds` needs the key `{key}`"))),
    };
    let primary = count("primary")?;
    Ok(Seeds { primary, others: if node.get("others").is_some() { count("others")? } else { primary } })
}

fn arms(root: &Node, stages: &[&str]) -> Result<Vec<Arm>> {
    let mut arms = Vec::new();
    for e in entries(root, "arm")? {
        plain_name(e, "an arm")?;
        let mut arm = Arm { name: e.key.clone(), says: String::new(), unmatched: false, overrides: vec![] };
        for over in e.node.entries()? {
            match over.key.as_str() {
                "says" => arm.says = over.node.text()?.into(),
                "unmatched" => arm.unmatched = over.node.flag()?,
                stage if stages.contains(&stage) => {
                    over.node.entries()?;
                    arm.overrides.push((stage.into(), over.node.clone()));
                }
                other => {
                    let known: Vec<&str> = stages.iter().copied().chain(["says", "unmatched"]).collect();
                    let what = format!("the arm `{}` overrides `{other}`, which is no stage", e.key);
                    return Err(over.at.locate(unknown(what, other, &known)));
                }
            }
        }
        arms.push(arm);
    }
    if arms.is_empty() {
        arms.push(Arm { name: MAIN.into(), says: String::new(), unmatched: false, overrides: vec![] });
    }
    Ok(arms)
}

fn tune(node: &Node, stages: &[&str]) -> Result<Tune> {
    let mut grid = Vec::new();
    let mut on = None;
    for e in node.entries()? {
        if e.key == "on" {
            let text = e.node.text()?;
            let Some((stage, metric)) = text.split_once('.').filter(|(_, m)| !m.is_empty()) else {
                return Err(e.node.not("a stage and a metric of its rows, as \"dev.accuracy\""));
            };
            if !stages.contains(&stage) {
                let span = e.node.span.inside(text, 0..stage.len());
                return Err(span.locate(unknown(format!("there is no stage `{stage}`"), stage, stages)));
            }
            on = Some((stage.to_string(), metric.to_string()));
        } else {
            axes(e, &e.key, stages, &mut grid)?;
        }
    }
    let Some(on) = on else {
        return Err(node.span.fault("`tune` needs the key `on`").help("a stage and a metric: on = \"dev.accuracy\""));
    };
    if grid.is_empty() {
        return Err(node.span.fault("`tune` has no values to try").help("write \"STAGE.key\" = [1e-3, 3e-3]"));
    }
    Ok(Tune { grid, on })
}

/// `"tuned.lr" = [..]` and `tuned.lr = [..]` are the same.
fn axes(e: &Entry, path: &str, stages: &[&str], grid: &mut Vec<Axis>) -> Result<()> {
    if let What::Table(inner) = &e.node.what {
        return inner.iter().try_for_each(|i| axes(i, &format!("{path}.{}", i.key), stages, grid));
    }
    let Some((stage, key)) = path.split_once('.').filter(|(_, key)| key.split('.').all(|k| !k.is_empty())) else {
        let known: Vec<&str> = stages.iter().copied().chain(["on"]).collect();
        let error = unknown(format!("`tune` has no key `{path}`"), path, &known);
        return Err(e.at.locate(error.help("name a stage and its key: \"tuned.lr\" = [1e-3, 3e-3]")));
    };
    if !stages.contains(&stage) {
        return Err(e.at.locate(unknown(format!("there is no stage `{stage}` to tune"), stage, stages)));
    }
    let nodes = e.node.list()?.to_vec();
    if nodes.is_empty() {
        return Err(e.node.span.fault("no values to try"));
    }
    if grid.iter().any(|a: &Axis| a.stage == stage && a.key == key) {
        return Err(e.at.fault(format!("`{path}` is there twice")));
    }
    let values = nodes.iter().map(Node::to_json).collect();
    grid.push(Axis { stage: stage.into(), key: key.into(), values, at: e.at.clone(), nodes });
    Ok(())
}

fn text_of(node: &Node, of: &str, key: &str) -> Result<Text> {
    match node.get(key) {
        Some(e) => Ok(Text { text: e.node.text()?.into(), span: e.node.span.clone() }),
        None => Err(node.span.fault(format!("{of} needs the key `{key}`"))),
    }
}

/// A number above 0.
fn size(e: &Entry) -> Result<f64> {
    match e.node.number()? {
        x if x > 0.0 => Ok(x),
        _ => Err(e.node.not("a number above 0")),
    }
}

fn claim(node: &Node) -> Result<Claim> {
    node.only("a claim", &["primary", "says", "value", "holds", "interest"])?;
    Ok(Claim {
        primary: node.get("primary").map_or(Ok(false), |e| e.node.flag())?,
        says: text_of(node, "a claim", "says")?.text,
        value: text_of(node, "a claim", "value")?,
        holds: text_of(node, "a claim", "holds")?,
        interest: node.get("interest").map(size).transpose()?,
    })
}

fn control(node: &Node) -> Result<Control> {
    node.only("a control", &["says", "value", "within", "exact"])?;
    let bound = match (node.get("within"), node.get("exact")) {
        (Some(within), None) => Bound::Within(size(within)?),
        (None, Some(e)) if e.node.flag()? => Bound::Exact,
        (Some(_), Some(e)) => return Err(e.at.fault("a control is `within` a bound or `exact`, not both")),
        _ => return Err(node.span.fault("a control needs `within = NUMBER` or `exact = true`")),
    };
    Ok(Control { says: text_of(node, "a control", "says")?.text, value: text_of(node, "a control", "value")?, bound })
}
