//! Writes the page of a made-up run, to look at: `cargo run --release -p postgrad-lab --example sample_report -- page.html`.
//! Every figure in it is drawn from a random stream; nothing was trained.

use postgrad_base::event::Event;
use postgrad_base::{Result, Stream};
use postgrad_lab::{Item, NewRun, Status, Store, run_report};
use postgrad_numerics::wilson;
use serde_json::{Map, json};

const STEPS: u64 = 600;
const SETS: [(&str, f64, f64, usize); 4] = [
    ("chain 2-3 steps", 0.31, 0.62, 400),
    ("chain 5 steps", 0.08, 0.21, 400),
    ("copy", 0.96, 0.94, 300),
    ("sort letters", 0.88, 0.71, 300),
];

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "sample_report.html".into());
    let dir = tempfile::tempdir().map_err(|e| postgrad_base::Error::work("no temporary folder").because(e))?;
    let store = Store::open(dir.path())?;
    let run = store.start(&about(), None)?;
    let mut sink = run.sink()?;
    let mut draw = Stream::new(1, &["data"]);
    sink.emit(
        &Event::new("warning", 0)
            .with("text", "12.4% of the records (1,240 of 10,000) are longer than 512 tokens and were dropped."),
    )?;
    for step in 0..=STEPS {
        if step % 100 == 0 {
            evaluate(&store, &run.run.id, step, &mut draw, &mut *sink)?;
        }
        if step > 0 {
            let part = step as f64 / STEPS as f64;
            let warm = (step as f64 / 18.0).min(1.0);
            let loss = 0.62 + 2.4 * (-6.0 * part).exp() + 0.09 * draw.normal();
            let event = Event::new("step", step)
                .with("loss", if step == 217 { f64::NAN } else { loss })
                .with("lr", 2e-4 * warm * 0.5 * (1.0 + (std::f64::consts::PI * part).cos()))
                .with("grad_norm", 0.8 + 3.0 * (-9.0 * part).exp() + 0.2 * draw.f64())
                .with("tokens_per_s", 21_000.0 + 900.0 * draw.normal());
            sink.emit(&event)?;
        }
        if step % 200 == 0 && step > 0 {
            let folder = format!("checkpoints/step-{step}");
            sink.emit(
                &Event::new("checkpoint", step)
                    .with("folder", folder)
                    .with("loss", 1.0 / step as f64)
                    .with("best", step == 400),
            )?;
        }
    }
    for (step, text, correct) in [
        (0, "She has 7 + 7 = 13. 13 - 2 = 12.\nAnswer: 12", false),
        (STEPS, "3 bags of 4 make 12 apples. 12 + 7 = 19. She gives 2 away: 19 - 2 = 17.\nAnswer: 17", true),
    ] {
        let prompt = "Ana has 3 bags of 4 apples and 7 loose ones. She gives 2 away. How many are left?";
        sink.emit(
            &Event::new("sample", step)
                .with("prompt", prompt)
                .with("text", text)
                .with("gold", "17")
                .with("correct", correct),
        )?;
        let hostile = "</script><img src=x onerror=alert(1)> \"quoted\" & שלום \u{202e}turned";
        sink.emit(
            &Event::new("sample", step).with("prompt", hostile).with("text", if step == 0 { "" } else { hostile }),
        )?;
    }
    drop(sink);
    let id = run.run.id.clone();
    run.finish(Status::Done, None)?;
    run_report(&store, &id)?.save(path.as_ref())
}

fn about() -> NewRun {
    NewRun {
        kind: "sft".into(),
        name: "chain, LoRA".into(),
        config: json!({"steps": STEPS, "batch": 16, "adapter": {"kind": "lora", "rank": 16, "alpha": 32, "targets": ["q", "k", "v", "o", "gate", "up", "down"]},
            "optimiser": {"name": "adamw", "lr": 2e-4, "betas": [0.9, 0.999], "decay": 0.0}, "schedule": "cosine", "warm_up": 0.03}),
        model: "seed-1m@1".into(),
        data: "task:chain".into(),
        seed: 17,
        commit: Some("0f3c9a1".into()),
        simd: "avx512".into(),
        threads: 2,
        machine: "2 cores, 24 GB".into(),
    }
}

fn evaluate(
    store: &Store,
    id: &str,
    step: u64,
    draw: &mut Stream,
    sink: &mut dyn postgrad_base::event::Sink,
) -> Result<()> {
    for (set, from, to, n) in SETS {
        let rate = from + (to - from) * (1.0 - (-4.0 * step as f64 / STEPS as f64).exp());
        let items: Vec<Item> = (0..n)
            .map(|i| {
                let metrics = Map::from_iter([("accuracy".to_string(), json!(draw.chance(rate) as u8))]);
                Item { item: format!("{set}-{i:04}"), cluster: None, metrics }
            })
            .collect();
        let right = items.iter().filter(|i| i.metrics["accuracy"] == 1).count();
        store.put_items(id, set, step, &items)?;
        let e = wilson(right, n, 0.95);
        let event = Event::new("eval", step).with("set", set).with("loss", 1.6 - rate + 0.02 * draw.normal());
        sink.emit(&event.with("accuracy", e.value).with("n", n).with("low", e.low).with("high", e.high))?;
    }
    Ok(())
}
