//! `completions`: what a shell needs to complete the command line.

use clap_complete::Shell;
use postgrad_base::Result;

use crate::frame::{self, App, Out};

/// Completions for a shell, on standard output
///
/// For bash: `postgrad completions bash > ~/.local/share/bash-completion/completions/postgrad`
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args, _: &App) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut frame::definition(), "postgrad", &mut script);
    Out::new().text(&String::from_utf8_lossy(&script))
}
