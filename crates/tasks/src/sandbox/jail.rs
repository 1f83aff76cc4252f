//! One guest process and its cell.
//!
//! Left out on purpose: `/proc` inside the cell (nothing a test needs is worth what it shows), a terminal, any network device but a dead `lo`.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgrad_base::{Context, Error, Result};
use seccompiler::BpfProgram;

use super::cgroup::Cgroup;
use super::fd::{high, nonblocking, pipe, poll, poll_for, read_some, write_some};
use super::inside::{INSIDE, Image, Inside, NOBODY, Record, STAGES};
use super::landlock::Rules;
use super::root::{self, Plan, errno};
use super::{Layers, Limits, capabilities, seccomp};

/// How often the memory of a guest's processes is added up.
const TICK: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    pub program: PathBuf,
    /// Without the program's own name.
    pub args: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    pub stdin: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(i32),
    /// Wall time ran out.
    Wall,
    /// More output than allowed.
    Output,
    /// Its processes together held more memory than allowed.
    Memory,
    /// Its scratch folder held more than allowed (only where that lies in the temporary folder; a mounted one just fills up).
    Scratch,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub ended: Ended,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub wall: Duration,
    pub cpu: Duration,
    /// Peak resident memory of the guest's first process, bytes.
    pub peak_memory: u64,
}

/// Rules that many guests share.
pub struct Jail {
    pub(super) limits: Limits,
    layers: Layers,
    read: Vec<PathBuf>,
    plan: Option<Plan>,
    filters: Vec<BpfProgram>,
}

/// A running guest; dropping it kills every process it started.
pub(super) struct Guest {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    report: std::fs::File,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The other end of the guest's descriptor 3.
    pub control: Option<UnixStream>,
    scratch: Option<tempfile::TempDir>,
    cgroup: Option<Cgroup>,
    namespaced: bool,
    ended: Option<(i32, libc::rusage)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    /// Runs once, beneath an init, with its output captured.
    Once,
    /// Runs once and talks over descriptor 3 too.
    OnceWithControl,
    /// Is the first process of its namespace, reaps for itself, and lives until its control socket closes.
    Server,
}

impl Jail {
    /// `read`: files and folders that the guest may read and execute; everything else does not exist for it.
    ///
    /// Fails where the machine cannot hold a guest, unless `allow_unsandboxed`.
    pub fn new(read: Vec<PathBuf>, limits: Limits, allow_unsandboxed: bool) -> Result<Self> {
        Self::with_layers(read, limits, Layers::of(capabilities()), allow_unsandboxed)
    }

    /// As [`Jail::new`], with layers switched off by hand (to see what the others hold).
    pub fn with_layers(read: Vec<PathBuf>, limits: Limits, layers: Layers, allow_unsandboxed: bool) -> Result<Self> {
        limits.check()?;
        if let (Some(missing), false) = (layers.missing(), allow_unsandboxed) {
            return Err(Error::work(format!("this machine cannot hold untrusted code: {missing}"))
                .help("`postgrad doctor` lists what it can enforce; allow unsandboxed runs only for code you would run yourself"));
        }
        let plan = match layers.namespaces {
            true => Some(Plan::new(&read, limits.scratch_bytes, limits.scratch_files, INSIDE)?),
            false => None,
        };
        let open = layers.namespaces;
        let openings = seccomp::Openings { processes: open, signals: open, attributes: open };
        let filters = if layers.seccomp { seccomp::filters(openings)? } else { vec![] };
        Ok(Self { limits, layers, read, plan, filters })
    }

    /// True where a guest has its own process, mount and user namespaces.
    pub fn namespaced(&self) -> bool {
        self.plan.is_some()
    }

    /// Runs a program to its end, or to its limits.
    pub fn run(&self, command: &Command) -> Result<Outcome> {
        let mut guest = self.spawn(command, Role::Once)?;
        self.watch(&mut guest, &command.stdin)
    }

