//! What columns values become, and how large they are, before anything is written.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::read::Kind;
use crate::write::{self, HEAD, NODE};
use crate::{Item, Key, Look};

/// More nesting than this is not data.
const DEEPEST: usize = 64;
/// Maps with more different keys than this are no records: their names are looked through one by one.
const MOST_NAMES: usize = 1024;
/// A record has at least one of so many of the names in its column; otherwise these are maps.
const SPARSEST: usize = 4;

/// Why values cannot become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is something that columns do not hold.
    #[error("there is something that is no plain value")]
    Other,
    /// A key of a map is a list, or has one in it.
    #[error("a key of a map is no plain value that cannot change")]
    Key,
    /// A container is somewhere within itself.
    #[error("it contains itself")]
    ContainsItself,
    /// It has lists in lists in lists, 64 times.
    #[error("it is nested more than 64 deep")]
    TooDeep,
    /// A column of different kinds, or of maps, has 2**32 items.
    #[error("it has more than 4294967295 items of different kinds")]
    TooMany,
}

/// Columns that are to be written.
#[derive(Debug)]
pub struct Plan<'a, I: Clone> {
    pub(crate) count: usize,
    pub(crate) shape: Shape<'a, I>,
}

#[derive(Debug)]
pub(crate) enum Shape<'a, I: Clone> {
    /// Nothing or missing, all of them.
    Void(Kind),
    /// Items of some bytes each.
    Fixed(Kind, Cow<'a, [I]>),
    /// Items of any length, and the bytes of all.
    Heap(Kind, Cow<'a, [I]>, usize),
    /// Lists or sequences.
    Lists { kind: Kind, ends: Vec<u64>, items: Box<Plan<'a, I>> },
    /// Tuples of the same length.
    Tuples(Vec<Plan<'a, I>>),
    /// The names, then the columns.
    Records(Vec<Plan<'a, I>>),
    /// The keys and the values.
    Maps { ends: Vec<u64>, table: Vec<u32>, columns: Vec<Plan<'a, I>> },
    /// Which member, and where in it.
    Union { tags: Vec<u8>, places: Vec<u32>, members: Vec<Plan<'a, I>> },
}

impl<'a, I: Item<'a>> Plan<'a, I> {
    /// Columns for these items.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn of(items: impl Into<Cow<'a, [I]>>) -> Result<Self, Refusal> {
        let items = items.into();
        if items.iter().any(|item| is_container(*item)) {
            let mut within = HashSet::new();
            items.iter().try_for_each(|item| check_nesting(*item, &mut within))?;
        }
        column(items)
    }

    /// Bytes of the block.
    #[must_use]
    pub fn size(&self) -> usize {
        HEAD + NODE + self.shape.size(self.count)
    }

    /// Writes the block: calls `sink` with each place and the bytes that belong there. What it leaves
    /// out is never read.
    pub fn write(&self, sink: &mut dyn FnMut(usize, &[u8])) {
        write::block(self, sink);
    }
}

impl<'a, I: Item<'a>> Shape<'a, I> {
    /// Bytes of what belongs to a node of so many items.
    fn size(&self, count: usize) -> usize {
        let array = |size: usize| size.next_multiple_of(write::ALIGNMENT);
        let nodes = |plans: &[Plan<'a, I>]| plans.iter().map(|plan| NODE + plan.shape.size(plan.count)).sum::<usize>();
        match self {
            Self::Void(_) => array(count),
            Self::Fixed(kind, _) => array(count * kind.width()),
            Self::Heap(_, _, bytes) => array(8 * (count + 1)) + array(*bytes),
            Self::Lists { items, .. } => array(8 * (count + 1)) + nodes(std::slice::from_ref(items)),
            Self::Tuples(columns) | Self::Records(columns) => nodes(columns),
            Self::Maps { table, columns, .. } => array(8 * (count + 1)) + array(4 * table.len()) + nodes(columns),
            Self::Union { members, .. } => array(count) + array(4 * count) + nodes(members),
        }
    }
}

fn is_container<'a, I: Item<'a>>(item: I) -> bool {
    matches!(item.look(), Look::List | Look::Tuple | Look::Map)
}

/// Whether anything contains itself, or is nested too deep.
fn check_nesting<'a, I: Item<'a>>(item: I, within: &mut HashSet<usize>) -> Result<(), Refusal> {
    if !is_container(item) {
        return Ok(());
    }
    if within.len() == DEEPEST {
        return Err(Refusal::TooDeep);
    }
    if !within.insert(item.identity()) {
        return Err(Refusal::ContainsItself);
    }
    let mut outcome = Ok(());
    if item.look() == Look::Map {
        item.entries(&mut |_, value| {
            if outcome.is_ok() {
                outcome = check_nesting(value, within);
            }
        });
    } else {
        outcome = item.items().iter().try_for_each(|item| check_nesting(*item, within));
    }
    within.remove(&item.identity());
    outcome
}

/// The kind of column that an item goes to; for tuples, `Sequence`.
fn kind_of(look: Look) -> Option<Kind> {
    Some(match look {
        Look::Nothing => Kind::Nothing,
        Look::Missing => Kind::Missing,
        Look::Truth(_) => Kind::Truth,
        Look::Int(_) => Kind::Int,
        Look::Big(_) => Kind::Big,
        Look::Float(_) => Kind::Float,
        Look::Text(_) => Kind::Text,
        Look::Bytes(_) => Kind::Bytes,
        Look::List => Kind::List,
        Look::Tuple => Kind::Sequence,
        Look::Map => Kind::Map,
        Look::Other => return None,
    })
}

fn column<'a, I: Item<'a>>(items: Cow<'a, [I]>) -> Result<Plan<'a, I>, Refusal> {
    let mut kinds = 0_u32;
    for item in items.iter() {
        kinds |= 1 << kind_of(item.look()).ok_or(Refusal::Other)? as u32;
    }
    let count = items.len();
    let shape = match kinds.count_ones() {
        0 => Shape::Void(Kind::Nothing),
        1 => uniform(Kind::from_number(u64::from(kinds.trailing_zeros())).ok_or(Refusal::Other)?, items)?,
        _ => union(kinds, &items)?,
    };
    Ok(Plan { count, shape })
}

/// A column of items of one kind.
fn uniform<'a, I: Item<'a>>(kind: Kind, items: Cow<'a, [I]>) -> Result<Shape<'a, I>, Refusal> {
    Ok(match kind {
        Kind::Nothing | Kind::Missing => Shape::Void(kind),
        Kind::Truth | Kind::Int | Kind::Float => Shape::Fixed(kind, items),
        Kind::Text | Kind::Bytes | Kind::Big => {
            let bytes = items.iter().map(|item| length(*item)).sum();
            Shape::Heap(kind, items, bytes)
        }
        Kind::Sequence => sequences(&items)?,
        Kind::Map => maps(&items)?,
        _ => lists(kind, &items)?,
    })
}

/// Bytes of text and the like.
pub(crate) fn length<'a, I: Item<'a>>(item: I) -> usize {
    match item.look() {
        Look::Text(length) | Look::Bytes(length) | Look::Big(length) => length,
        _ => 0,
    }
}

fn lists<'a, I: Item<'a>>(kind: Kind, lists: &[I]) -> Result<Shape<'a, I>, Refusal> {
    let (mut ends, mut all) = (Vec::with_capacity(lists.len() + 1), Vec::new());
    ends.push(0);
    for list in lists {
        all.extend_from_slice(&list.items());
        ends.push(all.len() as u64);
    }
    Ok(Shape::Lists { kind, ends, items: Box::new(column(all.into())?) })
}

/// Tuples: a column for each place, if they are all of one length.
fn sequences<'a, I: Item<'a>>(tuples: &[I]) -> Result<Shape<'a, I>, Refusal> {
    let mut rows = tuples.iter().map(|tuple| tuple.items());
    let width = rows.next().map_or(0, |first| first.len());
    if width == 0 || width > MOST_NAMES || rows.any(|row| row.len() != width) {
        return lists(Kind::Sequence, tuples);
    }
    let columns = (0..width).map(|place| column(tuples.iter().map(|tuple| tuple.items()[place]).collect()));
    Ok(Shape::Tuples(columns.collect::<Result<_, _>>()?))
}

/// Maps: records, if their keys are text and much the same in all of them.
fn maps<'a, I: Item<'a>>(maps: &[I]) -> Result<Shape<'a, I>, Refusal> {
    match names(maps) {
        Some(names) => records(maps, names),
        None => general_maps(maps),
    }
}

/// The names of records, each with its place; None if they are none.
struct Names<I> {
    keys: Vec<I>,
    places: HashMap<Vec<u8>, usize>,
    /// Places by the identity of keys: the same few objects are the keys of many rows.
    known: HashMap<usize, usize>,
}

impl<'a, I: Item<'a>> Names<I> {
    fn place(&mut self, key: I) -> Option<usize> {
        if let Some(place) = self.known.get(&key.identity()) {
            return Some(*place);
        }
        let Look::Text(length) = key.look() else { return None };
        let mut text = vec![0; length];
        key.write(&mut text);
        let next = self.keys.len();
        let place = *self.places.entry(text).or_insert(next);
        if place == next {
            if next == MOST_NAMES {
                return None;
            }
            self.keys.push(key);
        }
        // Not without end: in the worst case each row has text of its own.
        if self.known.len() < MOST_NAMES {
            self.known.insert(key.identity(), place);
        }
        Some(place)
    }
}

fn names<'a, I: Item<'a>>(maps: &[I]) -> Option<Names<I>> {
    let mut names = Names { keys: Vec::new(), places: HashMap::new(), known: HashMap::new() };
    let (mut parts, mut text_only) = (0, true);
    for map in maps {
        map.entries(&mut |key, _| {
            parts += 1;
            text_only = text_only && names.place(key).is_some();
        });
        if !text_only {
            return None;
        }
    }
    (parts > 0 && parts * SPARSEST >= names.keys.len() * maps.len()).then_some(names)
}

fn records<'a, I: Item<'a>>(maps: &[I], mut names: Names<I>) -> Result<Shape<'a, I>, Refusal> {
    let mut parts = vec![Vec::with_capacity(maps.len()); names.keys.len()];
    for (row, map) in maps.iter().enumerate() {
        map.entries(&mut |key, value| {
            if let Some(place) = names.place(key) {
                parts[place].resize(row, I::MISSING);
                parts[place].push(value);
            }
        });
    }
    let mut columns = vec![column(names.keys.into())?];
    for mut part in parts {
        part.resize(maps.len(), I::MISSING);
        columns.push(column(part.into())?);
    }
    Ok(Shape::Records(columns))
}

fn general_maps<'a, I: Item<'a>>(maps: &[I]) -> Result<Shape<'a, I>, Refusal> {
    let (mut keys, mut values, mut ends) = (Vec::new(), Vec::new(), vec![0]);
    for map in maps {
        map.entries(&mut |key, value| {
            keys.push(key);
            values.push(value);
        });
        ends.push(keys.len() as u64);
    }
    let table = table(&keys, &ends)?;
    Ok(Shape::Maps { ends, table, columns: vec![column(keys.into())?, column(values.into())?] })
}

/// A hash table of the keys of all maps, at most half full: the place of each key, plus one.
fn table<'a, I: Item<'a>>(keys: &[I], ends: &[u64]) -> Result<Vec<u32>, Refusal> {
    if u32::try_from(keys.len() + 1).is_err() {
        return Err(Refusal::TooMany);
    }
    let mut table = vec![0; (2 * keys.len()).next_power_of_two()];
    let mask = table.len() - 1;
    let (mut key, mut map) = (Key::new(), 0);
    for (place, item) in keys.iter().enumerate() {
        while ends[map + 1] <= place as u64 {
            map += 1;
        }
        if !key.set(*item) {
            return Err(Refusal::Key);
        }
        let mut slot = key.hash(map) as usize & mask;
        while table[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        table[slot] = place as u32 + 1;
    }
    Ok(table)
}

/// A column of items of several kinds: a member for each kind.
fn union<'a, I: Item<'a>>(kinds: u32, items: &[I]) -> Result<Shape<'a, I>, Refusal> {
    if u32::try_from(items.len()).is_err() {
        return Err(Refusal::TooMany);
    }
    let mut members: Vec<Vec<I>> = vec![Vec::new(); kinds.count_ones() as usize];
    let (mut tags, mut places) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for item in items {
        let kind = kind_of(item.look()).ok_or(Refusal::Other)? as u32;
        // Members are in the order of their kinds.
        let tag = (kinds & ((1 << kind) - 1)).count_ones();
        let member = &mut members[tag as usize];
        tags.push(tag as u8);
        places.push(member.len() as u32);
        member.push(*item);
    }
    let members = members.into_iter().map(|member| column(member.into())).collect::<Result<_, _>>()?;
    Ok(Shape::Union { tags, places, members })
}
