use super::*;
use crate::stages::kinds;
use proptest::prelude::*;

const FILE: &str = r#"title = "Rates"
seeds = { primary = 5, others = 3 }
measure = ["target"]
match = ["updates", "examples"]
tune = { "tuned.lr" = [1e-3, 3e-3], on = "judged.accuracy" }

[models]
base = "seed-1m"

[data]
more = ["a.jsonl", "b.jsonl"]

[stage.target]
use = "eval"
model = "@tuned"
data = "@test"

[stage.judged]
use = "eval"
model = "@tuned"
data = "@dev"

[stage.problems]
use = "draw"
task = "chain"
n = 60

[stage.test]
use = "draw"
task = "chain"
split = "test"
n = 20

[stage.dev]
use = "draw"
task = "chain"
split = "test"
stream = "dev"
n = 20

[stage.tuned]
use = "sft"
model = "@base"
data = ["@problems", "@more"]
steps = 12
lora = { rank = 4 }

[arm.few]
says = "few ranks"
[arm.many]
tuned = { lora = { rank = 32 }, lr = 1e-4 }
[arm.untuned]
target = { model = "@base" }
unmatched = true

[[claim]]
primary = true
says = "more ranks help"
value = "many:target.accuracy - few:target.accuracy"
holds = "> 0.02"
interest = 0.03

[[control]]
says = "the same"
value = "few:target.accuracy - few:target.accuracy"
exact = true
"#;

fn parse(text: &str) -> Result<Recipe> {
    Recipe::parse(Path::new("r.toml"), text, &kinds())
}

fn recipe() -> Recipe {
    parse(FILE).unwrap_or_else(|e| panic!("{e}"))
}

/// The file with one text in place of another.
fn with(old: &str, new: &str) -> String {
    assert!(FILE.contains(old), "the file has {old:?}");
    FILE.replacen(old, new, 1)
}

/// The error of the file so changed: it says `what`, points at `marked`, and its help holds `help`.
#[track_caller]
fn fails(old: &str, new: &str, what: &str, marked: &str, help: &str) {
    fails_whole(&with(old, new), what, marked, help);
}

#[track_caller]
fn fails_whole(text: &str, what: &str, marked: &str, help: &str) {
    let e = parse(text).expect_err("a fault");
    let shown = e.to_string();
    assert!(shown.contains(what), "{shown}\nshould say {what:?}");
    assert!(e.help_text().unwrap_or_default().contains(help), "{shown}\nshould help with {help:?}");
    assert_eq!(e.exit_code(), 2);
    // `at r.toml:LINE:COLUMN`, and as many carets as what is marked.
    let place = shown.split("at r.toml:").nth(1).unwrap_or_else(|| panic!("no place in {shown}"));
    let numbers: Vec<usize> = place.lines().next().unwrap().split(':').map(|n| n.parse().unwrap()).collect();
    let [line, column] = numbers[..] else { panic!("{shown}") };
    let line = text.lines().nth(line - 1).unwrap();
    let at: String = line.chars().skip(column - 1).collect();
    let carets = place.lines().find(|l| l.ends_with('^')).unwrap().matches('^').count();
    let got: String = at.chars().take(carets).collect();
    assert_eq!(got, marked, "{shown}");
}

#[test]
fn a_file_is_read_and_its_stages_come_in_order() {
    let r = recipe();
    assert_eq!((r.title.as_str(), r.seeds, r.vary.len()), ("Rates", Seeds { primary: 5, others: 3 }, 3));
    assert_eq!((r.models["base"].as_str(), r.data["more"].len()), ("seed-1m", 2));
    assert_eq!(
        r.arms.iter().map(|a| (a.name.as_str(), a.unmatched)).collect::<Vec<_>>(),
        [("few", false), ("many", false), ("untuned", true)]
    );
    let names = |list: &[Resolved]| list.iter().map(|s| s.name.clone()).collect::<Vec<_>>().join(" ");
    let few = r.stages("few", &[]).unwrap();
    assert_eq!(names(&few), "problems test dev tuned target judged");
    assert_eq!(few[3].config["batch"], 16, "defaults are filled in");
    assert_eq!(few[3].inputs.iter().map(Input::to_string).collect::<Vec<_>>(), ["@base", "@problems", "@more"]);
    assert_eq!(names(&r.needed("few", &["target"], &[]).unwrap()), "problems test tuned target");
    assert_eq!(names(&r.needed("untuned", &["target"], &[]).unwrap()), "test target");
    assert!(r.needed("few", &["tune"], &[]).unwrap_err().help_text().unwrap().contains("`tuned`"));
    assert_eq!(r.wanted("few").unwrap(), ["target"]);
    assert_eq!(r.claims[0].holds.text, "> 0.02");
    assert_eq!(r.controls[0].bound, Bound::Exact);
}