    pub(super) fn spawn(&self, command: &Command, role: Role) -> Result<Guest> {
        let cannot = || format!("cannot start {}", command.program.display());
        let limits = &self.limits;
        let scratch = match self.plan {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("postgrad-scratch-")
                    .tempdir()
                    .context(|| "cannot make a scratch folder".into())?,
            ),
        };
        // SAFETY: plain calls that ask who we are.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let drop_root = uid == 0 && self.plan.is_none();
        if let (Some(dir), true) = (&scratch, drop_root) {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))
                .context(|| "cannot hand over the scratch folder".into())?;
        }
        let rules = match self.layers.landlock {
            true => Some(Rules::new(&self.read, scratch.as_ref().map(|d| d.path()))?),
            false => None,
        };
        let work = scratch.as_ref().map_or(Path::new(root::SCRATCH), |d| d.path());
        let image = Image::new(command, work)?;

        let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let (sync_r, sync_w) = pipe()?;
        let (report_r, report_w) = pipe()?;
        let (err_r, err_w) = pipe()?;
        let (in_r, in_w, out_r, out_w) = match role {
            Role::Server => (null().context(cannot)?, None, None, null().context(cannot)?),
            _ => {
                let (in_r, in_w) = pipe()?;
                let (out_r, out_w) = pipe()?;
                (in_r, Some(in_w), Some(out_r), out_w)
            }
        };
        let (control, theirs) = match role {
            Role::Once => (None, None),
            _ => {
                let (ours, theirs) = UnixStream::pair().context(cannot)?;
                (Some(ours), Some(theirs))
            }
        };
        // High numbers, so that none is overwritten while 0 to 5 are put in place.
        let given =
            [Some(high(&in_r)?), Some(high(&out_w)?), Some(high(&err_w)?), theirs.as_ref().map(high).transpose()?];
        let report_high = high(&report_w)?;
        let sync_high = high(&sync_r)?;
        let rules_high = rules.as_ref().map(|r| high(&r.fd)).transpose()?;
        drop((in_r, out_w, err_w, theirs, report_w, sync_r));

        let inside = Inside {
            given: given.each_ref().map(|fd| fd.as_ref().map_or(-1, |fd| fd.as_raw_fd())),
            report: report_high.as_raw_fd(),
            sync: sync_high.as_raw_fd(),
            rules: rules_high.as_ref().map_or(-1, |fd| fd.as_raw_fd()),
            scratch_access: rules.as_ref().map_or(0, |r| r.scratch_access),
            limits,
            plan: self.plan.as_ref(),
            filters: &self.filters,
            host_name: self.layers.uts,
            image: &image,
            init: role != Role::Server && self.plan.is_some(),
            follow_parent: role != Role::Server,
            drop_root,
            keep_groups: uid != 0,
        };
        let mut flags = libc::SIGCHLD | libc::CLONE_PIDFD;
        if self.plan.is_some() {
            flags |= libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        }
        for (on, flag) in [
            (self.layers.net, libc::CLONE_NEWNET),
            (self.layers.ipc, libc::CLONE_NEWIPC),
            (self.layers.uts, libc::CLONE_NEWUTS),
            (self.layers.cgroup, libc::CLONE_NEWCGROUP),
        ] {
            if on && self.plan.is_some() {
                flags |= flag;
            }
        }
        let cgroup = Cgroup::make(limits)?;
        let mut pidfd: RawFd = -1;
        // SAFETY: a fork by another name; the child runs `Inside::enter`, which makes system calls only and never returns.
        // Signals are blocked around it, so that no handler of the parent runs in the child.
        let pid = unsafe {
            let (mut all, mut old) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
            let pid =
                libc::syscall(libc::SYS_clone, flags, 0usize, &mut pidfd as *mut RawFd, 0usize, 0usize) as libc::pid_t;
            if pid == 0 {
                inside.enter();
            }
            let e = errno();
            libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
            if pid < 0 {
                return Err(std::io::Error::from_raw_os_error(e)).context(cannot);
            }
            pid
        };
        drop((given, report_high, sync_high, rules_high));
        let guest = Guest {
            pid,
            // SAFETY: the kernel has just made it for us.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            report: report_r.into(),
            stdin: in_w,
            stdout: out_r,
            stderr: Some(err_r),
            control,
            scratch,
            namespaced: self.plan.is_some(),
            cgroup,
            ended: None,
        };
        if let Some(cgroup) = &guest.cgroup {
            cgroup.take(pid)?;
        }
        if self.plan.is_some() {
            map_user(pid, uid, gid)?;
        }
        std::fs::File::from(sync_w).write_all(b"g").context(cannot)?;
        Ok(guest)
    }

    /// Feeds, reads and times a guest until it ends.
    pub(super) fn watch(&self, guest: &mut Guest, stdin: &[u8]) -> Result<Outcome> {
        let start = Instant::now();
        let deadline = start + self.limits.wall;
        let cap = self.limits.output_bytes;
        let mut fed = 0;
        let mut streams = [guest.stdout.take(), guest.stderr.take()];
        let mut text = [vec![], vec![]];
        for fd in streams.iter().flatten().chain(guest.stdin.iter()) {
            nonblocking(fd)?;
        }
        let (mut forced, mut record, mut looked) = (None, None, start);
        while forced.is_none() {
            if fed == stdin.len() {
                guest.stdin = None;
            }
            let end = if guest.namespaced { guest.report.as_raw_fd() } else { guest.pidfd.as_raw_fd() };
            let fd_of = |s: &Option<OwnedFd>| s.as_ref().map_or(-1, |f| f.as_raw_fd());
            let mut fds = [
                poll_for(end, libc::POLLIN),
                poll_for(fd_of(&streams[0]), libc::POLLIN),
                poll_for(fd_of(&streams[1]), libc::POLLIN),
                poll_for(fd_of(&guest.stdin), libc::POLLOUT),
            ];
            let left = deadline.saturating_duration_since(Instant::now());
            poll(&mut fds, left.min(TICK))?;
            // By the clock, not when nothing happens: a guest that keeps talking is looked at as well.
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                if guest.memory() > self.limits.memory {
                    forced = Some(Ended::Memory);
                } else if guest.scratch.as_ref().is_some_and(|dir| !self.fits(dir.path())) {
                    forced = Some(Ended::Scratch);
                }
            }
            if fds[3].revents != 0 {
                match write_some(guest.stdin.as_ref().expect("polled"), &stdin[fed..]) {
                    Some(n) => fed += n,
                    None => guest.stdin = None,
                }
            }
            for i in 0..2 {
                if fds[i + 1].revents != 0 && !read_some(streams[i].as_ref().expect("polled"), &mut text[i]) {
                    streams[i] = None;
                }
            }
            if text[0].len() + text[1].len() > cap {
                forced = Some(Ended::Output);
            } else if Instant::now() >= deadline {
                forced = Some(Ended::Wall);
            }
            if fds[0].revents != 0 {
                record = guest.record();
                break;
            }
        }
        self.conclude(guest, forced, record, streams, text, start)
    }

    /// Kills what has to be killed, waits, reads what is left in the pipes, and says how it ended.
    fn conclude(
        &self,
        guest: &mut Guest,
        mut forced: Option<Ended>,
        record: Option<Record>,
        streams: [Option<OwnedFd>; 2],
        mut text: [Vec<u8>; 2],
        start: Instant,
    ) -> Result<Outcome> {
        let cap = self.limits.output_bytes;
        if forced.is_some() {
            guest.kill();
        }
        let (status, usage) = guest.wait()?;
        let wall = start.elapsed();
        for i in 0..2 {
            while text[i].len() <= cap && streams[i].as_ref().is_some_and(|fd| read_some(fd, &mut text[i])) {
                if poll(&mut [poll_for(streams[i].as_ref().expect("open").as_raw_fd(), libc::POLLIN)], Duration::ZERO)?
                    == 0
                {
                    break;
                }
            }
        }
        if forced.is_none() && text[0].len() + text[1].len() > cap {
            forced = Some(Ended::Output);
        }
        let room = cap.saturating_sub(text[1].len().min(cap / 4));
        text[0].truncate(room);
        let room = cap - text[0].len();
        text[1].truncate(room);
        let record = match record {
            Some(r) => Some(r),
            None => guest.record(),
        };
        if let Some(Record { tag: Record::FAILED, value, extra, .. }) = record {
            let stage = STAGES.get(extra as usize).unwrap_or(&"?");
            let error = std::io::Error::from_raw_os_error(value);
            let error = Error::work(format!("the sandbox could not be set up (step `{stage}`)")).because(error);
            let nobody = value == libc::EACCES && !guest.namespaced;
            return Err(if nobody {
                error.help("without namespaces root's guests run as nobody, who must be able to read the program")
            } else {
                error
            });
        }
        let (status, cpu, peak) = match record {
            Some(r) => (r.value, Duration::from_micros(r.cpu_us), r.extra * 1024),
            None => (status, cpu_of(&usage), usage.ru_maxrss as u64 * 1024),
        };
        let by_end = match status {
            _ if libc::WIFEXITED(status) => Ended::Exit(libc::WEXITSTATUS(status)),
            _ if guest.out_of_memory() => Ended::Memory,
            _ => Ended::Signal(libc::WTERMSIG(status)),
        };
        let [stdout, stderr] = text;
        Ok(Outcome { ended: forced.unwrap_or(by_end), stdout, stderr, wall, cpu, peak_memory: peak })
    }
}

