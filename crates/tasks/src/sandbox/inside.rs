//! The guest's process between its making and its program.
//!
//! The order, each step a plain system call: wait for the user map, mounts, drop capabilities and user, no new privileges, Landlock, seccomp, then, in a
//! process namespace, a small init that reaps whatever dies and reports how the guest ended; limits; `execve`. The guest holds descriptors 0, 1, 2 and,
//! where asked for, 3.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postgrad_base::{Context, Result};
use seccompiler::BpfProgram;

use super::root::{Plan, call, errno};
use super::{Command, Limits};

/// User and group of the guest, as it sees itself.
pub const INSIDE: u32 = 1000;
/// Who the guest is outside when the caller is root.
pub const NOBODY: u32 = 65534;
/// Names of the steps, for errors.
pub const STAGES: [&str; 9] =
    ["start", "mount", "user", "landlock", "seccomp", "init", "limits", "exec", "descriptors"];

/// What a guest's setup or its init writes to the parent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record {
    pub tag: i32,
    /// The error number, or the wait status.
    pub value: i32,
    pub cpu_us: u64,
    /// The step that failed, or peak resident kilobytes.
    pub extra: u64,
}

impl Record {
    pub const FAILED: i32 = 1;
    pub const ENDED: i32 = 2;
}

/// Everything that the new process needs, made before it exists.
pub struct Image {
    program: CString,
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    work: CString,
}

impl Image {
    pub fn new(command: &Command, work: &Path) -> Result<Self> {
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

pub struct Inside<'a> {
    pub given: [RawFd; 4],
    pub report: RawFd,
    pub sync: RawFd,
    pub rules: RawFd,
    pub scratch_access: u64,
    pub limits: &'a Limits,
    pub plan: Option<&'a Plan>,
    pub filters: &'a [BpfProgram],
    pub host_name: bool,
    pub image: &'a Image,
    pub init: bool,
    pub follow_parent: bool,
    pub drop_root: bool,
    pub keep_groups: bool,
}

const REPORT: RawFd = 4;
const RULES: RawFd = 5;

impl Inside<'_> {
    /// The new process, from its first instruction to `execve`.
    ///
    /// # Safety
    /// Runs in a copy of a process that may have had threads: system calls only, no allocation, no lock.
    pub unsafe fn enter(&self) -> ! {
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
        self.descriptors().map_err(at(8))?;
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::setsid();
        libc::umask(0);
        if let Some(plan) = self.plan {
            plan.build().map_err(at(1))?;
            if self.host_name {
                libc::sethostname(c"sandbox".as_ptr(), 7);
            }
        }
        libc::umask(0o077);
        call(libc::chdir(self.image.work.as_ptr())).map_err(at(1))?;
        self.drop_privileges().map_err(at(2))?;
        if self.rules >= 0 {
            self.landlock().map_err(at(3))?;
        }
        for filter in self.filters {
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
        if self.plan.is_some() {
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
        if self.plan.is_some() {
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
        let limits = self.limits;
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
        if self.plan.is_some() {
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
