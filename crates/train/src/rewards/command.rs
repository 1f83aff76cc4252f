//! A user's own program as a reward, over JSON lines.
//!
//! The program is started once with `sh -c` and kept. For every completion it gets one line on its standard input: the record's
//! own columns, and `prompt`, `messages`, `completion`, `tokens` (their number), `truncated`, `step`. For each it writes one line,
//! in order and at once (flush it): `{"reward": 0.5}`, perhaps with `"metrics": {"name": number}`; a reward of null leaves the
//! completion out of this function's share. A whole rollout comes as one batch with a time limit.
//!
//! A program that ends early, takes too long or writes anything else stops the run with what it said last; checkpoints stay.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgrad_base::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reward, Said, Sample};

/// Bytes of one reply at most.
const MAX_LINE: u64 = 1 << 20;
/// Lines of its complaints that are kept.
const KEPT: usize = 8;

pub struct Command {
    line: String,
    limit: Duration,
    running: Option<Running>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    replies: Receiver<std::io::Result<String>>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It leads a process group of its own: what it started goes with it.
        // SAFETY: a signal to a group that this process made.
        unsafe {
            libc::kill(-(self.child.id() as i32), libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    reward: Value,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

impl Command {
    pub fn new(line: &str, limit: Duration) -> Result<Self> {
        if line.trim().is_empty() {
            return Err(Error::usage("exec: names no program").help("for example --reward 'exec:python3 score.py'"));
        }
        Ok(Self { line: line.trim().to_string(), limit, running: None })
    }

    fn start(&self) -> Result<Running> {
        let mut child = std::process::Command::new("sh")
            .args(["-c", &self.line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| Error::work("cannot start the reward's program").because(e).at(&self.line))?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::work("the reward's program has no pipes").at(&self.line));
        };
        let (send, replies) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let read = output.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line);
                let reply = match read {
                    Ok(0) => break,
                    Ok(n) if n as u64 > MAX_LINE => Err(std::io::Error::other("a line of more than a megabyte")),
                    Ok(_) => Ok(String::from_utf8_lossy(&line).trim_end().to_string()),
                    Err(e) => Err(e),
                };
                let failed = reply.is_err();
                if send.send(reply).is_err() || failed {
                    break;
                }
            }
        });
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = complaints.clone();
        std::thread::spawn(move || {
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            while matches!(errors.by_ref().take(4096).read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let mut kept = kept.lock().expect("complaints lock");
                kept.push_back(String::from_utf8_lossy(&line).trim_end().to_string());
                if kept.len() > KEPT {
                    kept.pop_front();
                }
                line.clear();
            }
        });
        Ok(Running { child, input, replies, complaints })
    }

    /// Ends the program and says what went wrong, with what it said last.
    fn failed(&self, mut running: Running, what: String, help: &str) -> Error {
        let status = running.child.try_wait().ok().flatten().map(|s| format!(" ({s})")).unwrap_or_default();
        let complaints = running.complaints.clone();
        drop(running);
        // The reader of its complaints ends when the program has.
        for _ in 0..20 {
            if Arc::strong_count(&complaints) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let said: Vec<String> = complaints.lock().expect("complaints lock").iter().cloned().collect();
        let error = Error::work(format!("the reward's program {what}{status}")).at(&self.line);
        let error = if said.is_empty() { error } else { error.at(format!("it said: {}", said.join(" | "))) };
        error.help(format!("{help}; checkpoints are kept: run the same command again to go on"))
    }

    fn exchange(&self, running: &mut Running, lines: &[String]) -> Result<Vec<Said>, (String, &'static str)> {
        const PROTOCOL: &str = "for each line it must write {\"reward\": number or null} on one line, and nothing else";
        const TIME: &str = "write each reply at once (flush it), or give it longer with --reward-timeout";
        let deadline = Instant::now() + self.limit;
        let Running { input, replies, child, .. } = running;
        let group = -(child.id() as i32);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for line in lines {
                    input.write_all(line.as_bytes())?;
                }
                input.flush()
            });
            let mut all = Vec::with_capacity(lines.len());
            let n = lines.len();
            let result = loop {
                if all.len() == n {
                    break Ok(());
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let got = all.len();
                let reply = match replies.recv_timeout(left) {
                    Ok(Ok(reply)) => reply,
                    Ok(Err(e)) => break Err((format!("wrote {e}"), PROTOCOL)),
                    Err(RecvTimeoutError::Timeout) => {
                        let limit = self.limit.as_secs_f64();
                        break Err((format!("gave {got} of {n} replies in {limit} s"), TIME));
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        break Err((format!("ended after {got} of {n} replies"), "look at what it said"));
                    }
                };
                match read_reply(&reply) {
                    Some(said) => all.push(said),
                    None => {
                        let shown: String = reply.chars().take(200).collect();
                        break Err((format!("wrote `{shown}` as reply {}", got + 1), PROTOCOL));
                    }
                }
            };
            if result.is_err() {
                // So that the writer does not wait for a reader that will not come.
                // SAFETY: a signal to a group that this process made.
                unsafe {
                    libc::kill(group, libc::SIGKILL);
                }
            }
            let written = writer.join();
            result?;
            match written {
                Ok(Ok(())) => Ok(all),
                _ => Err(("closed its input".into(), PROTOCOL)),
            }
        })
    }
}

fn read_reply(line: &str) -> Option<Said> {
    // A struct would be read from a list too.
    let value: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
    let reply: Reply = serde_json::from_value(value).ok()?;
    let reward = match reply.reward {
        Value::Null => None,
        Value::Number(n) => Some(n.as_f64().filter(|x| x.is_finite())?),
        _ => return None,
    };
    Some(Said { reward, metrics: reply.metrics, ..Said::default() })
}

impl Reward for Command {
    fn name(&self) -> &str {
        "exec"
    }

    fn score(&mut self, samples: &[Sample]) -> Result<Vec<Said>> {
        let lines: Vec<String> = samples.iter().map(row).collect();
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        match self.exchange(&mut running, &lines) {
            Ok(said) => {
                self.running = Some(running);
                Ok(said)
            }
            Err((what, help)) => Err(self.failed(running, what, help)),
        }
    }
}

/// What the program is told of a sample.
fn row(s: &Sample) -> String {
    let mut row = s.prompt.columns.clone();
    for (name, value) in [
        ("problem", json!(s.prompt.problem)),
        ("reference", json!(s.prompt.reference)),
        ("prompt", json!(s.prompt.text)),
        ("messages", json!(s.prompt.messages)),
        ("completion", json!(s.completion)),
        ("tokens", json!(s.tokens.len())),
        ("truncated", json!(s.truncated)),
        ("step", json!(s.step)),
    ] {
        if !value.is_null() {
            row.insert(name.into(), value);
        }
    }
    format!("{}\n", Value::Object(row))
}
