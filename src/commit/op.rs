//! Operations: actions on the keys of nodes, and the values that reads found.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use stormglass_node::id::NodeId;

/// A key: text of at most [`Key::BYTES_MAX`] bytes, kept inline so that locks and operations are
/// `Copy`. Ordered as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    // The text padded with zeros, then its length: as three big-endian numbers in the order of the
    // text. The length distinguishes "a" from "a\0". Comparing three numbers is the most frequent
    // operation of locks and values.
    words: [u64; 3],
}

/// The text is too long for a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has at most {max} bytes, not {0}", max = Key::BYTES_MAX)]
pub struct KeyTooLong(pub usize);

impl Key {
    /// The longest key, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 23;

    /// The key with this text.
    ///
    /// # Errors
    /// [`KeyTooLong`] if `text` has more than [`Key::BYTES_MAX`] bytes.
    pub fn new(text: &str) -> Result<Key, KeyTooLong> {
        let mut inline = [0; Key::BYTES_MAX + 1];
        inline[..Key::BYTES_MAX]
            .get_mut(..text.len())
            .ok_or(KeyTooLong(text.len()))?
            .copy_from_slice(text.as_bytes());
        inline[Key::BYTES_MAX] = text.len() as u8;
        let (words, _) = inline.as_chunks();
        Ok(Key { words: [0, 1, 2].map(|at| u64::from_be_bytes(words[at])) })
    }

    /// Calls `f` with the text.
    pub fn with_str<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        self.with_bytes(|text| f(text_of(text)))
    }

    fn with_bytes<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        let inline = self.words.map(u64::to_be_bytes);
        let inline = inline.as_flattened();
        f(&inline[..usize::from(inline[Key::BYTES_MAX])])
    }
}

/// The text of a key, from its bytes.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a key is made from a text")
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| f.pad(text))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| fmt::Debug::fmt(text, f))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_bytes(|text| {
            if serializer.is_human_readable() {
                serializer.serialize_str(text_of(text))
            } else {
                // The codec writes a text and its bytes alike, and bytes need not be validated.
                serializer.serialize_bytes(text)
            }
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {} bytes", Key::BYTES_MAX)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                Key::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What an operation does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    /// Sets the value.
    Put(i64),
    /// Removes the key. Removing a missing key is no error.
    Delete,
    /// Reads the value. Takes a shared lock; every other action takes an exclusive one.
    Get,
    /// Adds `by` to the value (a missing key counts as 0), if the sum is at least `at_least`;
    /// otherwise the participant votes No.
    Add {
        by: i64,
        /// The lower bound of the sum.
        at_least: i64,
    },
}

/// One action on one key of one node. The operations of a transaction on the same key apply in the
/// client's order, and a `Get` sees the operations before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Op {
    /// The node that stores the key.
    pub node: NodeId,
    pub key: Key,
    pub action: Action,
}

impl Op {
    /// The greatest length of an encoded operation, in bytes.
    pub const BYTES_MAX: usize = 3 + 1 + Key::BYTES_MAX + 1 + 2 * 10;

    /// Whether it takes an exclusive lock.
    pub fn writes(&self) -> bool {
        self.action != Action::Get
    }
}

/// The values that the `Get`s of some operations found, one entry each, in the order of the
/// operations; `None` is a missing key. Takes no memory when there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reads(
    // `None` rather than an empty slice.
    Option<Arc<[Option<i64>]>>,
);

impl From<&[Option<i64>]> for Reads {
    fn from(found: &[Option<i64>]) -> Reads {
        Reads((!found.is_empty()).then(|| found.into()))
    }
}

impl Deref for Reads {
    type Target = [Option<i64>];
    fn deref(&self) -> &[Option<i64>] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Serialize for Reads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.deref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reads, D::Error> {
        let found = Vec::deserialize(deserializer)?;
        Ok(Reads::from(found.as_slice()))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Op { node, key, action } = self;
        match action {
            Action::Put(value) => write!(f, "{node}/{key}={value}"),
            Action::Delete => write!(f, "{node}/{key} delete"),
            Action::Get => write!(f, "{node}/{key}?"),
            Action::Add { by, at_least } => write!(f, "{node}/{key}{by:+}>={at_least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::codec;

    #[test]
    fn keys_are_ordered_as_text_and_survive_encoding() {
        let texts = ["", "a", "a\0", "aa", "b", "x23456789012345678901-23"];
        for pair in texts[..5].windows(2) {
            assert!(Key::new(pair[0]).unwrap() < Key::new(pair[1]).unwrap());
        }
        let longest = Key::new(&texts[5][..23]).unwrap();
        assert_eq!(codec::decode::<Key>(&codec::encode(&longest)), Ok(longest));
        assert_eq!(Key::new(texts[5]), Err(KeyTooLong(24)));
        assert!(codec::decode::<Key>(&codec::encode(texts[5])).is_err());
    }

    #[test]
    fn no_reads_take_no_memory() {
        assert_eq!(Reads::from(&[][..]).0, None);
        assert_eq!(codec::decode::<Reads>(&codec::encode(&Reads::default())), Ok(Reads::default()));
    }
}
