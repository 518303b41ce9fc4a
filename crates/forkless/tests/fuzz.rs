//! Messages that nobody sends: what a receiver makes of them.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use forkless::ipc::Channel;
use forkless::messages::{Receiver, RecvError, channel};
use forkless::{Deadline, arena};
use forkless_testing::fuzz;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Serialize, Deserialize)]
#[allow(dead_code)]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Two(Box<Tree>, Box<Tree>),
    Named { name: String, children: Vec<Tree> },
}

/// What pickles of Python look like; the first byte is the tag.
const GOOD: [&[u8]; 14] = [
    b"\0\x80\x05\x95\x48\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01J\xff\xff\xff\xffM,\x01Jp\x11\x01\0\
        \x8a\x06\0\0\0\0\0\x01\x8a\t\0\0\0\0\0\0\0\0\xc0e\x8c\x01b\x94(h\x01N\x88G?\xf8\0\0\0\0\0\0t\x94K\x03\
        \x8f\x94(C\x01x\x94\x90u.",
    b"\0\x80\x05\x8c\tfractions\x94\x8c\x08Fraction\x94\x93\x94\x8c\x031/2\x94\x85\x94R\x94.",
    b"\0\x80\x03}q\0(X\x01\0\0\0aq\x01]q\x02(K\x01K\x02\x86q\x03h\x03K\x01K\x02K\x03\x87q\x04eX\x01\0\0\0bh\x01u.",
    b"\0\x80\x05\x95\x12\0\0\0\0\0\0\0](\x8c\x04Leaf}\x8c\x03One\x8c\x04Leafse.",
    b"\0}X\x05\0\0\0Named}(X\x04\0\0\0nameX\x01\0\0\0xX\x08\0\0\0children](X\x04\0\0\0Leafeus.",
    b"\0]\x94h\0a.",
    b"\0]q\0h\0\x86q\x01h\x01\x86q\x02h\x02\x86q\x03h\x03\x86q\x04.",
    b"\0cbuiltins\nset\n](NNe\x85R.",
    b"\0\x80\x05\x95\x0c\0\0\0\0\0\0\0(K\x01C\x03abc\x91\x94\x96\x02\0\0\0\0\0\0\0xy0.",
    b"\x01bytes",
    b"\x02text",
    b"\x03\x01\0\0\0\0\0\0\0",
    b"\x04\0\0\0\0\0\0\xf0?",
    b"\x07",
];

thread_local! {
    static CHANNEL: Channel = Channel::create(arena().unwrap(), 0).unwrap();
}

/// What a message is as a `T`, if it is one.
fn read<T: DeserializeOwned + 'static>(tag: u64, bytes: &[u8]) -> Option<T> {
    CHANNEL.with(|channel| {
        assert!(channel.send(tag, bytes, &[], Deadline::NEVER).unwrap());
        match Receiver::<T>::open(channel.lease().handle().unwrap()).unwrap().recv() {
            Ok(value) => Some(value),
            Err(RecvError::Decode(error)) => {
                assert_eq!((error.tag(), error.bytes()), (tag, bytes));
                assert!(error.to_string().len() < 2000, "{error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    })
}

/// Any tag, and any bytes, as values of many types.
fn message(bytes: &[u8]) {
    let (tag, bytes) = bytes.split_first().map_or((0, bytes), |(tag, rest)| (u64::from(*tag), rest));
    read::<IgnoredAny>(tag, bytes);
    read::<Tree>(tag, bytes);
    read::<Vec<Tree>>(tag, bytes);
    read::<HashMap<String, Option<Vec<(u8, f32)>>>>(tag, bytes);
    read::<Vec<u8>>(tag, bytes);
    read::<(char, i8, u128)>(tag, bytes);
    // What was read can be sent, and is the same then.
    if let Some(value) = read::<Value>(tag, bytes) {
        let (sender, receiver) = channel::<Value>().unwrap();
        sender.send(&value).unwrap();
        assert_eq!(receiver.recv().unwrap(), value);
    }
}

#[test]
fn messages() {
    fuzz(10_000, &GOOD, message);
}
