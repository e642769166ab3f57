//! What the reason of a violation names: `c1.4`, `n0.1#7`, `key3`, `42`, `n2`.
//!
//! A reason is a sentence for people. Its words with a digit in them are ids and values; the lines
//! of a trace contain the same words.

use stormglass_node::NodeId;

/// The words of a sentence that identify something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    ids: Vec<String>,
    numbers: Vec<String>,
    nodes: Vec<NodeId>,
    sentence: String,
}

impl Named {
    /// Reads a sentence.
    pub(crate) fn of(sentence: &str) -> Named {
        let mut named = Named { sentence: sentence.to_string(), ..Named::default() };
        for word in words(sentence).filter(|word| word.contains(|c: char| c.is_ascii_digit())) {
            let list = match node_of(word) {
                Some(node) => {
                    if !named.nodes.contains(&node) {
                        named.nodes.push(node);
                    }
                    continue;
                }
                None if is_number(word) => &mut named.numbers,
                None => &mut named.ids,
            };
            if !list.iter().any(|known| known == word) {
                list.push(word.to_string());
            }
        }
        named
    }

    /// The nodes, in the order of their mention.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Everything else, ids first: each is a word that [`Named::mentions`] finds.
    pub(crate) fn things(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().chain(&self.numbers).map(String::as_str)
    }

    /// Whether a line has this one of the [`things`](Self::things). A number counts only in a line
    /// that shows the contents of something: elsewhere it is that of a barrier, or a length.
    pub(crate) fn is_thing_in(thing: &str, line: &str, shows_contents: bool) -> bool {
        // The first column is the time.
        let line = line.trim_start().split_once(' ').map_or(line, |(_, rest)| rest);
        (shows_contents || !is_number(thing)) && mentions(line, thing)
    }

    /// Whether a line of this node concerns anything that the sentence names.
    pub(crate) fn is_concerned_by(&self, line: &str, node: NodeId, shows_contents: bool) -> bool {
        self.nodes.contains(&node)
            || self.things().any(|thing| Named::is_thing_in(thing, line, shows_contents))
    }

    /// Whether the sentence has this kind of message as a word.
    pub(crate) fn has_kind(&self, kind: &str) -> bool {
        mentions(&self.sentence, kind)
    }
}

/// Whether a text has this word. An attempt is no part of a request: `c1.4/1` is `c1.4`.
pub(crate) fn mentions(text: &str, thing: &str) -> bool {
    words(text).any(|word| word == thing)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_part_of_word(c)).filter_map(|word| {
        // The end of a sentence is no part of its last word.
        let word = word.trim_matches(['.', '-', '/']);
        let word = word.split('/').next().unwrap_or(word);
        // `#7` is the number 7 as a subject.
        let word = word.strip_prefix('#').unwrap_or(word);
        (!word.is_empty()).then_some(word)
    })
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '#' | '/' | '_' | '-')
}

fn is_number(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn node_of(word: &str) -> Option<NodeId> {
    word.strip_prefix('n')?.parse().ok().map(NodeId)
}
