//! Attempts to get out of the cell, each a small program of its own: this test binary, started again as the guest with the attempt's name.
//!
//! Every attempt is run under each set of layers that the sandbox accepts by itself. A guest that gets what it must not says `ESCAPED`; where that is
//! harmless, the attempt is also run without any sandbox and must then say so, which shows that it would notice.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::root::errno;
use super::{Command, Ended, Jail, Layers, Limits, capabilities};

const MARK: &str = "--sandbox-guest";
const ESCAPED: i32 = 66;

/// What the outside tells a guest: things to reach for.
struct Facts {
    secret: String,
    open_dir: String,
    host: i32,
    tcp: u16,
    udp: u16,
    name: String,
}

/// The attempt's answer: held, or what it got.
type Got = Result<(), String>;

struct Attempt {
    name: &'static str,
    run: fn(&Facts) -> Got,
    /// How it may end; `Exit(0)` is a guest that was refused and went on.
    ends: &'static [Ended],
    /// Harmless enough to run without a sandbox, where it must succeed.
    control: bool,
    /// Held only where there are namespaces.
    namespaces: bool,
}

const HELD: Ended = Ended::Exit(0);
const SYS: Ended = Ended::Signal(libc::SIGSYS);
const SEGV: Ended = Ended::Signal(libc::SIGSEGV);
const ABRT: Ended = Ended::Signal(libc::SIGABRT);

const fn refused(name: &'static str, run: fn(&Facts) -> Got) -> Attempt {
    Attempt { name, run, ends: &[HELD], control: false, namespaces: false }
}

const fn shown(name: &'static str, run: fn(&Facts) -> Got) -> Attempt {
    Attempt { name, run, ends: &[HELD], control: true, namespaces: false }
}

const fn ends(name: &'static str, ends: &'static [Ended], run: fn(&Facts) -> Got) -> Attempt {
    Attempt { name, run, ends, control: false, namespaces: false }
}

