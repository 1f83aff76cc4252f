//! Warm interpreters that fork once per test, and the verdict on each test.
//!
//! A pool holds up to `workers` interpreters, each in its own cell. A test runs in a process forked from one; when it ends, every process it left
//! behind is killed, the scratch folder is emptied, and nothing else is shared (the interpreter runs no test code itself). Where the machine has no
//! namespaces each test starts its own interpreter instead, which is slower and holds no less.
//!
//! Two kinds of test. [`Expect::Output`]: the verdict is made outside, from what the program printed. [`Expect::Asserts`] (HumanEval, MBPP): the
//! program's own assertions decide, inside the process that runs the code under test, so code that sets out to forge a pass can; leaving early
//! (`sys.exit`, `os._exit`) cannot.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use postgrad_base::{Context, Error, Result};
use serde::{Deserialize, Serialize};

use super::fd::{poll, poll_for};
use super::jail::{Guest, Role};
use super::{Ended, Jail, Layers, Limits, Python, capabilities};

/// A program and what makes it right.
#[derive(Clone, Debug)]
pub struct Test {
    pub source: String,
    pub expect: Expect,
}

#[derive(Clone, Debug)]
pub enum Expect {
    /// It reaches its end; an `AssertionError` is a wrong answer.
    Asserts,
    /// It reads `stdin` and prints `stdout`; trailing blanks of lines and trailing blank lines do not count.
    Output { stdin: String, stdout: String },
}

impl Test {
    pub fn asserts(source: impl Into<String>) -> Self {
        Self { source: source.into(), expect: Expect::Asserts }
    }

    pub fn output(source: impl Into<String>, stdin: impl Into<String>, stdout: impl Into<String>) -> Self {
        Self { source: source.into(), expect: Expect::Output { stdin: stdin.into(), stdout: stdout.into() } }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// An assertion failed, or the output differs.
    Wrong {
        message: String,
    },
    /// It ended by an exception, a signal, or before its end; `class` is the exception's or the signal's name. `line` counts from 1, 0 is unknown.
    Error {
        class: String,
        message: String,
        line: u32,
    },
    /// Wall or processor time ran out.
    Timeout,
    /// `MemoryError`, or its processes together held too much.
    Memory,
    /// Killed for a system call that no honest test makes.
    Policy,
    /// It printed too much.
    OutputLimit,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub verdict: Verdict,
    #[serde(skip)]
    pub stdout: Vec<u8>,
    #[serde(skip)]
    pub stderr: Vec<u8>,
    pub wall: Duration,
    pub cpu: Duration,
    /// Peak resident memory of the test's first process, bytes (a warm interpreter's own pages included).
    pub peak_memory: u64,
}

pub struct Pool {
    python: Python,
    jail: Jail,
    idle: Mutex<Idle>,
    freed: Condvar,
    workers: usize,
}

struct Idle {
    warm: Vec<Server>,
    running: usize,
}

/// An interpreter that waits for its next test.
struct Server {
    guest: Guest,
}

/// How a test ended, from either kind of run.
struct Raw {
    ended: Ended,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    said: Vec<u8>,
    wall: Duration,
    cpu: Duration,
    peak_memory: u64,
}

/// Longer programs and inputs are not run.
const MOST_TEXT: usize = 4 << 20;
const HEAD: usize = 4 * 4 + 1 + 32;
const TAIL: usize = 2 + 4 + 3 * 8 + 3 * 4;
/// How long past a test's own limit an interpreter may be silent before it is given up.
const GRACE: Duration = Duration::from_secs(2);

impl Pool {
    /// Refuses where the machine cannot hold untrusted code, unless `allow_unsandboxed`. Starts the first interpreter, so that what is wrong shows here.
    pub fn new(python: Python, workers: usize, limits: Limits, allow_unsandboxed: bool) -> Result<Self> {
        Self::with_layers(python, workers, limits, Layers::of(capabilities()), allow_unsandboxed)
    }

