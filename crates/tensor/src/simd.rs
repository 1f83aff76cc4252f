//! The SIMD level, found at run time: `scalar`, `avx2` or `avx512`. `POSTGRAD_SIMD` forces a lower one.
//!
//! A kernel is written once as plain loops in an `#[inline(always)]` closure or function; [`vectorize`] compiles it for each
//! level and calls the one in force. Products use the microkernels of the same level.

use std::cell::Cell;
use std::sync::OnceLock;

use pulp::NullaryFnOnce;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Scalar,
    Avx2,
    Avx512,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().find(|l| l.name() == name)
    }
}

/// Levels this machine can run, lowest first.
pub fn available() -> Vec<Level> {
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V3::try_new().is_some() {
            levels.push(Level::Avx2);
        }
        if pulp::x86::V4::try_new().is_some() {
            levels.push(Level::Avx512);
        }
    }
    levels
}

static LEVEL: OnceLock<Level> = OnceLock::new();
thread_local!(static FORCED: Cell<Option<Level>> = const { Cell::new(None) });

/// The level in force. An unknown or unavailable `POSTGRAD_SIMD` panics with the available ones; the command line checks it
/// first.
pub fn level() -> Level {
    if let Some(level) = FORCED.get() {
        return level;
    }
    *LEVEL.get_or_init(|| check_env().unwrap_or_else(|e| panic!("{e}")))
}

/// The level that `POSTGRAD_SIMD` asks for, or the best one.
pub fn check_env() -> Result<Level, String> {
    let have = available();
    let best = *have.last().expect("scalar is always there");
    let Ok(want) = std::env::var("POSTGRAD_SIMD") else { return Ok(best) };
    let names = have.iter().map(|l| l.name()).collect::<Vec<_>>().join(", ");
    match Level::parse(&want) {
        Some(level) if have.contains(&level) => Ok(level),
        Some(_) => Err(format!("POSTGRAD_SIMD={want}: this machine has only {names}")),
        None => Err(format!("POSTGRAD_SIMD={want} is no level; this machine has {names}")),
    }
}

/// Runs `f` with a level forced on this thread and on the workers of the products and loops it starts. For tests.
pub fn with_level<T>(level: Level, f: impl FnOnce() -> T) -> T {
    assert!(available().contains(&level), "{} is not available here", level.name());
    let before = FORCED.replace(Some(level));
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(before);
    f()
}

/// Carries a forced level to a worker thread.
#[inline(always)]
pub(crate) fn with_thread_level<T>(level: Level, f: impl FnOnce() -> T) -> T {
    if self::level() == level { f() } else { with_level(level, f) }
}

/// Calls `f` compiled for `level`. `f` must inline for this to help.
#[inline(always)]
pub fn vectorize_at<R>(level: Level, f: impl FnOnce() -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnOnce() -> R> NullaryFnOnce for Call<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `level` came from `available`, which checked the features.
    unsafe {
        match level {
            Level::Avx512 => return pulp::x86::V4::new_unchecked().vectorize(Call(f)),
            Level::Avx2 => return pulp::x86::V3::new_unchecked().vectorize(Call(f)),
            Level::Scalar => {}
        }
    }
    let _ = level;
    Call(f).call()
}

/// [`vectorize_at`] the level in force.
#[inline(always)]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    vectorize_at(level(), f)
}