const ATTEMPTS: &[Attempt] = &[
    // processes
    refused("fork bomb", |_| at_most(TASKS, count_until_refused(300, || fork_then(sleep_a_while)))),
    refused("double-forked daemon", |_| {
        if fork_then(|| {
            unsafe { libc::setsid() };
            fork_then(sleep_a_while);
        }) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(()) // what is left of it is looked for outside
    }),
    refused("zombie children", |_| at_most(TASKS, count_until_refused(300, || fork_then(|| ())))),
    refused("orphans by the hundred", |_| {
        // Each child leaves an orphan behind; init must reap them, or the limit would be reached.
        for i in 0..100 {
            let mut done = 0;
            while done < 50
                && !fork_then(|| {
                    fork_then(|| ());
                })
            {
                if errno() == libc::EPERM {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(1));
                done += 1;
            }
            if done == 50 {
                return Err(format!("orphans are not reaped (after {i})"));
            }
            unsafe { libc::wait(std::ptr::null_mut()) };
        }
        Ok(())
    }),
    Attempt {
        namespaces: true,
        ..refused("thread bomb", |_| {
            at_most(
                TASKS,
                count_until_refused(300, || {
                    std::thread::Builder::new().stack_size(32 << 10).spawn(sleep_a_while).is_ok()
                }),
            )
        })
    },
    // memory
    // The address space ends it, or the watch over all processes is there first.
    ends("memory bomb", &[HELD, Ended::Memory], |_| {
        at_most(MEMORY >> 23, count_until_refused(64, || touch(8 << 20, libc::MAP_PRIVATE)))
    }),
    ends("memory bomb by many", &[HELD, Ended::Memory], |_| {
        let started = count_until_refused(4, || {
            fork_then(|| {
                touch(64 << 20, libc::MAP_PRIVATE);
                sleep_a_while();
            })
        });
        // Four of these are twice the limit; they should be ended together well before this.
        std::thread::sleep(Duration::from_millis(if started > 1 { 1400 } else { 0 }));
        at_most(1, started)
    }),
    ends("shared memory bomb", &[HELD, Ended::Memory], |_| {
        at_most(MEMORY >> 23, count_until_refused(64, || touch(8 << 20, libc::MAP_SHARED)))
    }),
    shown("System V shared memory", |_| {
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        refused_call(id as i64)
    }),
    shown("memory file", |_| refused_call(unsafe { libc::memfd_create(c"x".as_ptr(), 0) } as i64)),
    refused("locked memory", |_| refused_call(unsafe { libc::syscall(libc::SYS_mlockall, 3) })),
    refused("message queue", |_| {
        refused_call(unsafe { libc::syscall(libc::SYS_mq_open, c"x".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, 0) })
    }),
    refused("larger pipes", |_| {
        let mut ends = [0; 2];
        unsafe { libc::pipe(ends.as_mut_ptr()) };
        refused_call(unsafe { libc::fcntl(ends[0], libc::F_SETPIPE_SZ, 1 << 20) } as i64)
    }),
    // output, time, stack
    ends("output flood", &[Ended::Output], |_| flood(1)),
    ends("huge exit message", &[Ended::Output], |_| flood(2)),
    ends("infinite loop", &[Ended::Wall], |_| {
        loop {
            std::hint::black_box(0);
        }
    }),
    ends("endless sleep", &[Ended::Wall], |_| {
        sleep_a_while();
        Err("slept to the end".into())
    }),
    ends("deaf to signals", &[Ended::Wall], |_| {
        for signal in 1..=64 {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        loop {
            std::hint::black_box(0);
        }
    }),
    ends("stops itself", &[Ended::Wall], |_| {
        unsafe { libc::raise(libc::SIGSTOP) };
        sleep_a_while();
        Err("nobody minded".into())
    }),
    ends("closes its output and stays", &[Ended::Wall], |_| {
        for fd in 0..3 {
            unsafe { libc::close(fd) };
        }
        sleep_a_while();
        Err("stayed".into())
    }),
    ends("deep recursion", &[SEGV, ABRT], |_| {
        deeper(&mut [0; 512]);
        Err("no end".into())
    }),
    ends("core dump", &[ABRT, SEGV, Ended::Signal(libc::SIGILL)], |_| {
        let mut limit = libc::rlimit { rlim_cur: 9, rlim_max: 9 };
        unsafe { libc::getrlimit(libc::RLIMIT_CORE, &mut limit) };
        if limit.rlim_max > 1 {
            return Err("dumps are allowed".into());
        }
        unsafe { libc::abort() }
    }),
    refused("reads its standard input", |_| {
        let text = std::io::read_to_string(std::io::stdin()).unwrap_or_default();
        if text == "given" { Ok(()) } else { Err(format!("read {text:?}")) }
    }),
    // files
    shown("file read outside", |f| refused_open(std::fs::File::open(&f.secret))),
    shown("password file", |_| refused_open(std::fs::File::open("/etc/passwd"))),
    shown("path with dots", |f| refused_open(std::fs::File::open(format!("../../../../../../../..{}", f.secret)))),
    shown("file write outside", |f| refused_open(std::fs::File::create(format!("{}/written", f.open_dir)))),
    shown("folder outside", |f| {
        let made = std::fs::create_dir(format!("{}/made", f.open_dir));
        refused_open(made)
    }),
    shown("lists the root", |_| {
        let names = std::fs::read_dir("/").into_iter().flatten().flatten().map(|e| e.file_name());
        names.into_iter().find(|n| n == "sys").map_or(Ok(()), |n| Err(n.display().to_string()))
    }),
    shown("symbolic link out", |f| {
        let _ = std::fs::remove_file("link");
        std::os::unix::fs::symlink(&f.secret, "link").map_err(|e| format!("no link could be made: {e}"))?;
        let got = std::fs::File::open("link");
        let _ = std::fs::remove_file("link");
        refused_open(got)
    }),
    shown("hard link out", |f| {
        let made = std::fs::hard_link(&f.secret, format!("{}/hard", f.open_dir))
            .or_else(|_| std::fs::hard_link(&f.secret, "hard"));
        refused_open(made)
    }),
    refused("truncates a file outside", |f| refused_call(unsafe { libc::truncate(c(&f.secret).as_ptr(), 0) } as i64)),
    refused("modes of files outside", |f| {
        refused_call(unsafe { libc::chmod(c(&f.secret).as_ptr(), 0o777) } as i64)?;
        refused_call(unsafe { libc::utimes(c(&f.secret).as_ptr(), std::ptr::null()) } as i64)
    }),
    refused("attributes of its program", |_| {
        let exe = c(&std::env::args().next().unwrap_or_default());
        refused_call(unsafe { libc::chmod(exe.as_ptr(), 0o700) } as i64)?;
        refused_call(unsafe { libc::utimes(exe.as_ptr(), std::ptr::null()) } as i64)
    }),
    shown("sockets by path", |f| {
        refused_open(std::os::unix::net::UnixStream::connect(format!("{}/socket", f.open_dir)))
    }),
    shown("/proc/self/root", |f| refused_open(std::fs::File::open(format!("/proc/self/root{}", f.secret)))),
    shown("/proc of the parent", |f| refused_open(std::fs::File::open(format!("/proc/{}/status", f.host)))),
    shown("/proc/1", |_| refused_open(std::fs::File::open("/proc/1/status"))),
    shown("kernel settings", |_| refused_open(std::fs::File::open("/proc/sys/kernel/hostname"))),
    shown("devices", |_| refused_open(std::fs::File::open("/dev/full").or_else(|_| std::fs::File::open("/dev/ptmx")))),
    refused("raw memory and disks", |_| {
        let nodes =
            ["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/tty", "/dev/fuse", "/dev/kvm", "/dev/loop-control"];
        nodes.iter().map(std::fs::File::open).try_for_each(refused_open)
    }),
    refused("makes a device", |_| {
        refused_call(unsafe { libc::mknod(c"null".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) } as i64)
    }),
    refused("changes the program files", |_| {
        let exe = std::env::args().next().unwrap_or_default();
        refused_open(std::fs::OpenOptions::new().write(true).open(exe))
    }),
    ends("disk fill", &[HELD, Ended::Scratch], |_| {
        let chunk = vec![1u8; 512 << 10];
        let written = count_until_refused(64, || {
            static N: AtomicUsize = AtomicUsize::new(0);
            std::fs::write(format!("f{}", N.fetch_add(1, Ordering::Relaxed)), &chunk).is_ok()
        });
        std::thread::sleep(Duration::from_millis(if written > 8 { 200 } else { 0 }));
        at_most(8, written)
    }),
    ends("many files", &[HELD, Ended::Scratch], |_| {
        let made = count_until_refused(2000, || {
            static N: AtomicUsize = AtomicUsize::new(0);
            std::fs::create_dir(format!("d{}", N.fetch_add(1, Ordering::Relaxed))).is_ok()
        });
        std::thread::sleep(Duration::from_millis(if made > 64 { 200 } else { 0 }));
        at_most(64, made)
    }),
    ends("large file", &[HELD, Ended::Signal(libc::SIGXFSZ)], |_| {
        refused_open(std::fs::write("large", vec![0u8; 3 << 20]))
    }),
    ends("sparse file", &[HELD, Ended::Signal(libc::SIGXFSZ)], |_| {
        let file = std::fs::File::create("sparse").map_err(|e| e.to_string())?;
        refused_open(file.set_len(1 << 40))
    }),
    refused("many open files", |_| at_most(FILES, count_until_refused(1000, || unsafe { libc::dup(0) } >= 0))),
    refused("extended attributes", |_| {
        std::fs::write("x", "").map_err(|e| e.to_string())?;
        refused_call(unsafe { libc::setxattr(c"x".as_ptr(), c"user.a".as_ptr(), c"b".as_ptr().cast(), 1, 0) } as i64)
    }),
    // what was left lying about
    shown("inherited descriptors", |f| {
        let secret = std::fs::metadata(&f.secret).ok();
        for fd in 3..1024 {
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 && (secret.is_none() || fd >= 100) {
                return Err(format!("descriptor {fd} is open"));
            }
        }
        Ok(())
    }),
    shown("environment leak", |_| {
        let fixed = ["HOME", "TMPDIR", "LANG", "PATH"];
        match std::env::vars().find(|(key, _)| !fixed.contains(&key.as_str())) {
            Some((key, _)) => Err(key),
            None if std::env::var("PATH").as_deref() != Ok("/nowhere") => Err("PATH".into()),
            None => Ok(()),
        }
    }),
    refused("terminal input", |_| refused_call(unsafe { libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()) } as i64)),
    // network
    shown("TCP connect", |f| refused_open(std::net::TcpStream::connect(("127.0.0.1", f.tcp)))),
    shown("TCP listen", |_| refused_open(std::net::TcpListener::bind("127.0.0.1:0"))),
    shown("UDP send", |f| {
        let sent = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"x", ("127.0.0.1", f.udp)));
        refused_open(sent)
    }),
    shown("abstract socket", |f| abstract_socket(f, libc::SOCK_STREAM, false)),
    shown("abstract socket from a pair", |f| abstract_socket(f, libc::SOCK_DGRAM, true)),
    shown("sockets of every family", |_| {
        for family in 1..46 {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
                refused_call(unsafe { libc::socket(family, kind, 0) } as i64)
                    .map_err(|_| format!("family {family} kind {kind}"))?;
            }
        }
        Ok(())
    }),
    // other processes
    shown("signal to the parent", |f| refused_call(unsafe { libc::kill(f.host, 0) } as i64)),
    refused("signal to its init", |_| {
        let mine = unsafe { libc::getpid() };
        if mine > 1 && mine < 10 {
            unsafe { libc::kill(1, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(20));
        Ok(()) // still here, and reported by init
    }),
    refused("signal to everyone", |_| {
        let mine = unsafe { libc::getpid() };
        // Never outside a process namespace.
        let signal = if mine > 1 && mine < 10 { libc::SIGKILL } else { 0 };
        let sent = unsafe { libc::kill(-1, signal) };
        if signal == 0 { refused_call(sent as i64) } else { Ok(()) }
    }),
    shown("signal by descriptor", |f| {
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, f.host, 0) };
        if fd < 0 {
            return Ok(());
        }
        refused_call(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, 0, 0) })
    }),
    refused("queued signal", |f| {
        let info = [0u8; 128];
        refused_call(unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, f.host, libc::SIGCONT, info.as_ptr()) })
    }),
    shown("signal by file ownership", |f| refused_call(unsafe { libc::fcntl(0, libc::F_SETOWN, f.host) } as i64)),
    shown("limits of the parent", |f| {
        let none = std::ptr::null();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        refused_call(unsafe { libc::prlimit(f.host, libc::RLIMIT_NOFILE, none, &mut limit) } as i64)
    }),
    ends("traces the parent", &[SYS], |f| refused_call(unsafe { libc::ptrace(libc::PTRACE_SEIZE, f.host, 0, 0) })),
    ends("asks to be traced", &[SYS], |_| refused_call(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })),
    ends("memory of the parent", &[SYS], |f| {
        let mut byte = 0u8;
        let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let remote = libc::iovec { iov_base: (ATTEMPTS.as_ptr() as *mut libc::c_void).cast(), iov_len: 1 };
        refused_call(unsafe { libc::process_vm_readv(f.host, &local, 1, &remote, 1, 0) } as i64)
    }),
    shown("affinity of the parent", |f| {
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        refused_call(unsafe { libc::sched_setaffinity(f.host, size_of_val(&set), &set) } as i64)
    }),
    refused("real-time priority", |_| {
        let param = libc::sched_param { sched_priority: 1 };
        let scheduler = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) };
        refused_call(scheduler as i64)?;
        refused_call(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -5) } as i64)
    }),
    // privilege
    refused("becomes root", |_| {
        unsafe { (libc::setuid(0), libc::setgid(0), libc::setresuid(0, 0, 0), libc::seteuid(0)) };
        if unsafe { libc::geteuid() } == 0 { Err("is root".into()) } else { Ok(()) }
    }),
    refused("takes groups", |_| refused_call(unsafe { libc::setgroups(1, &0) } as i64)),
    refused("raises its limits", |_| {
        [libc::RLIMIT_NOFILE, libc::RLIMIT_AS, libc::RLIMIT_FSIZE, libc::RLIMIT_CPU].into_iter().try_for_each(|which| {
            let more = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            refused_call(unsafe { libc::setrlimit(which, &more) } as i64)
        })
    }),
    refused("takes capabilities", |_| {
        let (header, all) = ([0x2008_0522u32, 0], [u32::MAX; 6]);
        refused_call(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), all.as_ptr()) })
    }),
    refused("its own filters", |_| refused_call(unsafe { libc::prctl(libc::PR_SET_SECCOMP, 0, 0, 0, 0) } as i64)),
    shown("personality", |_| refused_call(unsafe { libc::personality(0xffff_ffff) } as i64)),
    ends("mount", &[SYS], |_| {
        refused_call(
            unsafe { libc::mount(c"x".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) } as i64
        )
    }),
    ends("unmount", &[SYS], |_| refused_call(unsafe { libc::umount2(c"/tmp".as_ptr(), libc::MNT_DETACH) } as i64)),
    ends("chroot", &[SYS], |_| refused_call(unsafe { libc::chroot(c".".as_ptr()) } as i64)),
    ends("unshare", &[SYS], |_| refused_call(unsafe { libc::unshare(libc::CLONE_NEWUSER) } as i64)),
    ends("enters namespaces", &[SYS], |_| refused_call(unsafe { libc::setns(0, 0) } as i64)),
    refused("clone into namespaces", |_| {
        for flag in
            [libc::CLONE_NEWUSER, libc::CLONE_NEWUSER | libc::CLONE_NEWNET, libc::CLONE_NEWNS, libc::CLONE_NEWPID]
        {
            let pid = unsafe { libc::syscall(libc::SYS_clone, flag | libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize) };
            if pid == 0 {
                unsafe { libc::_exit(0) };
            }
            refused_call(pid)?;
        }
        Ok(())
    }),
    refused("clone3 into namespaces", |_| {
        let mut arguments = [0u64; 11];
        (arguments[0], arguments[4]) = (libc::CLONE_NEWUSER as u64, libc::SIGCHLD as u64);
        let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
        if pid == 0 {
            unsafe { libc::_exit(0) };
        }
        refused_call(pid)
    }),
    ends("sets the clock", &[SYS], |_| {
        let never = libc::timespec { tv_sec: 0, tv_nsec: -1 };
        refused_call(unsafe { libc::syscall(libc::SYS_clock_settime, libc::CLOCK_REALTIME, &raw const never) })
    }),
    // foreign code
    refused("runs a file it wrote", |_| {
        let exe = std::env::args().next().unwrap_or_default();
        std::fs::write("script", format!("#!{exe} {MARK}-escaped\n")).map_err(|e| e.to_string())?;
        unsafe {
            libc::chmod(c"script".as_ptr(), 0o755);
            libc::execv(c"./script".as_ptr(), [c"script".as_ptr(), std::ptr::null()].as_ptr());
        }
        Ok(())
    }),
    refused("runs a program outside", |_| {
        for program in [c"/bin/sh", c"/usr/bin/env", c"/bin/true", c"/usr/bin/python3"] {
            unsafe {
                libc::execv(
                    program.as_ptr(),
                    [program.as_ptr(), c"-c".as_ptr(), c"echo ESCAPED".as_ptr(), std::ptr::null()].as_ptr(),
                )
            };
        }
        Ok(())
    }),
    refused("runs a descriptor", |_| {
        let exe = c(&std::env::args().next().unwrap_or_default());
        let fd = unsafe { libc::open(exe.as_ptr(), libc::O_RDONLY) };
        let argv = [exe.as_ptr(), c"--sandbox-guest-escaped".as_ptr(), std::ptr::null()];
        refused_call(unsafe {
            libc::syscall(
                libc::SYS_execveat,
                fd,
                c"".as_ptr(),
                argv.as_ptr(),
                &std::ptr::null::<u8>(),
                libc::AT_EMPTY_PATH,
            )
        })
    }),
    shown("writable code", |_| {
        let both = libc::PROT_WRITE | libc::PROT_EXEC | libc::PROT_READ;
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, both, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if at != libc::MAP_FAILED { Err("mapped".into()) } else { Ok(()) }
    }),
    shown("data made code", |_| unsafe {
        let at =
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        refused_call(libc::mprotect(at, 4096, libc::PROT_EXEC | libc::PROT_READ) as i64)
    }),
    // Landlock has no say in mappings: the scratch mount's `noexec` does it.
    Attempt {
        namespaces: true,
        ..refused("maps its own file as code", |_| {
            std::fs::write("code", vec![0u8; 4096]).map_err(|e| e.to_string())?;
            let file = std::fs::File::open("code").map_err(|e| e.to_string())?;
            let executable = libc::PROT_READ | libc::PROT_EXEC;
            let at =
                unsafe { libc::mmap(std::ptr::null_mut(), 4096, executable, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
            if at == libc::MAP_FAILED { Ok(()) } else { Err("mapped".into()) }
        })
    },
    #[cfg(target_arch = "x86_64")]
    ends("system calls of 32 bits", &[SYS], |_| {
        let answer: i64;
        // SAFETY: getpid by the old gate.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20i64 => answer) };
        refused_call(answer)
    }),
    #[cfg(target_arch = "x86_64")]
    refused("system calls of the x32 table", |_| {
        refused_call(unsafe { libc::syscall(0x4000_0000 | libc::SYS_socket, 1, 1, 0) })
    }),
];

const TASKS: usize = 8;
const FILES: usize = 32;
const MEMORY: usize = 128 << 20;

fn limits() -> Limits {
    Limits {
        wall: Duration::from_secs(10),
        cpu: Duration::from_secs(2),
        memory: MEMORY as u64,
        tasks: TASKS as u32,
        open_files: FILES as u32,
        file_bytes: 2 << 20,
        scratch_bytes: 4 << 20,
        scratch_files: 64,
        output_bytes: 64 << 10,
    }
}

// ---- what attempts are made of ----

fn c(text: &str) -> CString {
    CString::new(text).expect("no zero byte")
}

fn refused_call(answer: i64) -> Got {
    if answer < 0 { Ok(()) } else { Err(format!("got {answer}")) }
}

fn refused_open<T>(got: std::io::Result<T>) -> Got {
    if got.is_ok() { Err("got it".into()) } else { Ok(()) }
}

fn at_most(limit: usize, got: usize) -> Got {
    if got <= limit { Ok(()) } else { Err(format!("{got}, more than {limit}")) }
}

fn count_until_refused(bound: usize, mut once: impl FnMut() -> bool) -> usize {
    (0..bound).take_while(|_| once()).count()
}

/// True where a child was started; the child runs `then` and ends.
fn fork_then(then: impl FnOnce()) -> bool {
    match unsafe { libc::fork() } {
        0 => {
            then();
            unsafe { libc::_exit(0) }
        }
        pid => pid > 0,
    }
}

/// Longer than any limit of these tests, and an end of its own should all of them fail.
fn sleep_a_while() {
    std::thread::sleep(Duration::from_secs(20));
}

fn touch(bytes: usize, kind: i32) -> bool {
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            kind | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if at == libc::MAP_FAILED {
            return false;
        }
        for page in (0..bytes).step_by(4096) {
            at.cast::<u8>().add(page).write_volatile(1);
        }
    }
    true
}