    pub fn with_layers(
        python: Python,
        workers: usize,
        limits: Limits,
        layers: Layers,
        allow_unsandboxed: bool,
    ) -> Result<Self> {
        let jail = Jail::with_layers(python.read.clone(), limits, layers, allow_unsandboxed)?;
        let idle = Mutex::new(Idle { warm: vec![], running: 0 });
        let pool = Self { python, jail, idle, freed: Condvar::new(), workers: workers.max(1) };
        let report = pool.check(&Test::asserts("assert 1 + 1 == 2"))?;
        if report.verdict != Verdict::Pass {
            return Err(Error::work(format!("the sandboxed interpreter fails its first test: {:?}", report.verdict))
                .at(pool.python.executable.display()));
        }
        Ok(pool)
    }

    pub fn python(&self) -> &Python {
        &self.python
    }

    /// Runs one test; waits for a free interpreter. An error is the machine's or ours, never the test's.
    pub fn check(&self, test: &Test) -> Result<Report> {
        if test.source.len().max(stdin_of(test).len()) > MOST_TEXT {
            let message = format!("the program or its input is longer than {MOST_TEXT} bytes");
            let verdict = Verdict::Error { class: "too long".into(), message, line: 0 };
            let (wall, cpu) = (Duration::ZERO, Duration::ZERO);
            return Ok(Report { verdict, stdout: vec![], stderr: vec![], wall, cpu, peak_memory: 0 });
        }
        let nonce = nonce()?;
        let raw = if self.jail.namespaced() { self.warm(test, &nonce)? } else { self.cold(test, &nonce)? };
        Ok(judge(test, raw, &nonce))
    }

    /// All tests, spread over the workers; reports are in the tests' order.
    pub fn check_all(&self, tests: &[Test]) -> Result<Vec<Report>> {
        let next = AtomicUsize::new(0);
        let done: Vec<Mutex<Option<Result<Report>>>> = tests.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..self.workers.min(tests.len()) {
                scope.spawn(|| {
                    while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < tests.len()) {
                        *done[i].lock().expect("no panic while held") = Some(self.check(&tests[i]));
                    }
                });
            }
        });
        done.into_iter()
            .map(|slot| slot.into_inner().expect("no panic while held").expect("every test was taken"))
            .collect()
    }

    fn take(&self) -> Result<Server> {
        let mut idle = self.idle.lock().expect("no panic while held");
        while idle.running == self.workers {
            idle = self.freed.wait(idle).expect("no panic while held");
        }
        idle.running += 1;
        if let Some(server) = idle.warm.pop() {
            return Ok(server);
        }
        drop(idle);
        self.start().inspect_err(|_| self.give(None))
    }

    fn give(&self, server: Option<Server>) {
        let mut idle = self.idle.lock().expect("no panic while held");
        idle.running -= 1;
        idle.warm.extend(server);
        self.freed.notify_one();
    }

    fn start(&self) -> Result<Server> {
        let cpu = self.jail.limits.cpu.as_secs_f64().ceil().max(1.0) as u64;
        let mut guest = self.jail.spawn(&self.python.command("serve", cpu), Role::Server)?;
        let control = guest.control.as_mut().expect("a server has one");
        control.set_read_timeout(Some(Duration::from_secs(20))).context(|| "cannot set a timeout".into())?;
        let mut hello = [0; 5];
        if control.read_exact(&mut hello).is_err() || &hello != b"ready" {
            return Err(Error::work(format!("the sandboxed interpreter does not start: {}", guest.obituary()))
                .at(self.python.executable.display()));
        }
        Ok(Server { guest })
    }

    fn warm(&self, test: &Test, nonce: &str) -> Result<Raw> {
        // An interpreter may have died while idle (the machine ran out of memory): a second one gets the same test, a third would not help.
        for attempt in 0..2 {
            let mut server = self.take()?;
            let answer = server.run(&self.jail.limits, test, nonce);
            match answer {
                Ok(Answer { raw, again }) => {
                    self.give(again.then_some(server));
                    return Ok(raw);
                }
                Err(e) if attempt == 1 => {
                    self.give(None);
                    let last = server.guest.obituary();
                    return Err(if last.is_empty() { e } else { e.at(format!("its last words: {last}")) });
                }
                Err(_) => self.give(None),
            }
        }
        unreachable!("the second attempt returns")
    }

    fn cold(&self, test: &Test, nonce: &str) -> Result<Raw> {
        let cpu = self.jail.limits.cpu.as_secs_f64().ceil().max(1.0) as u64;
        let mut guest = self.jail.spawn(&self.python.command("once", cpu), Role::OnceWithControl)?;
        let mut control = guest.control.take().expect("it was asked for");
        let stdin = stdin_of(test);
        // The program is read after the interpreter has started; a large one must not block us past the guest's end.
        let (head, source) = (head(test, &self.jail.limits, nonce, 0), test.source.clone());
        let mut writer = control.try_clone().context(|| "cannot copy a socket".into())?;
        let feeder =
            std::thread::spawn(move || writer.write_all(&head).and_then(|()| writer.write_all(source.as_bytes())));
        let outcome = self.jail.watch(&mut guest, stdin.as_bytes())?;
        drop(guest);
        let mut said = vec![];
        control.set_nonblocking(true).context(|| "cannot set up a socket".into())?;
        let _ = Read::take(&mut control, 65_536).read_to_end(&mut said); // reset where the guest left its program unread
        let _ = control.shutdown(std::net::Shutdown::Both);
        let _ = feeder.join();
        let super::Outcome { ended, stdout, stderr, wall, cpu, peak_memory } = outcome;
        Ok(Raw { ended, stdout, stderr, said, wall, cpu, peak_memory })
    }
}