impl Jail {
    /// Whether a scratch folder on a file system that is not ours holds no more than allowed.
    fn fits(&self, scratch: &Path) -> bool {
        let (mut bytes, mut files, mut folders) = (0, 0, vec![scratch.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                files += 1;
                if let Ok(kind) = entry.metadata() {
                    bytes += kind.len();
                    folders.extend(kind.is_dir().then(|| entry.path()));
                }
                if bytes > self.limits.scratch_bytes || files > self.limits.scratch_files as u64 {
                    return false;
                }
            }
        }
        true
    }
}

pub(super) fn cpu_of(usage: &libc::rusage) -> Duration {
    let part = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    part(usage.ru_utime) + part(usage.ru_stime)
}

impl Guest {
    pub fn kill(&self) {
        // SAFETY: a signal to a process that we hold a descriptor of; it cannot be anyone else.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, 0usize, 0) };
    }

    /// Waits for the first process; in a process namespace nothing is left of the guest afterwards.
    pub fn wait(&mut self) -> Result<(i32, libc::rusage)> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        loop {
            // SAFETY: our own child, waited for once.
            let (got, status, usage) = unsafe {
                let (mut status, mut usage) = (0, std::mem::zeroed());
                (libc::wait4(self.pid, &mut status, 0, &mut usage), status, usage)
            };
            if got == self.pid {
                self.ended = Some((status, usage));
                return Ok((status, usage));
            }
            if errno() != libc::EINTR {
                return Err(std::io::Error::from_raw_os_error(errno())).context(|| "lost a guest's process".into());
            }
        }
    }

    /// Anonymous and shared memory of all its processes, bytes (0 where the system does not list children).
    pub fn memory(&self) -> u64 {
        let mut total = 0;
        let mut todo = vec![self.pid];
        // A guest has a bounded number of tasks; the bound here only guards against reused numbers.
        for _ in 0..10_000 {
            let Some(pid) = todo.pop() else { break };
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            for line in status.lines().filter(|l| l.starts_with("RssAnon:") || l.starts_with("RssShmem:")) {
                total += line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024;
            }
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                todo.extend(children.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
            }
        }
        total
    }

    /// Whether the kernel has killed a process of its control group for want of memory.
    pub fn out_of_memory(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|group| group.kills() > 0)
    }

    /// What was reported about the setup or the end, if anything.
    pub fn record(&mut self) -> Option<Record> {
        let mut bytes = [0u8; size_of::<Record>()];
        self.report.read_exact(&mut bytes).ok()?;
        // SAFETY: Record is made of integers.
        Some(unsafe { std::mem::transmute::<[u8; size_of::<Record>()], Record>(bytes) })
    }

    /// The guest's own words about why it did not start: the failed step, or what it wrote to stderr. Ends it.
    pub fn obituary(mut self) -> String {
        self.kill();
        let _ = self.wait();
        if let Some(Record { tag: Record::FAILED, value, extra, .. }) = self.record() {
            return format!(
                "step `{}`: {}",
                STAGES.get(extra as usize).unwrap_or(&"?"),
                std::io::Error::from_raw_os_error(value)
            );
        }
        let mut text = vec![];
        if let Some(fd) = &self.stderr {
            let _ = nonblocking(fd);
            read_some(fd, &mut text);
        }
        String::from_utf8_lossy(&text).trim().to_string()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
            let _ = self.wait();
        }
        if let Some(dir) = self.scratch.take() {
            open_up(dir.path());
            drop(dir);
        }
    }
}

/// A guest may have made folders that not even their owner can enter; they are about to be removed.
fn open_up(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

/// Another user stays who they are; root's guest is nobody outside. (Root itself is mapped too, for the mounts are made before the guest steps
/// down, and a file system takes no files from a user it cannot name.)
fn map_user(pid: libc::pid_t, uid: u32, gid: u32) -> Result<()> {
    let write = |name: &str, text: String| {
        std::fs::write(format!("/proc/{pid}/{name}"), text).context(|| format!("cannot map the guest's user ({name})"))
    };
    if uid == 0 {
        let both = format!("0 0 1\n{INSIDE} {NOBODY} 1");
        write("uid_map", both.clone())?;
        return write("gid_map", both);
    }
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{INSIDE} {uid} 1"))?;
    write("gid_map", format!("{INSIDE} {gid} 1"))
}
