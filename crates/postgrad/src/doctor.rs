//! `doctor`: what this machine is and can do, as far as training, sampling and verifying care.

use std::time::Duration;

use postgrad_base::Result;
use postgrad_lab::table::{Cell, Table};
use postgrad_tasks::sandbox::{self, Python};
use postgrad_tensor::{par, simd};
use serde_json::json;

use crate::frame::{App, say, terminal_width};
use crate::{builtin, machine, runs};

/// This machine: processor, SIMD, memory, measured speed, folders, Python, sandbox
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args, app: &App) -> Result<()> {
    let (total, free) = machine::memory();
    let levels: Vec<&str> = simd::available().iter().map(|l| l.name()).collect();
    let level = simd::level().name();
    let bandwidth = machine::bandwidth(Duration::from_millis(300)) / 1e9;
    let gflops = machine::product_speed(Duration::from_millis(400)) / 1e9;
    let (cache, root) = (builtin::cache_dir()?, runs::root(None));
    let python = Python::find();
    let held = sandbox::capabilities();
    let of_disk = |path| machine::disk_free(path).unwrap_or(0);
    if app.json {
        return app.value(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": {"model": machine::cpu_model(), "cores": machine::cores(), "simd": levels, "simd_in_force": level,
                "threads": par::threads(), "product_gflops": gflops},
            "memory": {"total_bytes": total, "available_bytes": free, "bandwidth_gb_per_s": bandwidth},
            "folders": {
                "cache": {"path": cache, "free_bytes": of_disk(&cache)},
                "runs": {"path": root, "free_bytes": of_disk(&root)},
            },
            "python": python.as_ref().map(|p| json!({"version": p.version, "path": p.executable}))
                .unwrap_or_else(|e| json!({"missing": e.to_string()})),
            "sandbox": held,
        }));
    }
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let mut facts = Table::new(&["", ""]);
    let mut fact = |name: &str, value: String| _ = facts.row([Cell::text(name), Cell::text(value)]);
    fact("version", env!("CARGO_PKG_VERSION").into());
    fact("processor", format!("{}, {} cores", machine::cpu_model(), machine::cores()));
    fact("SIMD", format!("{level} in force of {} (POSTGRAD_SIMD)", levels.join(", ")));
    fact("threads", format!("{} (--threads)", par::threads()));
    fact("products", format!("{gflops:.0} GFLOP/s, float32, measured just now"));
    fact("memory", format!("{} of {} available", gb(free), gb(total)));
    fact("bandwidth", format!("{bandwidth:.1} GB/s, measured just now"));
    fact("cache", format!("{}, {} free (POSTGRAD_CACHE)", cache.display(), gb(of_disk(&cache))));
    fact("runs", format!("{}, {} free (POSTGRAD_RUNS)", root.display(), gb(of_disk(&root))));
    fact(
        "python3",
        match &python {
            Ok(p) => format!("{} at {}", p.version, p.executable.display()),
            Err(e) => format!("needs: python3 ({})", e.what()),
        },
    );
    fact("sandbox", if held.sandboxed { "untrusted code can run".into() } else { "untrusted code is refused".into() });
    let mut text = String::new();
    for row in &facts.rows {
        text += &format!("{:<10} {}\n", row[0].text, row[1].text);
    }
    say!("{}", text.trim_end());
    let mut layers = Table::new(&["sandbox layer", "", "note"]);
    for layer in &held.layers {
        let mark = if layer.enforced { "yes" } else { "no" };
        layers.row([Cell::text(layer.name), Cell::text(mark), Cell::text(&layer.note)]);
    }
    held.notes.iter().for_each(|n| _ = layers.note(n));
    say!("\n{}", layers.to_text(terminal_width()).trim_end());
    Ok(())
}