#[test]
fn overrides_are_merged_deep_and_a_new_kind_replaces() {
    let r = recipe();
    let tuned = |r: &Recipe, arm: &str| r.stages(arm, &[]).unwrap().into_iter().find(|s| s.name == "tuned").unwrap();
    let many = tuned(&r, "many").config;
    assert_eq!((&many["lora"]["rank"], &many["lr"], &many["steps"]), (&json!(32), &json!(1e-4), &json!(12)));
    assert_eq!(tuned(&r, "few").config["lora"]["rank"], 4);
    let text = with("tuned = { lora = { rank = 32 }, lr = 1e-4 }", r#"tuned = { use = "draw", task = "add", n = 3 }"#);
    let r = parse(&text.replace("tune = {", "# tune = {")).unwrap();
    let many = tuned(&r, "many");
    assert_eq!((many.kind.name, many.config.get("steps"), many.inputs.len()), ("draw", None, 0));
}

#[test]
fn a_recipe_without_arms_has_one_and_measures_what_nobody_reads() {
    let r =
        parse("[stage.a]\nuse = \"draw\"\ntask = \"add\"\nn = 1\n[stage.b]\nuse = \"draw\"\ntask = \"add\"\nn = 2\n")
            .unwrap();
    assert_eq!((r.arms.len(), r.arms[0].name.as_str(), r.seeds.primary), (1, MAIN, 1));
    assert_eq!(r.wanted(MAIN).unwrap(), ["a", "b"]);
}

#[test]
fn the_documented_recipe_is_one() {
    let page = include_str!("../../../../docs/RECIPES.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let r = parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((r.seeds_of("all"), r.arms.len(), r.claims.len(), r.controls.len()), (5, 2, 1, 1));
    assert_eq!((recipe().seeds_of("few"), recipe().seeds_of("untuned")), (5, 3));
}

#[test]
fn a_recipe_may_need_a_program() {
    let needs = |tool: &str| parse(&with("title", &format!("needs = \"{tool}\"\ntitle"))).unwrap();
    let (shell, none) = (needs("sh"), needs("no-such-program-1"));
    assert_eq!((shell.lacks(), none.lacks(), recipe().lacks()), (None, Some("no-such-program-1"), None));
    let error = none.has_what_it_needs().unwrap_err();
    assert!(shell.has_what_it_needs().is_ok() && error.exit_code() == 2, "{error}");
    fails("title", "needs = \"../sh\"\ntitle", "the name of a program", "\"../sh\"", "");
    fails("title", "needs = [\"sh\"]\ntitle", "expected a string", "[\"sh\"]", "");
}

#[test]
fn points_of_the_grid_and_their_stages() {
    let r = parse(&with("lr\" = [1e-3, 3e-3]", "lr\" = [1e-3, 3e-3], tuned.lora.rank = [1, 2, 3]")).unwrap();
    let points = r.tune.as_ref().unwrap().points();
    assert_eq!((points.len(), points[1][0].value.clone(), points[1][1].value.clone()), (6, json!(1e-3), json!(2)));
    let stages = r.stages("many", &points[5]).unwrap();
    let tuned = &stages.iter().find(|s| s.name == "tuned").unwrap().config;
    assert_eq!((&tuned["lr"], &tuned["lora"]["rank"]), (&json!(3e-3), &json!(3)));
    fails("[1e-3, 3e-3]", "[1e-3, \"x\"]", "`lr`: expected a number, found the string \"x\"", "\"x\"", "");
    fails("\"tuned.lr\"", "\"tuned.lrr\"", "`sft` has no key `lrr`", "\"tuned.lrr\"", "`lr`");
    fails("\"tuned.lr\"", "\"tunes.lr\"", "there is no stage `tunes` to tune", "\"tunes.lr\"", "`tuned`");
    fails("\"tuned.lr\"", "lr", "`tune` has no key `lr`", "lr", "");
    fails("[1e-3, 3e-3]", "[]", "no values to try", "[]", "");
    fails("on = \"judged.accuracy\"", "on = \"judge.accuracy\"", "there is no stage `judge`", "judge", "`judged`");
    fails("on = \"judged.accuracy\"", "on = \"judged\"", "a metric of its rows", "\"judged\"", "");
    fails(", on = \"judged.accuracy\"", "", "needs the key `on`", "{ \"tuned.lr\" = [1e-3, 3e-3] }", "dev.accuracy");
}

#[test]
fn the_tuning_set_is_not_measured() {
    let on = "\"judged.accuracy\"";
    fails(on, "\"target.accuracy\"", "`target` is measured", "\"target.accuracy\"", "other items");
    fails("data = \"@dev\"", "data = \"@test\"", "`judged` reads `@test`, and `target` measures on it", on, "");
    fails("stream = \"dev\"\n", "", "`judged` reads `@dev`, whose problems `@test` draws too", on, "`stream`");
}

#[test]
fn names_that_are_not_there() {
    fails("title", "tilte", "a recipe has no key `tilte`", "tilte", "`title`");
    fails("[\"target\"]", "[\"targt\"]", "there is no stage `targt`", "\"targt\"", "`target`");
    fails("\"updates\"", "\"updats\"", "there is no budget `updats`", "\"updats\"", "`updates`");
    fails("seeds = {", "vary = [\"dat\"]\nseeds = {", "there is no random stream `dat`", "\"dat\"", "`data`");
    fails("use = \"sft\"", "use = \"sfft\"", "there is no kind of stage `sfft`", "\"sfft\"", "`sft`");
    fails("steps = 12", "stesp = 12", "`sft` has no key `stesp`", "stesp", "`steps`");
    fails("{ rank = 4 }", "{ rnak = 4 }", "`lora` of `sft` has no key `rnak`", "rnak", "`rank`");
    fails("\"@tuned\"", "\"@tunde\"", "`@tunde` names nothing", "\"@tunde\"", "`tuned`");
    fails("\"@more\"]", "\"@mor\"]", "`@mor` names nothing", "\"@mor\"", "`more`");
    fails("tuned = { lora", "tunde = { lora", "overrides `tunde`, which is no stage", "tunde", "`tuned`");
    fails("rank = 32", "rakn = 32", "`lora` of `sft` has no key `rakn`", "rakn", "`rank`");
    fails("says = \"few ranks\"", "say = \"few ranks\"", "overrides `say`", "say", "`says`");
    fails("many:target.accuracy -", "mny:target.accuracy -", "there is no arm `mny`", "mny", "`many`");
    fails("many:target.accuracy -", "many:targt.accuracy -", "there is no stage `targt`", "targt", "`target`");
    fails("interest", "intrest", "a claim has no key `intrest`", "intrest", "`interest`");
    fails("exact = true", "exakt = true", "a control has no key `exakt`", "exakt", "`exact`");
    fails("others = 3", "other = 3", "`seeds` has no key `other`", "other", "`others`");
    fails("task = \"chain\"", "task = \"chian\"", "chian", "\"chian\"", "`chain`");
    fails("n = 60", "difficulty = \"stesp=3\"\nn = 60", "stesp", "\"stesp=3\"", "");
}

#[test]
fn values_of_other_types() {
    fails("steps = 12", "steps = \"12\"", "`steps`: expected a whole number that is not negative", "\"12\"", "");
    fails(
        "rank = 32",
        "rank = -1",
        "`lora.rank`: expected a whole number that is not negative, found the integer -1",
        "-1",
        "",
    );
    fails("split = \"test\"", "split = \"tset\"", "`split` cannot be \"tset\"", "\"tset\"", "`test`");
    fails("model = \"@base\"\ndata", "model = \"base\"\ndata", "`base` is no reference", "\"base\"", "\"@base\"");
    fails(
        "[\"@problems\", \"@more\"]",
        "\"problems\"",
        "cannot be the string \"problems\"",
        "\"problems\"",
        "\"@problems\"",
    );
    fails("title = \"Rates\"", "title = 3", "expected a string, found the integer 3", "3", "");
    fails("measure = [\"target\"]", "measure = \"target\"", "expected a list", "\"target\"", "");
    fails("base = \"seed-1m\"", "base = [\"seed-1m\"]", "expected a string, found a list", "[\"seed-1m\"]", "");
    fails("[\"a.jsonl\", \"b.jsonl\"]", "[]", "a string or a list of strings", "[]", "");
    fails("unmatched = true", "unmatched = 1", "expected `true` or `false`, found the integer 1", "1", "");
    fails("interest = 0.03", "interest = 0", "expected a number above 0", "0", "");
    fails("primary = 5", "primary = 0", "a number of seeds from 1 to 1000", "0", "");
    fails("lr = 1e-4", "lr = nan", "a finite number is needed", "nan", "");
    fails("lr = 1e-4", "lr = 1979-05-27", "dates mean nothing here", "1979-05-27", "quote it");
    fails("steps = 12", "steps = 99999999999999999999", "no room in 64 bits", "99999999999999999999", "");
}

#[test]
fn keys_that_are_missing() {
    fails("use = \"sft\"\n", "", "the stage `tuned` does not say its kind", "[stage.tuned]", "eval");
    fails("n = 60\n", "", "`draw` needs the key `n`", "[stage.problems]", "");
    fails("says = \"more ranks help\"\n", "", "a claim needs the key `says`", "[[claim]]", "");
    fails("exact = true", "", "`within = NUMBER` or `exact = true`", "[[control]]", "");
    fails("exact = true", "exact = true\nwithin = 0.1", "not both", "exact", "");
    fails("primary = 5, ", "", "`seeds` needs the key `primary`", "{ others = 3 }", "");
    fails("seeds = { primary = 5, others = 3 }\n", "", "claims need `seeds`", "[[claim]]", "primary = 5");
}

#[test]
fn one_claim_is_primary() {
    let value = "\"many:target.accuracy - few:target.accuracy\"";
    fails("primary = true\n", "", "no claim is `primary`", value, "primary = true");
    let more = "[[claim]]\nprimary = true\nsays = \"\"\nvalue = \"few:target.accuracy\"\nholds = \"> 0\"\n";
    fails("[[control]]", &format!("{more}[[control]]"), "a second claim", "\"few:target.accuracy\"", "r.toml:59");
    fails(
        value,
        "\"many:target.accuracy few:target.accuracy\"",
        "expected",
        "many:target.accuracy few:target.accuracy",
        "",
    );
    fails("\"> 0.02\"", "\"0.02\"", "no condition", "0.02", "`> 0.05`");
    fails("[[claim]]", "[claim]", "`claim` is a list", "[claim]", "[[claim]]");
}

#[test]
fn names_are_taken_once_and_plain() {
    fails(
        "base = \"seed-1m\"",
        "base = \"seed-1m\"\nmore = \"x\"",
        "the name `more` is taken: r.toml:9",
        "more",
        "one space",
    );
    fails("[data]", "[data]\ntuned = \"x\"", "the name `tuned` is taken", "tuned", "");
    fails("steps = 12", "steps = 12\nsteps = 13", "duplicate key `steps`", "steps", "");
    fails("[arm.few]", "[arm.\"f w\"]", "`f w` cannot be the name of an arm", "\"f w\"", "");
    fails("[stage.dev]", "[stage.says]", "`says` cannot be the name of a stage", "says", "");
    fails("title", "a b", "not TOML", "b", "");
}

#[test]
fn circles_are_named() {
    let text =
        with("data = [\"@problems\", \"@more\"]", "data = [\"@target\", \"@more\"]").replace("tune =", "# tune =");
    fails_whole(&text, "in a circle: target <- tuned <- target", "\"@target\"", "");
    let text = with("model = \"@base\"\n", "model = \"@tuned\"\n");
    fails_whole(&text, "in a circle: tuned <- tuned", "\"@tuned\"", "");
}

#[test]
fn an_error_shows_its_line_and_names_its_arm() {
    let e = parse(&with("lr = 1e-4", "lr = \"µ\"")).unwrap_err();
    assert_eq!(
        e.to_string(),
        "`lr`: expected a number, found the string \"µ\"\n  at r.toml:51:38\n     |\n  51 | tuned = { lora = { rank = 32 }, lr = \"µ\" }\n     \
         |                                      ^^^\n  at arm `many`"
    );
    let long = format!("about = {:?}\nsteps = 1{}", "x", " ".repeat(3)).replace("steps", &"y".repeat(300));
    assert!(parse(&long).unwrap_err().to_string().lines().filter(|l| l.contains('|')).all(|l| l.len() < 120));
}

#[test]
fn values_are_set_from_the_command_line() {
    let tuned =
        |r: &Recipe, arm: &str| r.stages(arm, &[]).unwrap().into_iter().find(|s| s.name == "tuned").unwrap().config;
    let mut r = recipe();
    let before = (r.claims_hash(), r.recipe_hash());
    r.set("tuned.steps", "7").unwrap();
    r.set("tuned.lora.rank", "2").unwrap();
    r.set("tuned.data", "@more").unwrap();
    r.set("base", "seed-3m").unwrap();
    r.set("data.more", "2024").unwrap();
    assert_eq!((&tuned(&r, "few")["lora"]["rank"], &tuned(&r, "many")["lora"]["rank"]), (&json!(2), &json!(32)));
    r.set("arm.many.tuned.lora.rank", "3").unwrap();
    assert_eq!((&tuned(&r, "many")["lora"]["rank"], &tuned(&r, "few")["data"]), (&json!(3), &json!("@more")));
    assert_eq!((r.models["base"].as_str(), &r.data["more"][..]), ("seed-3m", &["2024".to_string()][..]));
    r.set("more", "[\"x\", \"y\"]").unwrap();
    assert_eq!(r.data["more"], ["x", "y"]);
    assert_eq!(r.claims_hash(), before.0);
    assert_ne!(r.recipe_hash(), before.1);

    let fails = |key: &str, value: &str, what: &str, place: &str| {
        let e = recipe().set(key, value).unwrap_err().to_string();
        assert!(e.contains(what) && e.contains(place), "{e}");
    };
    fails("tuned.stesp", "3", "did you mean `steps`?", "--set:1:1\n");
    fails(
        "tuned.steps",
        "many",
        "expected a whole number that is not negative, found the string \"many\"",
        "--set:1:13\n",
    );
    fails("tunde.steps", "3", "did you mean `tuned`?", "tunde.steps=3");
    fails("bas", "x", "did you mean `base`?", "--set:1:1");
    fails("models.bas", "x", "did you mean `base`?", "--set:1:1");
    fails("arm.man.tuned.lr", "1", "did you mean `many`?", "--set:1:1");
    fails("tuned", "x", "`tuned` is a stage", "--set:1:1");
    fails("tuned.", "x", "is no key", "--set:1:1");
    fails("tuned.data", "[\"@problems\"", "not TOML", "--set:1:");
    fails("tuned.model", "@bsae", "did you mean `base`?", "--set:1:13");
}

#[test]
fn a_digest_sees_what_is_said_and_not_how() {
    let (a, claims) = (recipe().recipe_hash(), recipe().claims_hash());
    let other = FILE.replace(
        "[arm.many]\ntuned = { lora = { rank = 32 }, lr = 1e-4 }",
        "[arm.many.tuned]\nlr = 0.0001 # so\nlora.rank=32\n",
    );
    let other = format!("# A remark\n{}", other.replace("{ primary = 5, others = 3 }", "{others=3,primary=5}"));
    let other = parse(&other).unwrap();
    assert_eq!((other.recipe_hash(), other.claims_hash()), (a.clone(), claims.clone()));
    let claim = parse(&with("> 0.02", "> 0.01")).unwrap();
    assert!(claim.recipe_hash() != a && claim.claims_hash() != claims);
    let stage = parse(&with("steps = 12", "steps = 13")).unwrap();
    assert!(stage.recipe_hash() != a && stage.claims_hash() == claims);
}

#[test]
fn what_is_no_recipe_fails_quietly() {
    fails_whole("a", "not TOML", "", "");
    let e = parse("").unwrap_err().to_string();
    assert!(e.contains("no stages"), "{e}");
    let deep = format!("[stage.x]\nuse = \"draw\"\nn = {}1{}", "[".repeat(60), "]".repeat(60));
    assert!(parse(&deep).unwrap_err().to_string().contains("deep"));
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&format!("{} = 1", "a.".repeat(50_000))).is_err());
    assert!(parse(&" ".repeat(LARGEST + 1)).is_err());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.toml");
    std::fs::write(&file, b"title = 1\n\xff").unwrap();
    let e = Recipe::read(&file, &kinds()).unwrap_err();
    assert!(e.to_string().contains("r.toml:2") && e.exit_code() == 2, "{e}");
    assert_eq!(Recipe::read(Path::new("/none.toml"), &kinds()).unwrap_err().exit_code(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hostile_text_never_panics(text in "\\PC{0,200}", from in 0usize..1200, len in 0usize..40, tail in "[\\[\\]{}=\".,@a-z0-9\n -]{0,40}") {
        fuzz_recipe(text.as_bytes());
        let mut bytes = FILE.as_bytes().to_vec();
        let from = from.min(bytes.len());
        bytes.splice(from..(from + len).min(FILE.len()), tail.bytes());
        fuzz_recipe(&bytes);
    }
}
