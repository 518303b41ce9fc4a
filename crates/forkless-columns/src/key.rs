//! Keys of dictionaries in a form in which equal ones have the same bytes, whatever they are made of.
//!
//! As in Python, numbers are equal by their value: `1`, `1.0` and `True` are the same key.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Column, Error, Item, Kind, Look};

/// A key in its canonical form: a letter for what it is, then what it says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// An empty one, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it that of this value. `false` if such a value cannot be a key.
    pub fn set<'a, I: Item<'a>>(&mut self, item: I) -> bool {
        self.0.clear();
        self.add(item)
    }

    fn add<'a, I: Item<'a>>(&mut self, item: I) -> bool {
        match item.look() {
            Look::Nothing => self.0.push(b'n'),
            Look::Truth(truth) => self.add_int(i64::from(truth)),
            Look::Int(number) => self.add_int(number),
            Look::Float(number) => self.add_float(number),
            Look::Text(length) => self.fill(b't', length, |into| item.write(into)),
            Look::Bytes(length) => self.fill(b'b', length, |into| item.write(into)),
            Look::Big(length) => {
                let mut bytes = vec![0; length];
                item.write(&mut bytes);
                self.add_big(bytes);
            }
            Look::Tuple => {
                let items = item.items();
                self.add_length(b'(', items.len());
                return items.iter().all(|item| self.add(*item));
            }
            Look::Missing | Look::List | Look::Map | Look::Other => return false,
        }
        true
    }

    /// Makes it that of an item of a column.
    pub(crate) fn set_from(&mut self, column: Column<'_>, index: usize) -> Result<(), Error> {
        self.0.clear();
        self.add_from(column, index)
    }

    fn add_from(&mut self, column: Column<'_>, index: usize) -> Result<(), Error> {
        match column.kind() {
            Kind::Nothing => self.0.push(b'n'),
            Kind::Truth => self.add_int(i64::from(column.truth(index)?)),
            Kind::Int => self.add_int(column.int(index)?),
            Kind::Float => self.add_float(column.float(index)?),
            Kind::Text => self.add_bytes(b't', column.text(index)?),
            Kind::Bytes => self.add_bytes(b'b', column.text(index)?),
            Kind::Big => self.add_big(column.text(index)?.to_vec()),
            Kind::Sequence => {
                let (items, range) = (column.child(0)?, column.range(index)?);
                self.add_length(b'(', range.len());
                return range.into_iter().try_for_each(|place| self.add_from(items, place));
            }
            Kind::Tuple => {
                self.add_length(b'(', column.children());
                return (0..column.children()).try_for_each(|child| self.add_from(column.child(child)?, index));
            }
            Kind::Union => {
                let (member, place) = column.member(index)?;
                // Not a union again, so this ends.
                return self.add_from(member, place);
            }
            Kind::Missing | Kind::List | Kind::Record | Kind::Map => return Err(Error::Damaged("a key")),
        }
        Ok(())
    }

    fn add_int(&mut self, number: i64) {
        self.add_bytes(b'i', &number.to_le_bytes());
    }

    fn add_float(&mut self, number: f64) {
        // From 2**63 on every float is whole, and so it is as a big integer that it may be equal to another key.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        if number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number) {
            self.add_int(number as i64);
        } else if number.is_finite() && number.abs() >= BEYOND {
            self.add_big(whole(number));
        } else {
            self.add_bytes(b'f', &number.to_bits().to_le_bytes());
        }
    }

    fn add_big(&mut self, mut bytes: Vec<u8>) {
        shorten(&mut bytes);
        self.add_bytes(b'i', &bytes);
    }

    fn add_bytes(&mut self, letter: u8, bytes: &[u8]) {
        self.fill(letter, bytes.len(), |into| into.copy_from_slice(bytes));
    }

    fn fill(&mut self, letter: u8, length: usize, write: impl FnOnce(&mut [u8])) {
        self.add_length(letter, length);
        let begin = self.0.len();
        self.0.resize(begin + length, 0);
        write(&mut self.0[begin..]);
    }

    fn add_length(&mut self, letter: u8, length: usize) {
        self.0.push(letter);
        self.0.extend_from_slice(&(length as u64).to_le_bytes());
    }

    /// Where to begin looking for it in a table, as the key of one of many maps.
    pub(crate) fn hash(&self, map: usize) -> u64 {
        xxh3_64_with_seed(&self.0, map as u64)
    }
}

/// A float of 2**63 or more as a big integer in two's complement.
fn whole(number: f64) -> Vec<u8> {
    const MANTISSA: u32 = 52;
    let bits = number.abs().to_bits();
    let shift = (bits >> MANTISSA) as usize - 1023 - MANTISSA as usize;
    let mantissa = u128::from(bits & ((1 << MANTISSA) - 1) | 1 << MANTISSA) << (shift % 8);
    let mut bytes = vec![0; shift / 8];
    bytes.extend_from_slice(&mantissa.to_le_bytes());
    if number < 0.0 {
        let mut carry = true;
        for byte in &mut bytes {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over);
        }
    }
    bytes
}

/// Drops what only repeats the sign.
fn shorten(bytes: &mut Vec<u8>) {
    while let [.., before, last] = bytes[..] {
        let sign = if before & 0x80 == 0 { 0 } else { 0xff };
        if last != sign {
            break;
        }
        bytes.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn key(value: &Value) -> Key {
        let mut key = Key::new();
        assert!(key.set(Some(value)), "{value:?}");
        key
    }

    #[test]
    fn numbers_are_equal_by_their_value() {
        let one = key(&Value::Int(1));
        assert_eq!(key(&Value::Float(1.0)), one);
        assert_eq!(key(&Value::Truth(true)), one);
        assert_ne!(key(&Value::Float(1.5)), one);
        assert_ne!(key(&Value::Text("1".into())), one);
        assert_eq!(key(&Value::Float(-0.0)), key(&Value::Int(0)));
    }

    #[test]
    fn large_floats_are_integers() {
        // 2**63 takes nine bytes, of which the last is for the sign; -2**63 fits 64 bits.
        let big = |bytes: &[u8]| Value::Big(bytes.to_vec());
        assert_eq!(key(&Value::Float(2f64.powi(63))), key(&big(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0])));
        assert_eq!(key(&Value::Float(-(2f64.powi(63)))), key(&Value::Int(i64::MIN)));
        assert_eq!(key(&Value::Float(-(2f64.powi(71)))), key(&big(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80])));
        let mut expected = vec![0; 12];
        expected.extend([0x10]); // 2**100
        assert_eq!(key(&Value::Float(2f64.powi(100))), key(&Value::Big(expected)));
    }

    #[test]
    fn tuples_do_not_run_together() {
        let text = |text: &str| Value::Text(text.into());
        let pair = |one: &str, two: &str| key(&Value::Tuple(vec![text(one), text(two)]));
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
        assert!(!Key::new().set(Some(&Value::List(vec![]))));
        assert!(!Key::new().set(Some(&Value::Tuple(vec![Value::List(vec![])]))));
    }
}
