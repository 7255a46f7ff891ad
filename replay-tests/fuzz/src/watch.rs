//! Who watches while an input is taken: how much memory it takes, and how long. Either without bound ends the process, after the
//! input was written to a file: neither can be caught from inside.

use std::alloc::{GlobalAlloc, Layout};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Memory beyond what was there before, while one input is taken. Inputs are at most 64 KiB; a block of an archive may unpack to 64 MiB.
pub const MEMORY_MAX: usize = 512 << 20;
/// How long an input may take.
pub const TIME_MAX: Duration = Duration::from_secs(20);

static LIVE: AtomicUsize = AtomicUsize::new(0);
/// What may be live; none while nothing is taken.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// The input that is being taken.
struct Taken {
    input: Vec<u8>,
    since: Instant,
    /// Where it is written when it does not end well, and what is done then.
    file: PathBuf,
    last: fn(&str),
}

/// mimalloc, counting what is live.
pub struct Counting;

#[expect(unsafe_code, reason = "an allocator has no other form; every call goes on to mimalloc as it came")]
// SAFETY: each method is that of mimalloc with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.realloc(memory, layout, size) }
    }
}

fn grown(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed).saturating_add(size);
    if live > LIMIT.load(Ordering::Relaxed) {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        give_up(&format!("an input takes more than {} MiB of memory", MEMORY_MAX >> 20));
    }
}

/// Takes an input under watch. Should it not end well, it is written to `file`, `last` is called with what happened, and the process
/// ends.
pub fn watched<T>(input: &[u8], file: &std::path::Path, last: fn(&str), take: impl FnOnce() -> T) -> T {
    let taken = Taken { input: input.to_vec(), since: Instant::now(), file: file.to_owned(), last };
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    LIMIT.store(LIVE.load(Ordering::Relaxed).saturating_add(MEMORY_MAX), Ordering::Relaxed);
    let came = take();
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    came
}

/// Begins to look at how long inputs take.
pub fn begin() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let since = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|taken| taken.since);
            if since.is_some_and(|since| since.elapsed() > TIME_MAX) {
                give_up(&format!("an input takes longer than {} s", TIME_MAX.as_secs()));
            }
        }
    });
}

fn give_up(what: &str) {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Taken { input, file, last, .. }) = taken {
        let kept =
            std::fs::write(&file, input).map_or_else(|error| format!(" (not kept: {error})"), |()| String::new());
        last(&format!("{what}{kept}"));
        std::process::exit(1);
    }
}
