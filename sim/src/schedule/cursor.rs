//! Reads one line of a schedule word by word. Every error has its line and column.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use stormglass_node::{About, Micros, NodeId, RequestId, Subject};

use crate::fault::Endpoint;
use crate::workload::ClientId;

/// How many characters of an unexpected word an error message shows.
// A file that is no schedule may be one word of a megabyte.
const FOUND_MAX: usize = 60;

/// The first error in the text of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What the reader expected at this place.
    pub expected: String,
    /// What the text has at this place.
    pub found: String,
}

/// The nodes, clients and kinds that a schedule may refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub nodes: u16,
    pub clients: u32,
    /// Every kind of message, request, response and record; empty if the reader accepts any word.
    pub kinds: &'a [&'static str],
}

/// A position in a line of a schedule. Words are separated by spaces; `,` and `:` are words of
/// their own. The text after a `#` is a comment, unless it is a subject such as `#7`.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
    line: usize,
    limits: Limits<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, line: usize, limits: Limits<'a>) -> Cursor<'a> {
        Cursor { text, at: 0, line, limits }
    }

    /// How many nodes the cluster has.
    pub fn nodes(&self) -> u16 {
        self.limits.nodes
    }

    /// The next word, without taking it; empty at the end of the line.
    pub fn peek(&self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || is_sign(c)).unwrap_or(rest.len());
        // A sign is a word without any spaces around it, as in `c1.1: keeps none, down 20 ms`.
        let word = if end == 0 && !rest.is_empty() && rest.starts_with(is_sign) {
            &rest[..1]
        } else {
            &rest[..end]
        };
        // A comment, unless it is a subject like `#7`.
        let comment = word
            .strip_prefix('#')
            .is_some_and(|number| number.is_empty() || !is_all_digits(number));
        if comment { "" } else { word }
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// If the line ends here.
    pub fn word(&mut self, expected: &str) -> Result<&'a str, ParseError> {
        let word = self.peek();
        if word.is_empty() {
            return Err(self.error_here(expected));
        }
        self.skip_space();
        self.at += word.len();
        Ok(word)
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.skip_space();
            self.at += word.len();
        }
        is_next
    }

    /// Takes this word.
    ///
    /// # Errors
    /// If the next word is another one.
    pub fn expect_word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.take(word) { Ok(()) } else { Err(self.error_here(&format!("`{word}`"))) }
    }

    /// Takes one of these words.
    ///
    /// # Errors
    /// If the next word is another one.
    pub fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Result<T, ParseError> {
        let next = self.peek();
        if let Some((word, meaning)) = words.iter().find(|(word, _)| *word == next) {
            self.take(word);
            return Ok(*meaning);
        }
        let all: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        Err(self.error_here(&list_alternatives(&all)))
    }

    /// Takes a word that parses as a `T` and that `accept` accepts.
    ///
    /// # Errors
    /// If it does not parse, or is not accepted.
    pub fn parsed<T: FromStr>(
        &mut self,
        expected: &str,
        accepted: impl Fn(&T) -> bool,
    ) -> Result<T, ParseError> {
        // The word is taken only if it is right, so that an error points at it and not behind it.
        let value = self.peek().parse().ok().filter(accepted);
        let value = value.ok_or_else(|| self.error_here(expected))?;
        self.word(expected)?;
        Ok(value)
    }

    /// Takes a whole number in a range.
    ///
    /// # Errors
    /// If the next word is no number, or out of range.
    pub fn number(&mut self, what: &str, range: RangeInclusive<u64>) -> Result<u64, ParseError> {
        let expected = format!("{what} ({} to {})", range.start(), range.end());
        self.parsed(&expected, |number| range.contains(number))
    }

    /// Takes a key: up to 16 hexadecimal digits.
    pub(super) fn key(&mut self, expected: &str) -> Result<u64, ParseError> {
        let key = u64::from_str_radix(self.peek(), 16).map_err(|_| self.error_here(expected))?;
        self.word(expected)?;
        Ok(key)
    }

    /// Takes a node of the cluster.
    ///
    /// # Errors
    /// If the next word is no node of this cluster.
    pub fn node(&mut self) -> Result<NodeId, ParseError> {
        let expected = self.nodes_expected();
        let node = self.peek().strip_prefix('n').and_then(|number| number.parse().ok());
        let node = node
            .filter(|node| *node < self.limits.nodes)
            .ok_or_else(|| self.error_here(&expected))?;
        self.word(&expected)?;
        Ok(NodeId(node))
    }

    /// Takes an endpoint of a link: a node or a client.
    ///
    /// # Errors
    /// If the next word is neither.
    pub fn end(&mut self) -> Result<Endpoint, ParseError> {
        let word = self.peek();
        let clients = self.limits.clients;
        if word.starts_with('n') {
            return self.node().map(Endpoint::Node);
        }
        let expected = format!("{} or a client (c1 to c{clients})", self.nodes_expected());
        let client = word.strip_prefix('c').and_then(|number| number.parse().ok()).map(ClientId);
        let client = client.filter(|client| client.is_among(clients));
        let client = client.ok_or_else(|| self.error_here(&expected))?;
        self.word(&expected)?;
        Ok(Endpoint::Client(client))
    }

    /// Takes a duration: `1.5 ms`, `20 us`, `3 s`.
    ///
    /// # Errors
    /// If the next words are no duration.
    pub fn time(&mut self) -> Result<Micros, ParseError> {
        let expected = "a time in ms with at most three decimals";
        // That the number does not fit its unit is noticed after both are read; the error is the
        // number's.
        let start = self.clone();
        let number = self.word(expected)?;
        let unit_us = self.one_of(&[("ms", 1_000), ("us", 1), ("s", 1_000_000)])?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        whole_micros(whole, part, unit_us).ok_or_else(|| start.error_here(expected))
    }

    /// Takes an ordinal: `1st`, `2nd`, ...; 1 if there is none.
    ///
    /// # Errors
    /// If the next word begins with a digit and is no ordinal.
    pub fn ordinal(&mut self) -> Result<u32, ParseError> {
        let word = self.peek();
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(1);
        }
        let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        // Compared with the written form, so that `1th` is a typo and not the first.
        let nth = number.parse().ok().filter(|nth: &u32| *nth > 0 && word == ordinal(*nth));
        let nth = nth.ok_or_else(|| self.error_here("an ordinal (1st, 2nd, 3rd, ...)"))?;
        self.word("which one")?;
        Ok(nth)
    }

    /// Takes a request id: `c1.4`, or `c1.4/1` for its second attempt.
    ///
    /// # Errors
    /// If the next word is no request id, or the cluster has no such client.
    pub fn request(&mut self) -> Result<RequestId, ParseError> {
        let expected =
            format!("a request of a client (c1.1, or of up to c{})", self.limits.clients);
        let id = request(self.peek()).filter(|id| {
            ClientId::try_from(id.client).is_ok_and(|client| client.is_among(self.limits.clients))
        });
        let id = id.ok_or_else(|| self.error_here(&expected))?;
        self.word(&expected)?;
        Ok(id)
    }

    /// Takes the kind and subject of a message or record: `Vote c1.4`, `Value #7`, `Header`.
    ///
    /// # Errors
    /// If the protocol has no such kind.
    pub fn about(&mut self) -> Result<About, ParseError> {
        let word = self.peek();
        let known = self.limits.kinds;
        // A protocol that does not list its kinds accepts any word. A typo then shows as a fault
        // that is not reached.
        let kind = if known.is_empty() {
            let is_word = word.starts_with(char::is_alphabetic)
                && word.chars().all(|c| c.is_alphanumeric() || c == '_');
            if is_word { Some(intern(word)) } else { None }
        } else {
            known.iter().copied().find(|kind| *kind == word)
        };
        let kind = kind.ok_or_else(|| {
            if known.is_empty() {
                self.error_here("the kind of a message or record")
            } else {
                self.error_here(&list_alternatives(known))
            }
        })?;
        self.word("a kind")?;
        let next = self.peek();
        let subject = if let Some(number) = next.strip_prefix('#') {
            let number = number.parse().map_err(|_| self.error_here("a number after #"))?;
            self.word("a subject")?;
            Some(Subject::Number(number))
        } else if next.starts_with('c') && next[1..].starts_with(|c: char| c.is_ascii_digit()) {
            Some(Subject::Request(self.request()?))
        } else {
            None
        };
        Ok(About { kind, subject })
    }

    /// Takes one JSON value.
    ///
    /// # Errors
    /// If the text is no JSON value, or does not deserialize as a `T`.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, ParseError> {
        self.skip_space();
        // A stream of values, as it stops behind the first: a comment may follow on the line.
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => Err(self.error_here(&format!("a request as JSON ({error})"))),
            None => Err(self.error_here("a request as JSON")),
        }
    }

    /// Expects the end of the line, or a comment.
    ///
    /// # Errors
    /// If there is another word.
    pub fn expect_end(&self) -> Result<(), ParseError> {
        if self.peek().is_empty() { Ok(()) } else { Err(self.error_here("the end of the line")) }
    }

    /// Takes the rest of the line unchanged.
    pub(super) fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim();
        self.at = self.text.len();
        rest
    }

    /// An error at the next word.
    pub fn error_here(&self, expected: &str) -> ParseError {
        let word = self.peek();
        let rest = &self.text[self.at..];
        let column_bytes = self.at + rest.len() - rest.trim_start().len();
        // Escaped, since a control character of the file must not reach the terminal.
        let cut: String = word.chars().take(FOUND_MAX).flat_map(char::escape_debug).collect();
        let rest = if word.chars().nth(FOUND_MAX).is_some() { "..." } else { "" };
        let found = if word.is_empty() {
            "the end of the line".to_string()
        } else {
            format!("`{cut}{rest}`")
        };
        // Characters and not bytes, as editors count columns.
        let column = self.text[..column_bytes].chars().count() + 1;
        ParseError { line: self.line, column, expected: expected.to_string(), found }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn nodes_expected(&self) -> String {
        match self.limits.nodes {
            1 => "a node (the only node is n0)".to_string(),
            nodes => format!("a node (n0 to n{})", nodes - 1),
        }
    }
}