fn flood(fd: i32) -> Got {
    let line = [b'x'; 4096];
    for _ in 0..65_536 {
        unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
    }
    Err("all of it was taken".into())
}

#[inline(never)]
fn deeper(frame: &mut [u64; 512]) -> u64 {
    let mut next = [frame[0] + 1; 512];
    if next[0] == 0 {
        return 0;
    }
    let below = deeper(std::hint::black_box(&mut next));
    below + next[1]
}

fn abstract_socket(facts: &Facts, kind: i32, pair: bool) -> Got {
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    let name = format!("{}-{}", facts.name, if pair { "dgram" } else { "stream" });
    for (to, from) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let length = (2 + 1 + name.len()) as u32;
    unsafe {
        if !pair {
            let fd = libc::socket(libc::AF_UNIX, kind, 0);
            return refused_call(libc::connect(fd, (&raw const address).cast(), length) as i64);
        }
        let mut fds = [-1; 2];
        if libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) < 0 {
            return Ok(());
        }
        refused_call(libc::sendto(fds[0], b"x".as_ptr().cast(), 1, 0, (&raw const address).cast(), length) as i64)
    }
}

// ---- the guest ----

/// Runs before the test harness: a process that was started as a guest never reaches it.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

extern "C" fn enter() {
    let args: Vec<String> = std::env::args().collect();
    let Some(mark) = args.get(1).filter(|a| a.starts_with(MARK)) else { return };
    let say = |text: String, code: i32| -> ! {
        unsafe {
            libc::write(1, text.as_ptr().cast(), text.len());
            libc::_exit(code)
        }
    };
    if mark != MARK {
        say("ESCAPED: ran a file".into(), ESCAPED);
    }
    let number = |i: usize| args[i].parse::<i32>().unwrap_or(0);
    if let Ok(call) = args[2].parse::<i64>() {
        let answer = unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
        say(format!("call {call} answered {answer}"), 0);
    }
    let facts = Facts {
        secret: args[3].clone(),
        open_dir: args[4].clone(),
        host: number(5),
        tcp: number(6) as u16,
        udp: number(7) as u16,
        name: args[8].clone(),
    };
    let attempt = ATTEMPTS.iter().find(|a| a.name == args[2]).unwrap_or_else(|| say("no such attempt".into(), 67));
    match (attempt.run)(&facts) {
        Ok(()) => say("held".into(), 0),
        Err(got) => say(format!("ESCAPED: {got}"), ESCAPED),
    }
}

