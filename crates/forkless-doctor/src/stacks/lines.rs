//! Which line an instruction belongs to, by the tables that the compiler leaves in code.

/// The line at an offset, in bytes, by the table of 3.10: pairs of how many bytes, and how many lines further; -128 for
/// bytes without a line (`Objects/lnotab_notes.txt`).
pub(super) fn pairs(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    let (mut line, mut end) = (first_line, 0);
    for pair in table.chunks_exact(2) {
        let (bytes, step) = (u64::from(pair[0]), i64::from(pair[1].cast_signed()));
        let has_line = step != -128;
        if has_line {
            line += step;
        }
        end += bytes;
        if offset < end {
            return has_line.then_some(line);
        }
    }
    None
}

/// The line at an offset, in bytes, by the table of 3.11 and later (`Objects/locations.md`): entries of a code, how many
/// instructions, and numbers that depend on the code.
pub(super) fn locations(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    let (mut line, mut end) = (first_line, 0);
    let mut rest = table.iter().copied().peekable();
    while let Some(head) = rest.next() {
        let (code, units) = (head >> 3 & 15, u64::from(head & 7) + 1);
        let step = match code {
            13 | 14 => signed(variable(&mut rest)),
            11 | 12 => i64::from(code) - 10,
            _ => 0,
        };
        line += step;
        // The rest of the entry is about columns: only the first byte of an entry has its highest bit set.
        while rest.next_if(|byte| byte & 0x80 == 0).is_some() {}
        end += 2 * units;
        if offset < end {
            return (code != 15).then_some(line);
        }
    }
    None
}

/// Six bits in each byte, the lowest first; the seventh says that there are more.
fn variable(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let (mut value, mut shift) = (0, 0);
    for byte in bytes {
        value |= u64::from(byte & 63) << shift;
        shift += 6;
        if byte & 64 == 0 || shift > 57 {
            break;
        }
    }
    value
}

/// The sign is in the lowest bit.
fn signed(value: u64) -> i64 {
    let magnitude = (value >> 1).cast_signed();
    if value & 1 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_step_from_line_to_line() {
        let table = [4, 1, 2, 0x80, 6, 2];
        assert_eq!(pairs(&table, 10, 0), Some(11));
        assert_eq!(pairs(&table, 10, 4), None, "no line");
        assert_eq!(pairs(&table, 10, 6), Some(13));
        assert_eq!(pairs(&table, 10, 12), None, "past the end");
    }

    #[test]
    fn locations_step_from_line_to_line() {
        // One line on (11), two units, two columns; short form (0), one unit; none (15); no columns (13), minus one.
        let table = [0x80 | 11 << 3 | 1, 3, 9, 0x80, 5, 0x80 | 15 << 3, 0x80 | 13 << 3, 3];
        assert_eq!(locations(&table, 10, 0), Some(11));
        assert_eq!(locations(&table, 10, 2), Some(11));
        assert_eq!(locations(&table, 10, 4), Some(11));
        assert_eq!(locations(&table, 10, 6), None, "no line");
        assert_eq!(locations(&table, 10, 8), Some(10));
        assert_eq!(locations(&table, 10, 10), None, "past the end");
    }
}
