//! Facts about this machine, read from /proc and by short measurements.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use postgrad_tensor::gemm::{Mat, product};
use postgrad_tensor::par;

fn proc_field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_string())
    })
}

fn kilobytes(text: &str) -> Option<u64> {
    Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The processor's name.
pub fn cpu_model() -> String {
    proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Bytes of memory: all, and what can be had now. A control group's limit counts where it is lower.
pub fn memory() -> (u64, u64) {
    let field = |key| proc_field("/proc/meminfo", key).as_deref().and_then(kilobytes).unwrap_or(0);
    let (total, free) = (field("MemTotal"), field("MemAvailable"));
    let group = |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<u64>().ok();
    match group("memory.max") {
        Some(limit) if limit < total => (limit, free.min(limit.saturating_sub(group("memory.current").unwrap_or(0)))),
        _ => (total, free),
    }
}

/// The largest resident memory of this process so far, bytes.
pub fn peak_memory() -> u64 {
    proc_field("/proc/self/status", "VmHWM").as_deref().and_then(kilobytes).unwrap_or(0)
}

/// Lets [`peak_memory`] begin again from what is resident now. Where the system refuses, it stays the peak of the process.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Bytes free on the file system of a path, or of its nearest parent that exists.
pub fn disk_free(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|p| p.exists())?;
    let name = CString::new(there.as_os_str().as_bytes()).ok()?;
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills `found` or fails.
    let ok = unsafe { libc::statvfs(name.as_ptr(), &raw mut found) } == 0;
    #[allow(clippy::unnecessary_cast)] // the fields' width differs by platform
    ok.then(|| found.f_bavail as u64 * found.f_frsize as u64)
}

/// Bytes per second of `a[i] = b[i] + s * c[i]` over arrays larger than any cache (three moved per element), the best of
/// a few rounds.
pub fn bandwidth(budget: Duration) -> f64 {
    const N: usize = 8 << 20;
    let (b, c) = (vec![1.0f32; N], vec![2.0f32; N]);
    let mut a = vec![0.0f32; N];
    let mut round = || {
        let started = Instant::now();
        par::rows_mut_of(&mut a, 1 << 18, |at, part| {
            let (b, c) = (&b[at..at + part.len()], &c[at..at + part.len()]);
            postgrad_tensor::simd::vectorize(
                #[inline(always)]
                || part.iter_mut().zip(b.iter().zip(c)).for_each(|(a, (b, c))| *a = b + 0.5 * c),
            );
        });
        (N * 3 * 4) as f64 / started.elapsed().as_secs_f64()
    };
    round();
    best(budget, round)
}

/// Floating-point operations per second of a product of two 768 x 768 matrices, the best of a few rounds.
pub fn product_speed(budget: Duration) -> f64 {
    const N: usize = 768;
    let (a, b) = (vec![0.5f32; N * N], vec![0.25f32; N * N]);
    let mut c = vec![0.0f32; N * N];
    let mut round = || {
        let started = Instant::now();
        product((N, N, N), &mut c, N, false, Mat::rows(&a, N), Mat::cols(&b, N), 1.0);
        2.0 * (N as f64).powi(3) / started.elapsed().as_secs_f64()
    };
    round();
    best(budget, round)
}

fn best(budget: Duration, mut round: impl FnMut() -> f64) -> f64 {
    let started = Instant::now();
    let mut best = round();
    while started.elapsed() < budget {
        best = best.max(round());
    }
    best
}
