//! The C library's heap.
//!
//! glibc keeps what was freed for the next allocation, and gives back to the system only what lies at the end of a heap. After
//! very many small pieces that is next to nothing, as one that is in use keeps all before it.
#![allow(unsafe_code)]

/// Gives back to the system what was freed, wherever it lies; it takes milliseconds where that is much.
///
/// Source: [`malloc_trim(3)`](https://man7.org/linux/man-pages/man3/malloc_trim.3.html). Other C libraries have nothing like it,
/// and this does nothing there.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and locks of its own; any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_use_stays() {
        let pieces: Vec<Vec<usize>> = (0..10_000).map(|number| vec![number; 20]).collect();
        let kept: Vec<_> = pieces.into_iter().filter(|piece| piece[0] % 100 == 0).collect();
        super::trim();
        assert!(kept.iter().enumerate().all(|(index, piece)| *piece == [100 * index; 20]));
    }
}
