//! The table of systems, and the recipes that the program carries.

use serde_json::Value;

use crate::{Place, fixture};

/// The state of a system.
fn stand(place: &Place, slug: &str) -> String {
    let of = place.call(&["systems", slug, "--json"]).json();
    of["state"].as_str().unwrap().into()
}

#[test]
fn a_system_stands_where_its_recipe_and_ledger_say() {
    let place = Place::new();
    // A folder here stands in the place of what the program carries.
    std::fs::create_dir_all(place.path("recipes/masked-thought")).unwrap();
    assert_eq!(stand(&place, "masked-thought"), "planned");
    let recipe = place.recipe_of("masked-thought");
    recipe.commit();
    assert_eq!(stand(&place, "masked-thought"), "runs");

    let verified = place.call(&["verify", "masked-thought", "--json"]).json()[0].clone();
    let whole = place.call(&["systems", "masked-thought", "--json"]).json();
    assert_eq!(
        (&whole["state"], &whole["claims"], &whole["revisions"]),
        (&verified["state"], &verified["claims"], &1.into())
    );
    assert_eq!(whole["seeds"]["fast"].as_array().unwrap().len(), 2);
    assert!(whole["changed"].as_array().unwrap().is_empty() && whole["wall_seconds"].as_f64().unwrap() > 0.0);
    let state = verified["state"].as_str().unwrap();
    let text = place.call(&["systems", "masked-thought"]).ok();
    for word in
        [state, "Masked Thought", "a larger rate learns more", "revision 1", "fast 2", "postgrad verify masked-thought"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }

    // The table: all that is not planned, the rest counted; the page and JSON have all.
    let table = place.call(&["systems"]).ok();
    let line = table.lines().find(|l| l.contains("masked-thought")).unwrap();
    assert!(line.contains(state) && line.contains("wanted > 0"), "{line}");
    let all = place.call(&["systems", "--json"]).json();
    let planned = all.as_array().unwrap().iter().filter(|r| r["state"] == "planned").count();
    assert_eq!((all.as_array().unwrap().len(), all[100]["slug"].as_str()), (101, Some("dto")));
    assert!(table.ends_with(&format!("{} of 101 have a recipe, {planned} are planned\n", 101 - planned)), "{table}");
    assert!(!table.contains("  dto ") && place.call(&["systems", "--all"]).ok().contains("  dto "));
    place.call(&["systems", "--html", "all.html"]).ok();
    let page = std::fs::read_to_string(place.path("all.html")).unwrap();
    assert!(page.contains("</html>") && page.contains("a larger rate learns more") && page.contains(">dto<"));

    // What `verify --stale-only` would run is stale, and nothing else.
    recipe.edit("lr = 1e-4", "lr = 2e-4");
    recipe.commit();
    let stale = place.call(&["systems", "masked-thought", "--json"]).json();
    assert_eq!(
        (stale["state"].as_str(), stale["changed"][0].as_str()),
        (Some("stale"), Some("the recipe has changed"))
    );
    let again = place.call(&["verify", "--all", "--stale-only", "--json"]).json();
    assert_eq!(again.as_array().unwrap().len(), 1);
    assert_ne!(stand(&place, "masked-thought"), "stale");

    // A program that is not there.
    recipe.edit("title = ", "needs = \"no-such-program\"\ntitle = ");
    recipe.commit();
    assert!(place.call(&["systems"]).ok().contains("needs no-such-program"));
    let needs = place.call(&["systems", "masked-thought", "--json"]).json();
    assert_eq!((needs["state"].as_str(), needs["needs"].as_str()), (Some("needs"), Some("no-such-program")));
    place.call(&["verify", "masked-thought"]).fails(2, &["needs the program `no-such-program`", "PATH"]);
    place.call(&["run", "recipes/masked-thought/tiny.toml"]).fails(2, &["needs the program `no-such-program`"]);
    let left = place.call(&["verify", "--all", "--stale-only", "--json"]);
    assert!(left.err.contains("left out, it needs no-such-program"), "{}", left.err);
    assert_eq!(left.json(), Value::Array(vec![]));
    recipe.edit("no-such-program", "sh");
    assert_eq!(stand(&place, "masked-thought"), "stale");

    // A recipe's fault does not hide the others.
    recipe.edit("use = \"sft\"", "use = \"sfft\"");
    let broken = place.call(&["systems", "--json"]);
    assert!(broken.code == Some(2) && broken.err.contains("`sfft`"), "{}", broken.err);
    assert_eq!(serde_json::from_str::<Value>(&broken.out).unwrap().as_array().unwrap().len(), 100);
    place.call(&["systems", "maskd-thought"]).fails(2, &["no system `maskd-thought`", "`masked-thought`"]);
}

/// Without a repository.
#[test]
fn the_program_carries_recipes_with_their_ledgers() {
    let place = Place::new();
    let here = place.call(&["systems", "masked-thought", "--json"]).json();
    assert!(here["revisions"].as_u64().unwrap() >= 1, "{here}");
    assert!(place.call(&["plan", "masked-thought", "--json"]).json()["stages"].as_array().unwrap().len() >= 3);
    let row = r#"{"prompt": "1 + 1 = ?", "completion": "2"}"#;
    place.write("rows.jsonl", &[row; 4].join("\n"));
    let model = format!("base={}", fixture("chat/model-chatml").display());
    let sets =
        [&model, "train=rows.jsonl", "test=rows.jsonl", "tuned.steps=1", "before.max_tokens=4", "after.max_tokens=4"];
    let mut call = vec!["run", "masked-thought", "--json"];
    call.extend(sets.iter().flat_map(|s| ["--set", s]));
    let ran = place.call(&call).json();
    assert_eq!(ran["ran"].as_u64(), Some(3));
    assert!(place.path("runs/run-1/tuned").exists() || place.path("runs/run-1/after").exists());
    // All of them, were they run; nothing is written.
    let all = place.call(&["verify", "--all", "--dry-run", "--json"]).ok();
    assert!(all.contains("masked-thought") && all.contains("skill-graft"), "{all}");
    place.call(&["run", "no-such-system"]).fails(2, &["unknown recipe", "masked-thought"]);
    assert!(!place.path("recipes").exists());
}
