//! Deliberate bugs of the node, each of which the properties must find.

/// A mistake that is easily made with this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Messages are sent before what they depend on is durable.
    SendsBeforeDurable,
    /// The promise is not persisted.
    ForgetsPromise,
    /// The ballot of the accepted entries is not persisted.
    ForgetsAcceptedRound,
    /// After a restart all entries of the log count as decided.
    TakesLogAsDecided,
    /// A write that must be atomic becomes several records, between which a crash may come.
    SplitsAtomicWrites,
    /// Entries that replace a part of the log leave the entries behind that part.
    KeepsReplacedEntries,
    /// An entry is executed whenever it is in the log, and not once for each request.
    ExecutesRepeatedly,
    /// `Get` is answered from the state of the node that receives it, and not through the log.
    ReadsLocally,
    /// The library is not notified when a session begins again.
    ForgetsReconnect,
    /// A restarted candidate leaves it to the library to find a leader (see `Replica::tick`).
    NeverReclaims,
}

impl Bug {
    /// Every bug, with its name on the command line and one line of description.
    pub const ALL: [(Bug, &'static str, &'static str); 10] = [
        (
            Bug::SendsBeforeDurable,
            "sends-before-durable",
            "messages are sent before what they depend on is durable",
        ),
        (Bug::ForgetsPromise, "forgets-promise", "the promise is not persisted"),
        (
            Bug::ForgetsAcceptedRound,
            "forgets-accepted-round",
            "the ballot of the accepted entries is not persisted",
        ),
        (
            Bug::TakesLogAsDecided,
            "takes-log-as-decided",
            "after a restart all entries of the log count as decided",
        ),
        (
            Bug::SplitsAtomicWrites,
            "splits-atomic-writes",
            "a write that must be atomic becomes several records",
        ),
        (
            Bug::KeepsReplacedEntries,
            "keeps-replaced-entries",
            "entries that replace a part of the log leave the entries behind that part",
        ),
        (Bug::ExecutesRepeatedly, "executes-repeatedly", "a repeated request is executed again"),
        (Bug::ReadsLocally, "reads-locally", "Get is answered without the log"),
        (
            Bug::ForgetsReconnect,
            "forgets-reconnect",
            "the library is not notified when a session begins again",
        ),
        (
            Bug::NeverReclaims,
            "never-reclaims",
            "a restarted candidate leaves it to the library to find a leader",
        ),
    ];

    /// The bug of this name.
    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|(_, its_name, _)| *its_name == name).map(|(bug, ..)| bug)
    }
}
