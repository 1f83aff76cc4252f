//! What every command shares: the call's parsing, global options, errors, output that may lose its reader, Ctrl-C.

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Stdout, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind as ClapKind;
use clap::{CommandFactory, Parser};
use postgrad_base::cancel::Cancel;
use postgrad_base::{Error, Kind, Result};
use postgrad_lab::Table;
use postgrad_tasks::task::nearest;
use postgrad_tensor::buf::OutOfMemory;
use postgrad_tensor::{par, simd};
use serde::Serialize;
use serde_json::json;

use crate::Command;

/// Post-training of language models that reason: fine-tune, sample, verify, measure.
#[derive(Parser)]
#[command(name = "postgrad", version, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    /// Print JSON instead of tables and text (errors too)
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Threads to compute with; 0 is all cores [env: POSTGRAD_THREADS]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

/// What a command gets beside its own arguments.
pub struct App {
    /// Print JSON instead of text.
    pub json: bool,
    /// Set by Ctrl-C; long work checks it. A second Ctrl-C ends the program at once.
    pub cancel: Cancel,
}

impl App {
    /// From here on the first Ctrl-C ends the program: for work that cannot look at the flag.
    pub fn end_at_interrupt(&self) {
        // SAFETY: back to what signals do by default.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
        }
    }

    /// A listing: rows as JSON, or a table as wide as the terminal.
    pub fn table(&self, table: &Table, rows: &impl Serialize) -> Result<()> {
        if self.json { self.value(rows) } else { Out::new().text(&table.to_text(terminal_width())) }
    }

    /// One JSON value, indented.
    pub fn value(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::work("cannot write JSON").because(e))?;
        Out::new().text(&format!("{text}\n"))
    }
}

/// The enum of commands and its dispatch, from one line each: `Name(module)`.
macro_rules! commands {
    ($($name:ident($module:ident),)*) => {
        // Made once a process: its size does not matter.
        #[allow(clippy::large_enum_variant)]
        #[derive(clap::Subcommand)]
        pub enum Command {
            $($name($module::Args),)*
        }

        impl Command {
            pub fn run(self, app: &$crate::frame::App) -> postgrad_base::Result<()> {
                match self {
                    $(Self::$name(args) => $module::run(args, app),)*
                }
            }
        }
    };
}
pub(crate) use commands;

/// Runs the program and gives its exit code: 0 done, 1 the work failed, 2 the call is wrong, 130 stopped.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let json = args.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if matches!(e.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion) => {
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) if e.kind() == ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            return ExitCode::from(2);
        }
        Err(e) => return report(&call_error(&e, &args), json),
    };
    match set_up(&cli).and_then(|app| with_memory_help(|| cli.command.run(&app))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => report(&e, json),
    }
}

/// Turns a failed allocation into an error that names what would need less.
fn with_memory_help(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<OutOfMemory>() {
            default(info);
        }
    }));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        match payload.downcast_ref::<OutOfMemory>() {
            Some(OutOfMemory { bytes }) => {
                Err(Error::work(format!("out of memory: no room for another {} MB", bytes / 1_000_000))
                    .help("these help most: a smaller --micro-tokens, --checkpointing, a LoRA in place of --full"))
            }
            None => std::panic::resume_unwind(payload),
        }
    })
}

/// The command line's own definition, for completions.
pub fn definition() -> clap::Command {
    Cli::command()
}

fn set_up(cli: &Cli) -> Result<App> {
    simd::check_env().map_err(|e| Error::usage(e).help("unset POSTGRAD_SIMD, or name one of these"))?;
    let threads = match (cli.threads, std::env::var("POSTGRAD_THREADS")) {
        (Some(n), _) => n,
        (None, Ok(text)) => text.trim().parse().map_err(|_| {
            Error::usage(format!("POSTGRAD_THREADS={text} is no number of threads")).help("0 is all cores")
        })?,
        (None, Err(_)) => 0,
    };
    par::set_threads(threads);
    Ok(App { json: cli.json, cancel: on_interrupt() })
}

fn report(error: &Error, json: bool) -> ExitCode {
    let line = if json {
        let object = json!({"error": {
            "what": error.what(),
            "text": error.to_string(),
            "help": error.help_text(),
            "kind": match error.kind() { Kind::Usage => "usage", Kind::Work => "work", Kind::Cancelled => "cancelled" },
            "exit_code": error.exit_code(),
        }});
        object.to_string()
    } else {
        format!("error: {error}")
    };
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(error.exit_code())
}