// ---- the outside ----

struct Outside {
    dir: tempfile::TempDir,
    exe: PathBuf,
    args: Vec<String>,
    _open: Vec<Box<dyn Send + Sync>>,
}

impl Outside {
    fn new() -> Self {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
        // A copy, at a place that a guest without a user namespace may reach as nobody.
        let exe = dir.path().join("guest");
        std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        mode(&exe, 0o755);
        // Until no process that another test has just forked still holds the copy open for writing.
        while let Err(e) = std::process::Command::new(&exe).arg("--sandbox-guest-escaped").output() {
            assert_eq!(e.kind(), std::io::ErrorKind::ExecutableFileBusy, "{e}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (secret, open_dir) = (dir.path().join("secret"), dir.path().join("open"));
        std::fs::write(&secret, "secret").unwrap();
        std::fs::create_dir(&open_dir).unwrap();
        mode(&secret, 0o666);
        mode(&open_dir, 0o777);
        mode(dir.path(), 0o755);
        let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let stream =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("{name}-stream")).unwrap()).unwrap();
        let dgram = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("{name}-dgram")).unwrap()).unwrap();
        let path = UnixListener::bind(open_dir.join("socket")).unwrap();
        mode(&open_dir.join("socket"), 0o777);
        let ports = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        // Left open across exec, as a careless program leaves its files.
        let file = std::fs::File::open(&secret).unwrap();
        let leaked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 100) };
        assert!(leaked >= 100);
        let leaked = unsafe { std::fs::File::from_raw_fd(leaked) };
        let text = |p: &Path| p.display().to_string();
        let host = std::process::id().to_string();
        let args = vec![text(&secret), text(&open_dir), host, ports.0.to_string(), ports.1.to_string(), name];
        let open: Vec<Box<dyn Send + Sync>> =
            vec![Box::new(tcp), Box::new(udp), Box::new(stream), Box::new(dgram), Box::new(path), Box::new(leaked)];
        Self { dir, exe, args, _open: open }
    }

    fn arguments(&self, name: &str) -> Vec<String> {
        [MARK, name].map(String::from).into_iter().chain(self.args.clone()).collect()
    }

    fn command(&self, name: &str) -> Command {
        Command { program: self.exe.clone(), args: self.arguments(name), env: vec![], stdin: b"given".into() }
    }

    fn jail(&self, limits: Limits, layers: Layers) -> postgrad_base::Result<Jail> {
        let mut read = super::python::libraries(&super::python::mapped_here());
        read.insert(self.exe.clone());
        Jail::with_layers(read.into_iter().collect(), limits, layers, false)
    }

    /// Guests that are still there.
    fn survivors(&self) -> usize {
        let of_ours = |entry: std::fs::DirEntry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.starts_with(self.exe.as_os_str().as_encoded_bytes())
        };
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok())
            .filter_map(|e| of_ours(e).then_some(()))
            .count()
    }
}