struct Answer {
    raw: Raw,
    /// Whether the interpreter can take another test.
    again: bool,
}

impl Server {
    /// An error means that this interpreter is lost through no limit of the test's.
    fn run(&mut self, limits: &Limits, test: &Test, nonce: &str) -> Result<Answer> {
        let lost = || "lost a sandboxed interpreter".to_string();
        let start = Instant::now();
        let stdin = stdin_of(test);
        let mut control = self.guest.control.take().expect("a server has one");
        let mut message = head(test, limits, nonce, stdin.len());
        message.extend_from_slice(test.source.as_bytes());
        message.extend_from_slice(stdin.as_bytes());
        control.set_write_timeout(Some(GRACE)).context(lost)?;
        control.write_all(&message).context(lost)?;
        let deadline = start + limits.wall + GRACE;
        let killed = |ended| {
            let raw = Raw {
                ended,
                stdout: vec![],
                stderr: vec![],
                said: vec![],
                wall: start.elapsed(),
                cpu: Duration::ZERO,
                peak_memory: 0,
            };
            Ok(Answer { raw, again: false })
        };
        use std::os::fd::AsRawFd;
        while poll(&mut [poll_for(control.as_raw_fd(), libc::POLLIN)], Duration::from_millis(20))? == 0 {
            if Instant::now() > deadline {
                return killed(Ended::Wall);
            }
            if self.guest.memory() > limits.memory {
                return killed(Ended::Memory);
            }
        }
        control.set_read_timeout(Some(GRACE)).context(lost)?;
        let mut tail = [0; TAIL];
        let answered = control.read_exact(&mut tail);
        if self.guest.out_of_memory() {
            return killed(Ended::Memory); // the test's process or, where the kernel chose it, the interpreter
        }
        answered.context(lost)?;
        let u32_at = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(tail[at..at + 8].try_into().expect("eight"));
        let status = u32_at(2) as i32;
        let mut part = |at: usize| -> Result<Vec<u8>> {
            let mut bytes = vec![0; u32_at(at) as usize];
            control.read_exact(&mut bytes).context(lost)?;
            Ok(bytes)
        };
        let (stdout, stderr, said) = (part(30)?, part(34)?, part(38)?);
        let ended = match tail[0] {
            0 if libc::WIFEXITED(status) => Ended::Exit(libc::WEXITSTATUS(status)),
            0 => Ended::Signal(libc::WTERMSIG(status)),
            1 => Ended::Wall,
            _ => Ended::Output,
        };
        let again = tail[1] == 1;
        self.guest.control = Some(control);
        let (wall, cpu) = (Duration::from_micros(u64_at(6)), Duration::from_micros(u64_at(14)));
        Ok(Answer { raw: Raw { ended, stdout, stderr, said, wall, cpu, peak_memory: u64_at(22) * 1024 }, again })
    }
}

