//! One guest process and its cell.
//!
//! The order inside the new process, each step a plain system call (the parent may have had threads): wait for the user map, mounts, drop
//! capabilities and user, no new privileges, Landlock, seccomp, then, in a process namespace, a small init that reaps whatever dies and reports how
//! the guest ended, limits, `execve`. The guest holds descriptors 0, 1, 2 and, where asked for, 3.
//!
//! Left out on purpose: `/proc` inside the cell (nothing a test needs is worth what it shows), a terminal, any network device but a dead `lo`.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgrad_base::{Context, Error, Result};
use seccompiler::BpfProgram;

use super::cgroup::Cgroup;
use super::landlock::Rules;
use super::root::{self, Plan, call, errno};
use super::{Layers, Limits, capabilities, seccomp};

/// User and group of the guest, as it sees itself.
const INSIDE: u32 = 1000;
/// Who the guest is outside when the caller is root.
const NOBODY: u32 = 65534;
/// How often the memory of a guest's processes is added up.
const TICK: Duration = Duration::from_millis(20);
const STAGES: [&str; 9] = ["start", "mount", "user", "landlock", "seccomp", "init", "limits", "exec", "descriptors"];

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
    _cgroup: Option<Cgroup>,
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
            jail: self,
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
            _cgroup: cgroup,
            ended: None,
        };
        if let Some(cgroup) = &guest._cgroup {
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
        let by_end = if libc::WIFEXITED(status) {
            Ended::Exit(libc::WEXITSTATUS(status))
        } else {
            Ended::Signal(libc::WTERMSIG(status))
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
        drop(self.scratch.take());
    }
}

/// What a guest's setup or its init writes to the parent.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Record {
    tag: i32,
    /// The error number, or the wait status.
    value: i32,
    cpu_us: u64,
    /// The step that failed, or peak resident kilobytes.
    extra: u64,
}

impl Record {
    const FAILED: i32 = 1;
    const ENDED: i32 = 2;
}

/// Everything that the new process needs, made before it exists.
struct Image {
    program: CString,
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    work: CString,
}

impl Image {
    fn new(command: &Command, work: &Path) -> Result<Self> {
        let text = |s: &[u8]| CString::new(s).context(|| "a zero byte in a command".into());
        let program = text(command.program.as_os_str().as_bytes())?;
        let args = command.args.iter().map(|a| text(a.as_bytes())).collect::<Result<Vec<_>>>()?;
        let home = work.display();
        let fixed = [format!("HOME={home}"), format!("TMPDIR={home}"), "LANG=C.UTF-8".into(), "PATH=/nowhere".into()];
        let env = fixed.into_iter().chain(command.env.iter().map(|(k, v)| format!("{k}={v}")));
        let env = env.map(|e| text(e.as_bytes())).collect::<Result<Vec<_>>>()?;
        let end = std::iter::once(std::ptr::null());
        let argv = std::iter::once(&program).chain(&args).map(|s| s.as_ptr()).chain(end.clone()).collect();
        let envp = env.iter().map(|s| s.as_ptr()).chain(end).collect();
        // The pointers are into the strings' own heap blocks, which stay where they are when the vectors move.
        let strings = args.into_iter().chain(env).collect();
        Ok(Self { program, _strings: strings, argv, envp, work: text(work.as_os_str().as_bytes())? })
    }
}

struct Inside<'a> {
    given: [RawFd; 4],
    report: RawFd,
    sync: RawFd,
    rules: RawFd,
    scratch_access: u64,
    jail: &'a Jail,
    image: &'a Image,
    init: bool,
    follow_parent: bool,
    drop_root: bool,
    keep_groups: bool,
}

const REPORT: RawFd = 4;
const RULES: RawFd = 5;

