//! From a question to its answer. Pure.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};

use crate::names::Names;

/// What a question deserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is no name of the cluster's; other servers know.
    Elsewhere,
    Known(Reply),
}

/// What is said by the one who knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: ResponseCode,
    /// Never shuffled; that is for whoever sends it.
    pub answers: Vec<Record>,
    /// The zone's SOA where there is no answer.
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// `answers` end with a CNAME to this name outside of the zone: its records of the kind asked for belong behind them.
    pub follow: Option<Name>,
}

/// Answers a question of class IN.
pub fn answer(names: &Names, name: &Name, kind: RecordType) -> Answer {
    let _ = kind;
    if !names.zone().domain.zone_of(name) {
        return Answer::Elsewhere;
    }
    Answer::Known(Reply {
        code: ResponseCode::ServFail,
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        follow: None,
    })
}