fn stdin_of(test: &Test) -> &str {
    match &test.expect {
        Expect::Asserts => "",
        Expect::Output { stdin, .. } => stdin,
    }
}

fn head(test: &Test, limits: &Limits, nonce: &str, stdin: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + test.source.len() + stdin);
    for n in [test.source.len(), stdin, limits.wall.as_millis().max(1) as usize, limits.output_bytes] {
        head.extend_from_slice(&(n as u32).to_le_bytes());
    }
    head.push(matches!(test.expect, Expect::Asserts) as u8);
    head.extend_from_slice(nonce.as_bytes());
    head
}

/// A word that a test has no reason to know: an end is believed only with it.
fn nonce() -> Result<String> {
    let mut bytes = [0u8; 16];
    // SAFETY: fills the array.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n != 16 {
        return Err(Error::work("the system gives no random bytes"));
    }
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    End { end: String },
    Raised { class: String, bases: Vec<String>, message: String, line: u32 },
}

fn judge(test: &Test, raw: Raw, nonce: &str) -> Report {
    let said: Option<Said> = serde_json::from_slice(&raw.said).ok();
    let verdict = match raw.ended {
        Ended::Wall => Verdict::Timeout,
        Ended::Output => Verdict::OutputLimit,
        Ended::Scratch => {
            Verdict::Error { class: "OSError".into(), message: "the scratch folder is full".into(), line: 0 }
        }
        Ended::Memory => Verdict::Memory,
        Ended::Signal(libc::SIGSYS) => Verdict::Policy,
        Ended::Signal(libc::SIGXCPU) => Verdict::Timeout,
        // The hard limit of processor time, one second after SIGXCPU was ignored.
        Ended::Signal(libc::SIGKILL) if raw.cpu >= Duration::from_secs(1) => Verdict::Timeout,
        Ended::Signal(signal) => {
            Verdict::Error { class: signal_name(signal), message: format!("ended by signal {signal}"), line: 0 }
        }
        Ended::Exit(code) => match said {
            Some(Said::End { end }) if end == nonce => match &test.expect {
                Expect::Asserts => Verdict::Pass,
                Expect::Output { stdout, .. } => compare(stdout, &raw.stdout),
            },
            Some(Said::Raised { class, bases, message, line }) => {
                if bases.iter().any(|b| b == "AssertionError") {
                    Verdict::Wrong {
                        message: if line > 0 { format!("assertion failed at line {line}: {message}") } else { message },
                    }
                } else if bases.iter().any(|b| b == "MemoryError") {
                    Verdict::Memory
                } else {
                    Verdict::Error { class, message, line }
                }
            }
            _ => Verdict::Error {
                class: "exit".into(),
                message: format!("the process ended with status {code} before its program did"),
                line: 0,
            },
        },
    };
    let Raw { stdout, stderr, wall, cpu, peak_memory, .. } = raw;
    Report { verdict, stdout, stderr, wall, cpu, peak_memory }
}