/// Runs all attempts, several at a time, and says what went wrong.
fn failures(layers: Layers) -> Vec<String> {
    let outside = Outside::new();
    // Those that only the clock ends get a short one; the others a long one, for the machine may be busy.
    let patient = outside.jail(limits(), layers).unwrap();
    let brisk = outside.jail(Limits { wall: Duration::from_millis(600), ..limits() }, layers).unwrap();
    let attempts: Vec<&Attempt> = ATTEMPTS.iter().filter(|a| layers.namespaces || !a.namespaces).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(attempt) = attempts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let jail = if attempt.ends == [Ended::Wall] { &brisk } else { &patient };
                    let wrong = match jail.run(&outside.command(attempt.name)) {
                        Err(e) => Some(e.to_string()),
                        Ok(out) => {
                            let said = String::from_utf8_lossy(&out.stdout).into_owned();
                            let fine = attempt.ends.contains(&out.ended) && !said.contains("ESCAPED");
                            let short: String = said.chars().take(200).collect();
                            (!fine).then(|| {
                                format!(
                                    "{:?} in {:?}: {short} {}",
                                    out.ended,
                                    out.wall,
                                    String::from_utf8_lossy(&out.stderr)
                                )
                            })
                        }
                    };
                    failed.lock().unwrap().extend(wrong.map(|w| format!("{}: {w}", attempt.name)));
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    let left = outside.survivors();
    if left > 0 {
        failed.push(format!("{left} processes are still there"));
    }
    let intact = std::fs::read_to_string(outside.dir.path().join("secret")).unwrap();
    let written = std::fs::read_dir(outside.dir.path().join("open")).unwrap().count();
    if intact != "secret" || written != 1 {
        failed.push("files outside were changed".into());
    }
    failed
}

