//! What is written is what is read, whatever it is; and a damaged block is an error.

use forkless_columns::{Column, Error, Key, Kind, Plan, Refusal, Value, encode};
use forkless_testing::fuzz;
use proptest::prelude::*;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn ints(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::List(numbers.into_iter().map(Value::Int).collect())
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(name, value)| (text(name), value.clone())).collect())
}

/// The kinds of the columns that a list becomes, the first one's and those below it.
fn kinds(value: &Value) -> Vec<Kind> {
    let block = encode(value).expect("it is plain");
    let root = Column::root(&block).expect("it is whole");
    let mut kinds = vec![root.kind()];
    kinds.extend((0..root.children()).map(|child| root.child(child).expect("it is whole").kind()));
    kinds
}

#[test]
fn columns_are_as_plain_as_their_items() {
    assert_eq!(kinds(&ints([1, -2, i64::MAX])), [Kind::Int]);
    assert_eq!(kinds(&Value::List(vec![])), [Kind::Nothing]);
    assert_eq!(kinds(&Value::List(vec![ints([1]), ints([])])), [Kind::List, Kind::Int]);
    let mixed = Value::List(vec![Value::Float(1.0), Value::Int(1), Value::Nothing]);
    assert_eq!(kinds(&mixed), [Kind::Union, Kind::Nothing, Kind::Int, Kind::Float]);
}

#[test]
fn tuples_of_one_length_are_rows() {
    let pair = |number, name: &str| Value::Tuple(vec![Value::Int(number), text(name)]);
    assert_eq!(kinds(&Value::List(vec![pair(1, "a"), pair(2, "b")])), [Kind::Tuple, Kind::Int, Kind::Text]);
    let uneven = Value::List(vec![pair(1, "a"), Value::Tuple(vec![Value::Int(1)])]);
    assert_eq!(kinds(&uneven), [Kind::Sequence, Kind::Union]);
}

#[test]
fn maps_with_the_same_names_are_records() {
    let rows = Value::List(vec![map(&[("id", Value::Int(1)), ("name", text("a"))]), map(&[("id", Value::Int(2))])]);
    assert_eq!(kinds(&rows), [Kind::Record, Kind::Text, Kind::Int, Kind::Union]);
    let block = encode(&rows).unwrap();
    let root = Column::root(&block).unwrap();
    assert_eq!(root.named(b"name").unwrap(), Some(2));
    assert_eq!(root.named(b"nam").unwrap(), None);
    assert!(!root.child(2).unwrap().is_missing(0).unwrap());
    assert!(root.child(2).unwrap().is_missing(1).unwrap());
    // Each has names of its own.
    let others = (0..100).map(|row| map(&[(&format!("name {row}"), Value::Int(row))]));
    assert_eq!(kinds(&Value::List(others.collect())), [Kind::Map, Kind::Text, Kind::Int]);
}

#[test]
fn keys_are_found() {
    let mut entries: Vec<_> = (0..5000).map(|key| (Value::Int(key), Value::Float(key as f64))).collect();
    entries.push((Value::Tuple(vec![text("a"), Value::Nothing]), Value::Nothing));
    let block =
        encode(&Value::List(vec![Value::Map(entries.clone()), Value::Map(vec![(Value::Int(7), Value::Int(8))])]));
    let block = block.unwrap();
    let root = Column::root(&block).unwrap();
    assert_eq!(root.kind(), Kind::Map);
    let place = |map, value: &Value| {
        let mut key = Key::new();
        assert!(key.set(Some(value)));
        root.find(map, &key).unwrap()
    };
    for (index, (key, _)) in entries.iter().enumerate() {
        assert_eq!(place(0, key), Some(index));
    }
    assert_eq!(place(0, &Value::Int(5000)), None);
    assert_eq!(place(0, &Value::Float(7.0)), Some(7));
    assert_eq!(place(1, &Value::Int(7)), Some(entries.len()));
    assert_eq!(place(1, &Value::Int(8)), None);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut deep = Value::Int(1);
    for _ in 0..100 {
        deep = Value::List(vec![deep]);
    }
    assert_eq!(encode(&deep).unwrap_err(), Refusal::TooDeep);
    let list = Value::List(vec![Value::Map(vec![(ints([1]), Value::Nothing)])]);
    assert_eq!(encode(&list).unwrap_err(), Refusal::Key);
}