fn compare(expected: &str, got: &[u8]) -> Verdict {
    let got = String::from_utf8_lossy(got);
    let lines = |s: &str| -> Vec<String> {
        let mut lines: Vec<_> = s.lines().map(|l| l.trim_end().to_string()).collect();
        while lines.last().is_some_and(|l| l.is_empty()) {
            lines.pop();
        }
        lines
    };
    let (want, got) = (lines(expected), lines(&got));
    if want == got {
        return Verdict::Pass;
    }
    let at = want.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let show = |lines: &[String]| {
        lines.get(at).map_or("nothing".into(), |l| format!("`{}`", l.chars().take(200).collect::<String>()))
    };
    Verdict::Wrong { message: format!("line {}: expected {}, got {}", at + 1, show(&want), show(&got)) }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGALRM => "SIGALRM",
        _ => return format!("signal {signal}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(ended: Ended, said: &str, stdout: &str) -> Raw {
        Raw {
            ended,
            stdout: stdout.into(),
            stderr: vec![],
            said: said.into(),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: 0,
        }
    }

    #[test]
    fn verdicts_follow_from_how_it_ended() {
        let asserts = Test::asserts("");
        let verdict = |ended, said: &str| judge(&asserts, raw(ended, said, ""), "n").verdict;
        let raised = |class: &str, base: &str| {
            format!(r#"{{"class":"{class}","bases":["{class}","{base}"],"message":"m","line":3}}"#)
        };
        assert_eq!(verdict(Ended::Exit(0), r#"{"end":"n"}"#), Verdict::Pass);
        // An end without the word, half a report, none at all, or text after it: not a pass.
        for said in [r#"{"end":"x"}"#, r#"{"end":"n"#, "", r#"{"end":"n"}{"end":"n"}"#, "[1]"] {
            assert!(matches!(verdict(Ended::Exit(0), said), Verdict::Error { class, .. } if class == "exit"), "{said}");
        }
        assert!(matches!(verdict(Ended::Exit(1), &raised("AssertionError", "Exception")), Verdict::Wrong { .. }));
        assert!(matches!(verdict(Ended::Exit(1), &raised("Mine", "AssertionError")), Verdict::Wrong { .. }));
        assert_eq!(verdict(Ended::Exit(1), &raised("MemoryError", "Exception")), Verdict::Memory);
        assert_eq!(
            verdict(Ended::Exit(1), &raised("KeyError", "LookupError")),
            Verdict::Error { class: "KeyError".into(), message: "m".into(), line: 3 }
        );
        assert_eq!(verdict(Ended::Signal(libc::SIGSYS), ""), Verdict::Policy);
        assert_eq!(verdict(Ended::Signal(libc::SIGXCPU), ""), Verdict::Timeout);
        assert_eq!(verdict(Ended::Wall, r#"{"end":"n"}"#), Verdict::Timeout);
        assert_eq!(verdict(Ended::Memory, ""), Verdict::Memory);
        assert_eq!(verdict(Ended::Output, ""), Verdict::OutputLimit);
        assert!(matches!(verdict(Ended::Signal(11), ""), Verdict::Error { class, .. } if class == "SIGSEGV"));
    }

    proptest::proptest! {
        #[test]
        fn no_report_passes_without_the_word(said in proptest::collection::vec(proptest::num::u8::ANY, 0..200), out in ".{0,40}", code in 0..3i32) {
            for test in [Test::asserts(""), Test::output("", "", &out)] {
                let raw = Raw { said: said.clone(), ..raw(Ended::Exit(code), "", &out) };
                let report = judge(&test, raw, "0123456789abcdef");
                proptest::prop_assert!(report.verdict != Verdict::Pass);
            }
        }

        #[test]
        fn nested_reports_end_in_a_verdict(depth in 0..3000usize) {
            let said = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            proptest::prop_assert!(judge(&Test::asserts(""), raw(Ended::Exit(0), &said, ""), "n").verdict != Verdict::Pass);
        }
    }

    #[test]
    fn output_is_compared_line_by_line() {
        let test = Test::output("", "", "1\n2\n");
        let verdict = |out: &str| judge(&test, raw(Ended::Exit(0), r#"{"end":"n"}"#, out), "n").verdict;
        assert_eq!(verdict("1  \r\n2\n\n\n"), Verdict::Pass);
        assert_eq!(verdict("1\n3"), Verdict::Wrong { message: "line 2: expected `2`, got `3`".into() });
        assert_eq!(verdict("1"), Verdict::Wrong { message: "line 2: expected `2`, got nothing".into() });
    }

    #[test]
    fn the_header_has_the_layout_that_the_interpreter_reads() {
        let head = head(&Test::asserts("abc"), &Limits::default(), &"0".repeat(32), 7);
        assert_eq!(head.len(), HEAD);
        assert_eq!(head[..8], [3, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!((head[16], TAIL), (1, 42));
    }
}