fn here() -> Layers {
    Layers::of(capabilities())
}

#[test]
fn the_table_is_long_enough_and_names_are_unique() {
    let names: std::collections::BTreeSet<_> = ATTEMPTS.iter().map(|a| a.name).collect();
    assert_eq!(names.len(), ATTEMPTS.len());
    assert!(names.len() >= 80, "{}", names.len());
}

/// Nothing escapes; or, where this machine lacks what the set needs, nothing is run.
fn holds(layers: Layers) {
    if layers.missing().is_some() {
        assert!(Outside::new().jail(limits(), layers).is_err());
        return;
    }
    assert_eq!(failures(layers), Vec::<String>::new());
}

#[test]
fn nothing_escapes_all_layers() {
    holds(here());
}

#[test]
fn nothing_escapes_without_namespaces() {
    holds(Layers { namespaces: false, ..here() });
}

#[test]
fn nothing_escapes_without_landlock() {
    holds(Layers { landlock: false, ..here() });
}

#[test]
fn attempts_do_escape_without_a_sandbox() {
    let outside = Outside::new();
    for attempt in ATTEMPTS.iter().filter(|a| a.control) {
        for left in ["made", "written", "hard"] {
            let path = outside.dir.path().join("open").join(left);
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        }
        let out = std::process::Command::new(&outside.exe)
            .args(outside.arguments(attempt.name))
            .current_dir(outside.dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.code() == Some(ESCAPED) && said.contains("ESCAPED"),
            "{}: {:?} {said}",
            attempt.name,
            out.status
        );
    }
}

