//! Where a symbol is, in a 64-bit ELF file ([`elf(5)`](https://man7.org/linux/man-pages/man5/elf.5.html)).

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where a symbol is.
pub(super) struct Symbol {
    /// Its address, counted from where the file is mapped unless it is absolute.
    pub(super) value: u64,
    /// Whether the file is a program that is always mapped at the same place.
    pub(super) is_absolute: bool,
}

const MOST: u64 = 64 << 20;
const SYMBOLS: u32 = 2;
const EXPORTED_SYMBOLS: u32 = 11;
const FIXED_PROGRAM: u16 = 2;
const LOADED: u32 = 1;

/// A symbol of a file; the exported ones first.
pub(super) fn symbol(path: &str, name: &str) -> Option<Symbol> {
    let file = File::open(path).ok()?;
    let read = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= MOST)?];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    };
    let header = read(0, 64)?;
    if header.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let sections_at = u64_at(&header, 40)?;
    let (size, count) = (u64::from(u16_at(&header, 58)?), u64::from(u16_at(&header, 60)?));
    let sections = read(sections_at, size * count)?;
    let section = |index: u64| sections.get((index * size) as usize..((index + 1) * size) as usize);
    let base = base(&header, &read)?;
    for wanted in [EXPORTED_SYMBOLS, SYMBOLS] {
        for index in 0..count {
            let table = section(index)?;
            if u32_at(table, 4)? != wanted {
                continue;
            }
            let strings = section(u64::from(u32_at(table, 40)?))?;
            let strings = read(u64_at(strings, 24)?, u64_at(strings, 32)?)?;
            let symbols = read(u64_at(table, 24)?, u64_at(table, 32)?)?;
            if let Some(value) = search(&symbols, &strings, name) {
                let is_absolute = u16_at(&header, 16)? == FIXED_PROGRAM;
                return Some(Symbol { value: if is_absolute { value } else { value.checked_sub(base)? }, is_absolute });
            }
        }
    }
    None
}

/// The address that the file's beginning is meant for.
fn base(header: &[u8], read: &impl Fn(u64, u64) -> Option<Vec<u8>>) -> Option<u64> {
    let (at, size, count) = (u64_at(header, 32)?, u64::from(u16_at(header, 54)?), u64::from(u16_at(header, 56)?));
    let segments = read(at, size * count)?;
    let first = segments.chunks_exact((size as usize).max(1)).find(|it| u32_at(it, 0) == Some(LOADED))?;
    u64_at(first, 16)?.checked_sub(u64_at(first, 8)?)
}

fn search(symbols: &[u8], strings: &[u8], name: &str) -> Option<u64> {
    symbols.chunks_exact(24).find_map(|symbol| {
        let found = strings.get(u32_at(symbol, 0)? as usize..)?;
        let is_it = found.starts_with(name.as_bytes()) && found.get(name.len()) == Some(&0);
        u64_at(symbol, 8).filter(|value| is_it && *value != 0)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_main() {
        let found = symbol("/proc/self/exe", "main").unwrap();
        assert!(found.value > 0);
        assert!(symbol("/proc/self/exe", "no such symbol").is_none());
    }

    #[test]
    fn what_is_no_program_or_is_damaged_has_no_symbols() {
        assert!(symbol("/proc/self/cmdline", "main").is_none());
        assert!(symbol("/no/such/file", "main").is_none());
        let path = std::env::temp_dir().join(format!("forkless-elf-{}", std::process::id()));
        let mut program = std::fs::read("/proc/self/exe").unwrap();
        program.truncate(4096);
        // Each byte of the header, with nothing and with too much in it.
        for (at, value) in (0..64).flat_map(|at| [(at, 0), (at, 0xff)]) {
            let mut damaged = program.clone();
            damaged[at] = value;
            std::fs::write(&path, damaged).unwrap();
            assert!(symbol(path.to_str().unwrap(), "main").is_none());
        }
        std::fs::remove_file(path).unwrap();
    }
}
