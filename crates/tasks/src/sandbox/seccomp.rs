//! The system calls a guest may make.
//!
//! Three filters, the strictest verdict wins:
//! - a list of what is allowed, everything else fails with `EPERM` (a program that asks for a socket gets an exception and may go on);
//! - a list of calls that no honest test makes (`ptrace`, `mount`, `bpf`, …): the whole process dies with `SIGSYS`;
//! - `clone3` hides its flags behind a pointer, so it answers `ENOSYS` and C libraries fall back to `clone`, whose flags are checked.
//!
//! Arguments are checked where a call could reach another process (`prlimit64`, `sched_setaffinity`), a new namespace (`clone`), a network
//! (`socketpair` only for local streams, `socket` never), a terminal (`ioctl`), a growing pipe (`fcntl`), or memory that is writable and executable.

use std::collections::BTreeMap;

use postgrad_base::{Context, Error, Result};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};

/// What the guest's filters leave open.
#[derive(Clone, Copy, Debug)]
pub struct Openings {
    /// New processes (threads are always allowed, up to the task limit).
    pub processes: bool,
    /// Signals to others: right only inside a process namespace.
    pub signals: bool,
    /// Modes, times and extended attributes of files, which Landlock does not cover: right only among mounts of its own.
    pub attributes: bool,
}

/// The filters, in the order in which they are installed.
pub fn filters(openings: Openings) -> Result<Vec<BpfProgram>> {
    let eperm = SeccompAction::Errno(libc::EPERM as u32);
    let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillProcess);
    let killed = KILLED.iter().map(|&n| (n, vec![])).collect();
    let absent = [(libc::SYS_clone3, vec![])].into();
    Ok(vec![
        compile(killed, allow.clone(), kill)?,
        compile(absent, allow.clone(), SeccompAction::Errno(libc::ENOSYS as u32))?,
        compile(allowed(openings)?, eperm, allow)?, // last: it does not allow another filter
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, mismatch: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let arch =
        TargetArch::try_from(std::env::consts::ARCH).context(|| "no system call filter for this machine".into())?;
    let filter =
        SeccompFilter::new(rules, mismatch, matched, arch).context(|| "cannot build the system call filter".into())?;
    filter
        .try_into()
        .map_err(|e: seccompiler::BackendError| Error::work("cannot compile the system call filter").because(e))
}

fn allowed(openings: Openings) -> Result<Rules> {
    let mut rules: Rules = PLAIN.iter().chain(LEGACY).map(|&n| (n, vec![])).collect();
    let mut when = |call: i64, tests: &[&[(u8, seccompiler::SeccompCmpOp, u64)]]| -> Result<()> {
        let rule = |all: &&[(u8, seccompiler::SeccompCmpOp, u64)]| {
            let tests = all.iter().map(|(arg, op, value)| SeccompCondition::new(*arg, Dword, op.clone(), *value));
            SeccompRule::new(tests.collect::<Result<_, _>>()?)
        };
        let list: std::result::Result<Vec<_>, _> = tests.iter().map(rule).collect();
        rules.insert(call, list.context(|| "cannot build a system call rule".into())?);
        Ok(())
    };

    const THREAD: u64 = libc::CLONE_THREAD as u64;
    let namespaces = (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PTRACE) as u64;
    if openings.processes {
        when(libc::SYS_clone, &[&[(0, MaskedEq(namespaces), 0)]])?;
    } else {
        when(libc::SYS_clone, &[&[(0, MaskedEq(namespaces | THREAD), THREAD)]])?;
    }
    when(libc::SYS_prlimit64, &[&[(0, Eq, 0)]])?;
    when(libc::SYS_sched_setaffinity, &[&[(0, Eq, 0)]])?;
    let (unix, stream) = (libc::AF_UNIX as u64, libc::SOCK_STREAM as u64);
    when(libc::SYS_socketpair, &[&[(0, Eq, unix), (1, MaskedEq(0xf), stream)]])?;
    let prctl = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_CAPBSET_READ];
    let one_of = |arg: u8, values: &[u64]| values.iter().map(|&v| [(arg, Eq, v)]).collect::<Vec<_>>();
    let prctl = one_of(0, &prctl.map(|v| v as u64));
    when(libc::SYS_prctl, &prctl.iter().map(|t| t.as_slice()).collect::<Vec<_>>())?;
    let ioctl = [libc::TCGETS, libc::FIONREAD, libc::FIOCLEX, libc::FIONCLEX, libc::FIONBIO, libc::TIOCGWINSZ];
    let ioctl = one_of(1, &ioctl.map(|v| v as i64 as u64));
    when(libc::SYS_ioctl, &ioctl.iter().map(|t| t.as_slice()).collect::<Vec<_>>())?;
    // Owners and leases send signals; a larger pipe holds memory that no limit counts.
    const F_SETOWN_EX: u64 = 15;
    const F_SETSIG: u64 = 10;
    let barred = [
        libc::F_SETOWN as u64,
        F_SETOWN_EX,
        F_SETSIG,
        libc::F_SETLEASE as u64,
        libc::F_NOTIFY as u64,
        libc::F_SETPIPE_SZ as u64,
    ];
    when(libc::SYS_fcntl, &[&barred.map(|v| (1, Ne, v))])?;
    const WRITE_EXEC: u64 = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let not_both: [&[_]; 2] =
        [&[(2, MaskedEq(libc::PROT_WRITE as u64), 0)], &[(2, MaskedEq(libc::PROT_EXEC as u64), 0)]];
    when(libc::SYS_mmap, &not_both)?;
    when(libc::SYS_mprotect, &[&[(2, MaskedEq(WRITE_EXEC & !(libc::PROT_WRITE as u64)), 0)]])?;

    if openings.processes {
        rules.extend(FORKS.iter().map(|&n| (n, vec![])));
    }
    if openings.attributes {
        rules.extend(ATTRIBUTES.iter().map(|&n| (n, vec![])));
    }
    if openings.signals {
        rules.extend([libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill].map(|n| (n, vec![])));
    }
    Ok(rules)
}

/// The whole process dies.
pub(super) const KILLED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];

const ATTRIBUTES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// Calls that only the older table of x86-64 has.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_getdents,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_unlink,
    libc::SYS_symlink,
    libc::SYS_readlink,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_arch_prctl,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[i64] = &[];

/// Allowed whatever the arguments.
const PLAIN: &[i64] = &[
    // files (Landlock and the mount namespace say which)
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_splice,
    libc::SYS_tee,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // waiting and events
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_restart_syscall,
    // local stream pairs (asyncio wakes itself through one)
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // processes
    libc::SYS_clone3, // its own filter answers
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pidfd_open,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_getpriority,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_setrlimit,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    // signals within the process, clocks and timers
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_and_the_two_lists_are_apart() {
        for open in [true, false] {
            let all = filters(Openings { processes: open, signals: open, attributes: open }).unwrap();
            assert_eq!(all.len(), 3);
            assert!(all.iter().all(|program| program.len() > 3 && program.len() < 4096));
        }
        let rules = allowed(Openings { processes: true, signals: true, attributes: true }).unwrap();
        assert!(KILLED.iter().all(|call| !rules.contains_key(call)));
        for call in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_memfd_create,
            libc::SYS_execveat,
            libc::SYS_setuid,
            libc::SYS_shmget,
            libc::SYS_seccomp,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