#[test]
fn every_barred_call_kills() {
    let outside = Outside::new();
    let jail = outside.jail(limits(), here()).unwrap();
    for call in super::seccomp::KILLED {
        let out = jail.run(&outside.command(&call.to_string())).unwrap();
        assert_eq!(out.ended, SYS, "call {call}: {}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn processor_time_is_limited_apart_from_wall_time() {
    let outside = Outside::new();
    let limits = Limits { wall: Duration::from_secs(30), cpu: Duration::from_secs(1), ..limits() };
    let jail = outside.jail(limits, here()).unwrap();
    let out = jail.run(&outside.command("infinite loop")).unwrap();
    assert_eq!(out.ended, Ended::Signal(libc::SIGXCPU), "{:?}", out.wall);
    // The kernel counts this limit in ticks: on a busy machine that is some way from what it reports.
    assert!(out.cpu > Duration::from_millis(300), "{:?}", out.cpu);
}

#[test]
fn it_refuses_where_nothing_holds_unless_told() {
    let outside = Outside::new();
    let none = Layers {
        namespaces: false,
        net: false,
        ipc: false,
        uts: false,
        cgroup: false,
        landlock: false,
        seccomp: false,
    };
    let e = outside.jail(limits(), none).err().unwrap();
    assert!(e.to_string().contains("cannot hold untrusted code") && e.help_text().is_some(), "{e}");
    assert!(outside.jail(limits(), Layers { seccomp: false, ..here() }).is_err());
    let mut read = super::python::libraries(&super::python::mapped_here());
    read.insert(outside.exe.clone());
    let jail = Jail::with_layers(read.into_iter().collect(), limits(), none, true).unwrap();
    assert_eq!(jail.run(&outside.command("reads its standard input")).unwrap().ended, HELD);
}

#[test]
fn what_cannot_start_says_why() {
    let outside = Outside::new();
    let jail = outside.jail(limits(), here()).unwrap();
    let absent = Command { program: "/nowhere/at/all".into(), ..outside.command("mount") };
    let e = jail.run(&absent).err().unwrap().to_string();
    assert!(e.contains("step `exec`") && e.contains("No such file"), "{e}");
    let zero = Command { args: vec!["a\0b".into()], ..outside.command("mount") };
    assert!(jail.run(&zero).is_err());
    for bad in
        [Limits { memory: 1, ..limits() }, Limits { wall: Duration::ZERO, ..limits() }, Limits { tasks: 0, ..limits() }]
    {
        assert!(outside.jail(bad, here()).is_err());
    }
}