impl Inside<'_> {
    /// The new process, from its first instruction to `execve`.
    ///
    /// # Safety
    /// Runs in a copy of a process that may have had threads: system calls only, no allocation, no lock.
    unsafe fn enter(&self) -> ! {
        let mut go = 0u8;
        if libc::read(self.sync, (&raw mut go).cast(), 1) != 1 {
            libc::_exit(126); // the parent is gone or gave up
        }
        if let Err((stage, e)) = self.prepare() {
            let failed = Record { tag: Record::FAILED, value: e, cpu_us: 0, extra: stage as u64 };
            let fd = if libc::fcntl(REPORT, libc::F_GETFD) >= 0 && stage != 8 { REPORT } else { self.report };
            libc::write(fd, (&raw const failed).cast(), size_of::<Record>());
        }
        libc::_exit(126)
    }

    unsafe fn prepare(&self) -> Result<(), (usize, i32)> {
        let at = |stage: usize| move |e: i32| (stage, e);
        let jail = self.jail;
        self.descriptors().map_err(at(8))?;
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::setsid();
        libc::umask(0);
        if let Some(plan) = &jail.plan {
            plan.build().map_err(at(1))?;
            if jail.layers.uts {
                libc::sethostname(c"sandbox".as_ptr(), 7);
            }
        }
        libc::umask(0o077);
        call(libc::chdir(self.image.work.as_ptr())).map_err(at(1))?;
        self.drop_privileges().map_err(at(2))?;
        if self.rules >= 0 {
            self.landlock().map_err(at(3))?;
        }
        for filter in &jail.filters {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
            const SET_MODE_FILTER: usize = 1;
            call(libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0usize, &raw const program) as i32)
                .map_err(at(4))?;
        }
        if self.init {
            let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize) as libc::pid_t;
            call(child).map_err(at(5))?;
            if child > 0 {
                reap_until(child);
            }
        }
        self.limits().map_err(at(6))?;
        libc::execve(self.image.program.as_ptr(), self.image.argv.as_ptr(), self.image.envp.as_ptr());
        Err((7, errno()))
    }

    unsafe fn descriptors(&self) -> Result<(), i32> {
        for (to, &from) in self.given.iter().enumerate() {
            if from >= 0 {
                call(libc::dup2(from, to as i32))?;
            } else {
                libc::close(to as i32);
            }
        }
        call(libc::dup3(self.report, REPORT, libc::O_CLOEXEC))?;
        if self.rules >= 0 {
            call(libc::dup3(self.rules, RULES, libc::O_CLOEXEC))?;
        } else {
            libc::close(RULES);
        }
        if libc::syscall(libc::SYS_close_range, 6u32, u32::MAX, 0u32) < 0 {
            for fd in 6..65536 {
                libc::close(fd);
            }
        }
        Ok(())
    }

    unsafe fn drop_privileges(&self) -> Result<(), i32> {
        if self.jail.plan.is_some() {
            for capability in 0..64 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            if !self.keep_groups {
                call(libc::syscall(libc::SYS_setgroups, 0usize, 0usize) as i32)?;
            }
            set_user(INSIDE)?;
        } else if self.drop_root {
            call(libc::syscall(libc::SYS_setgroups, 0usize, 0usize) as i32)?;
            set_user(NOBODY)?;
        }
        const VERSION_3: u32 = 0x2008_0522;
        let (header, nothing) = ([VERSION_3, 0u32], [0u32; 6]);
        call(libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) as i32)?;
        call(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        if self.follow_parent {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        }
        Ok(())
    }

    unsafe fn landlock(&self) -> Result<(), i32> {
        if self.jail.plan.is_some() {
            #[repr(C, packed)]
            struct Beneath {
                access: u64,
                fd: i32,
            }
            let fd = libc::open(self.image.work.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
            call(fd)?;
            let beneath = Beneath { access: self.scratch_access, fd };
            const PATH_BENEATH: usize = 1;
            call(libc::syscall(libc::SYS_landlock_add_rule, RULES, PATH_BENEATH, &raw const beneath, 0usize) as i32)?;
            libc::close(fd);
        }
        call(libc::syscall(libc::SYS_landlock_restrict_self, RULES, 0usize) as i32)
    }

    unsafe fn limits(&self) -> Result<(), i32> {
        let limits = &self.jail.limits;
        // One is below the size of any dump and, for kernels that pipe dumps to a program, the value that means none.
        let cpu = limits.cpu.as_secs_f64().ceil().max(1.0) as u64;
        let set = |which, soft: u64, hard: u64| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            call(libc::setrlimit(which, &limit))
        };
        set(libc::RLIMIT_CORE, 1, 1)?;
        set(libc::RLIMIT_AS, limits.memory, limits.memory)?;
        set(libc::RLIMIT_STACK, 8 << 20, 8 << 20)?;
        set(libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
        set(libc::RLIMIT_NOFILE, limits.open_files as u64, limits.open_files as u64)?;
        set(libc::RLIMIT_MEMLOCK, 0, 0)?;
        set(libc::RLIMIT_MSGQUEUE, 0, 0)?;
        if self.follow_parent {
            // A server's processor time is the sum of many tests; it limits each of them itself.
            set(libc::RLIMIT_CPU, cpu, cpu + 1)?;
        }
        if self.jail.plan.is_some() {
            // Counted within the user namespace; one more for its first process.
            set(libc::RLIMIT_NPROC, limits.tasks as u64 + 1, limits.tasks as u64 + 1)?;
        }
        Ok(())
    }
}