#[test]
fn there_is_nothing_outside() {
    let block = encode(&ints(0..10)).unwrap();
    let root = Column::root(&block).unwrap();
    assert_eq!(root.int(10), Err(Error::Absent("an item after the last one")));
    assert_eq!(root.float(1), Err(Error::Absent("an item of this kind")));
    assert!(root.child(0).is_err() && root.text(0).is_err() && root.member(0).is_err() && root.range(0).is_err());
    assert_eq!(Column::root(b"something else").unwrap_err(), Error::Foreign);
    assert_eq!(Column::root(&block[..block.len() - 1]).unwrap_err(), Error::Damaged("the size"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nothing),
        any::<bool>().prop_map(Value::Truth),
        any::<i64>().prop_map(Value::Int),
        (-1e300..1e300).prop_map(Value::Float),
        "\\PC{0,5}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
        prop::collection::vec(1..0x7f_u8, 9..12).prop_map(Value::Big),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        let key = prop_oneof!["[a-c]".prop_map(Value::Text), (0..5_i64).prop_map(Value::Int)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Tuple),
            prop::collection::vec((key, inner), 0..5).prop_map(|entries| {
                let mut unique: Vec<(Value, Value)> = Vec::new();
                for (key, value) in entries {
                    if unique.iter().all(|(other, _)| *other != key) {
                        unique.push((key, value));
                    }
                }
                Value::Map(unique)
            }),
        ]
    })
}

/// The same, with the parts of maps in one order: records have that of their column.
fn sorted(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::List(items.iter().map(sorted).collect()),
        Value::Tuple(items) => Value::Tuple(items.iter().map(sorted).collect()),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by_key(|(key, _)| format!("{key:?}"));
            Value::Map(entries)
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in prop::collection::vec(value(), 0..8)) {
        let list = Value::List(items);
        let block = encode(&list).unwrap();
        prop_assert_eq!(sorted(&Value::read_list(Column::root(&block).unwrap()).unwrap()), sorted(&list));
    }

    #[test]
    fn nothing_is_written_outside(items in prop::collection::vec(value(), 0..8)) {
        let items: Vec<_> = items.iter().map(Some).collect();
        let plan = Plan::of(&items[..]).unwrap();
        let mut end = 0;
        plan.write(&mut |at, bytes| end = end.max(at + bytes.len()));
        prop_assert!(end <= plan.size());
    }
}

/// Whatever the bytes, reading ends: with a value, or with an error.
fn read(bytes: &[u8]) {
    if let Ok(root) = Column::root(bytes) {
        // A damaged count may promise more than there are bytes for, of what takes none.
        for index in 0..root.len().min(20) {
            let _ = Value::read_item(root, index);
            let mut key = Key::new();
            key.set(Some(&Value::Int(1)));
            let _ = (root.find(index, &key), root.named(b"name"), root.is_missing(index));
        }
    }
}

#[test]
fn damaged_blocks_are_errors() {
    let rows = Value::List(vec![
        map(&[("id", Value::Int(1)), ("name", text("a"))]),
        map(&[("id", Value::Float(2.0)), ("tags", Value::List(vec![text("x"), Value::Nothing]))]),
    ]);
    let maps =
        Value::List(vec![Value::Map((0..5).map(|key| (Value::Int(key), text("value"))).collect()), Value::Nothing]);
    let tuples = Value::List(vec![Value::Tuple(vec![Value::Int(1), Value::Truth(true)]), Value::Tuple(vec![])]);
    let good: Vec<_> = [rows, maps, tuples].iter().map(|value| encode(value).unwrap()).collect();
    fuzz(200_000, &[&good[0][..], &good[1][..], &good[2][..]], read);
}
