//! Descriptors and pipes between the host and a guest.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use postgrad_base::{Context, Result};

use super::root::{call, errno};

pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel fills the pair, which we then own.
    unsafe {
        call(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))
            .map_err(std::io::Error::from_raw_os_error)
            .context(|| "cannot make a pipe".into())?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

pub fn high(fd: &impl AsRawFd) -> Result<OwnedFd> {
    // SAFETY: a copy that we then own.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16);
        call(copy).map_err(std::io::Error::from_raw_os_error).context(|| "cannot copy a descriptor".into())?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

pub fn nonblocking(fd: &impl AsRawFd) -> Result<()> {
    // SAFETY: flags of a descriptor that we hold.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    call(answer).map_err(std::io::Error::from_raw_os_error).context(|| "cannot set up a pipe".into())
}

pub fn poll_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// How many descriptors are ready; 0 after the time is up or a signal.
pub fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> Result<usize> {
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
pub fn read_some(fd: &OwnedFd, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 65536];
    // SAFETY: reads at most the buffer's length.
    let n = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if n > 0 {
        into.extend_from_slice(&buffer[..n as usize]);
    }
    n > 0 || (n < 0 && matches!(errno(), libc::EAGAIN | libc::EINTR))
}

/// None when the other end is closed (Rust programs ignore SIGPIPE).
pub fn write_some(fd: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    // SAFETY: writes at most the slice.
    let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if n >= 0 { Some(n as usize) } else { matches!(errno(), libc::EAGAIN | libc::EINTR).then_some(0) }
}