/// Clap's message in the program's own form: what is wrong, the nearest name, where to read on.
fn call_error(e: &clap::Error, args: &[OsString]) -> Error {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match e.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(list)) => list.first().cloned(),
        _ => None,
    };
    let (path, here) = deepest(args);
    let read_on = format!("`{path} --help` lists what it takes");
    match e.kind() {
        ClapKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known: Vec<&str> = here.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
            Error::unknown("command", &name, &known, nearest(&name, &known))
        }
        ClapKind::UnknownArgument => {
            let name = text(ContextKind::InvalidArg).unwrap_or_default();
            let near = text(ContextKind::SuggestedArg).or_else(|| {
                let flags: Vec<String> =
                    here.get_arguments().filter_map(|a| a.get_long()).map(|l| format!("--{l}")).collect();
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                nearest(&name, &flags).filter(|_| name.starts_with("--")).map(String::from)
            });
            let what = if name.starts_with('-') { "unknown option" } else { "one argument too many:" };
            let error = Error::usage(format!("{what} `{name}`"));
            match near {
                Some(near) => error.help(format!("did you mean `{near}`? {read_on}")),
                None => error.help(read_on),
            }
        }
        _ => {
            // The first paragraph says it; tips and usage follow.
            let rendered = e.render().to_string();
            let (said, rest) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
            let said = said.trim().trim_start_matches("error: ").lines().map(str::trim).collect::<Vec<_>>().join(" ");
            let tip = rest.lines().find_map(|l| l.trim().strip_prefix("tip: "));
            Error::usage(said).help(tip.map_or(read_on, String::from))
        }
    }
}

/// The innermost command that the call names, and its name in full.
fn deepest(args: &[OsString]) -> (String, clap::Command) {
    let mut here = Cli::command();
    let mut path = here.get_name().to_string();
    for word in args.iter().skip(1).filter_map(|a| a.to_str()) {
        if let Some(next) = here.find_subcommand(word).cloned() {
            path = format!("{path} {}", next.get_name());
            here = next;
        }
    }
    (path, here)
}

/// Standard output, buffered, flushed when it is dropped. A reader that went away (`| head`) ends the program quietly.
pub struct Out(BufWriter<Stdout>);

impl Out {
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(1 << 16, std::io::stdout()))
    }

    pub fn text(&mut self, text: &str) -> Result<()> {
        self.0.write_all(text.as_bytes()).or_else(lost_reader)
    }

    /// What was written so far, on the screen now.
    pub fn flush(&mut self) -> Result<()> {
        self.0.flush().or_else(lost_reader)
    }

    /// One JSON line.
    pub fn row(&mut self, row: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(row).map_err(|e| Error::work("cannot write a JSON row").because(e))?;
        self.text(&text)?;
        self.text("\n")
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = self.0.flush().or_else(lost_reader);
    }
}

fn lost_reader(e: std::io::Error) -> Result<()> {
    if e.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Error::work("cannot write to standard output").because(e))
}

/// `println!` for commands: through [`Out`], with `?` inside.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::frame::Out::new().text(&format!("{}\n", format_args!($($arg)*)))?
    };
}
pub(crate) use say;

/// A remark beside the result, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Columns of the terminal that standard output is, if it is one.
pub fn terminal_width() -> Option<usize> {
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills `size` or fails.
    let found = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    (found && size.ws_col >= 40).then_some(size.ws_col.into())
}

static ASKED: OnceLock<Cancel> = OnceLock::new();

/// The first Ctrl-C (or SIGTERM) sets the flag; the second ends the program at once.
fn on_interrupt() -> Cancel {
    let cancel = ASKED.get_or_init(Cancel::new).clone();
    static SET: AtomicBool = AtomicBool::new(false);
    if !SET.swap(true, Ordering::Relaxed) {
        extern "C" fn handler(_: libc::c_int) {
            // Only atomics and _exit: what a signal handler may do.
            match ASKED.get() {
                Some(cancel) if !cancel.asked() => cancel.cancel(),
                _ => unsafe { libc::_exit(130) },
            }
        }
        let handler: extern "C" fn(libc::c_int) = handler;
        // SAFETY: the handler touches atomics only.
        unsafe {
            libc::signal(libc::SIGINT, handler as libc::sighandler_t);
            libc::signal(libc::SIGTERM, handler as libc::sighandler_t);
        }
    }
    cancel
}