unsafe fn set_user(id: u32) -> Result<(), i32> {
    call(libc::syscall(libc::SYS_setresgid, id, id, id) as i32)?;
    call(libc::syscall(libc::SYS_setresuid, id, id, id) as i32)
}

/// The init of a guest's namespace: reaps everything, reports the guest's end, and by ending takes the rest with it.
unsafe fn reap_until(guest: libc::pid_t) -> ! {
    for fd in [0, 1, 2, 3, RULES] {
        libc::close(fd);
    }
    loop {
        let (mut status, mut usage): (i32, libc::rusage) = (0, std::mem::zeroed());
        let pid = libc::wait4(-1, &mut status, 0, &mut usage);
        if pid == guest {
            let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
            let cpu_us = micros(usage.ru_utime) + micros(usage.ru_stime);
            let record = Record { tag: Record::ENDED, value: status, cpu_us, extra: usage.ru_maxrss as u64 };
            libc::write(REPORT, (&raw const record).cast(), size_of::<Record>());
            libc::_exit(0);
        }
        if pid < 0 && errno() != libc::EINTR {
            libc::_exit(125);
        }
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

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel fills the pair, which we then own.
    unsafe {
        call(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))
            .map_err(std::io::Error::from_raw_os_error)
            .context(|| "cannot make a pipe".into())?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

fn high(fd: &impl AsRawFd) -> Result<OwnedFd> {
    // SAFETY: a copy that we then own.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16);
        call(copy).map_err(std::io::Error::from_raw_os_error).context(|| "cannot copy a descriptor".into())?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

pub(super) fn nonblocking(fd: &impl AsRawFd) -> Result<()> {
    // SAFETY: flags of a descriptor that we hold.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    call(answer).map_err(std::io::Error::from_raw_os_error).context(|| "cannot set up a pipe".into())
}

pub(super) fn poll_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// How many descriptors are ready; 0 after the time is up or a signal.
pub(super) fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> Result<usize> {
    // SAFETY: the slice is ours and its length is given.
    let n =
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout.as_micros().div_ceil(1000) as i32) };
    if n >= 0 {
        return Ok(n as usize);
    }
    if errno() == libc::EINTR {
        Ok(0)
    } else {
        Err(std::io::Error::from_raw_os_error(errno())).context(|| "cannot wait for a guest".into())
    }
}

/// False when the other end is closed.
fn read_some(fd: &OwnedFd, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 65536];
    // SAFETY: reads at most the buffer's length.
    let n = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if n > 0 {
        into.extend_from_slice(&buffer[..n as usize]);
    }
    n > 0 || (n < 0 && matches!(errno(), libc::EAGAIN | libc::EINTR))
}

/// None when the other end is closed (Rust programs ignore SIGPIPE).
fn write_some(fd: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    // SAFETY: writes at most the slice.
    let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if n >= 0 { Some(n as usize) } else { matches!(errno(), libc::EAGAIN | libc::EINTR).then_some(0) }
}
