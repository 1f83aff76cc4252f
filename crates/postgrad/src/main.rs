//! `postgrad`: post-training of language models that reason, from the command line.
//!
//! [`frame`] parses the call, prints errors and sets up threads and Ctrl-C; each command is a file with `Args` and `run`.

mod bench;
mod bench_rl;
mod builtin;
mod cache;
mod chat;
mod check;
mod completions;
mod data;
mod doctor;
mod eval;
mod frame;
mod generate;
mod lab;
mod model;
mod plan;
mod quickstart;
mod run;
mod runs;
mod sampling;
mod systems;
mod task;
mod task_page;
mod task_rows;
mod tune;
mod verify;

use std::process::ExitCode;

// Commands say `crate::machine`.
use postgrad_lab::machine;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// A command is a line here and a file: `pub struct Args` (clap; its doc comment is the help) and
// `pub fn run(args: Args, app: &App) -> Result<()>`. Help lists them in this order.
frame::commands! {
    Quickstart(quickstart),
    Systems(systems),
    Verify(verify),
    Run(run),
    Plan(plan),
    Tune(tune),
    Eval(eval),
    Generate(generate),
    Chat(chat),
    Task(task),
    Data(data),
    Check(check),
    Runs(runs),
    Cache(cache),
    Bench(bench),
    Doctor(doctor),
    Completions(completions),
}

fn main() -> ExitCode {
    frame::main()
}