fn is_sign(c: char) -> bool {
    c == ',' || c == ':'
}

fn is_all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `whole.part` units, if that is a whole number of microseconds.
fn whole_micros(whole: &str, part: &str, unit_us: u64) -> Option<Micros> {
    // Nine digits of seconds and six decimals stay below 64 bits of microseconds.
    let fits = whole.len() <= 9
        && !whole.is_empty()
        && part.len() <= 6
        && is_all_digits(whole)
        && is_all_digits(part);
    if !fits {
        return None;
    }
    // Padded on the right: `.5` is 500,000 millionths, not 5.
    let part_in_millionths = format!("{part:0<6}").parse::<u64>().ok()? * unit_us;
    let us = whole.parse::<u64>().ok()? * unit_us + part_in_millionths / 1_000_000;
    part_in_millionths.is_multiple_of(1_000_000).then_some(Micros(us))
}

/// Parses a request id.
pub(super) fn request(text: &str) -> Option<RequestId> {
    let (client, rest) = text.strip_prefix('c')?.split_once('.')?;
    let (serial, attempt) =
        rest.split_once('/').map_or((rest, None), |(serial, rest)| (serial, Some(rest)));
    let attempt = attempt.map_or(Ok(0), str::parse).ok()?;
    Some(RequestId { client: client.parse().ok()?, serial: serial.parse().ok()?, attempt })
}

/// Writes an ordinal: `1st`, `2nd`, `3rd`, `4th`, ...
pub(crate) fn ordinal(nth: u32) -> String {
    let suffix = match (nth % 10, nth % 100) {
        // 11th, 12th and 13th, and 111th as well.
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{nth}{suffix}")
}

fn list_alternatives<T: fmt::Display>(words: &[T]) -> String {
    let all: Vec<_> = words.iter().map(ToString::to_string).collect();
    match all.as_slice() {
        [] => "nothing".to_string(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

/// Kinds are `&'static str`. A kind that a file mentions and the program does not have is leaked
/// here, once each. This is a memory cache and no state: no result depends on its contents.
fn intern(word: &str) -> &'static str {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    // A panic while it is held leaves the set as it was or with one word more: both are fine.
    let mut words = WORDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = words.get(word) {
        return known;
    }
    let kept: &'static str = Box::leak(word.into());
    words.insert(kept);
    kept
}
