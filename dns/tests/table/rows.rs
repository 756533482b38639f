//! The table of questions and answers, read. Asked in memory here, and over sockets by the tests of the whole.

/// A question, and what is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// In the table.
    pub line: usize,
    /// Absolute, in the case in which it is asked.
    pub name: String,
    pub kind: String,
    pub expect: Expect,
}

/// Records are `OWNER TYPE DATA` with absolute names in lower case, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// `NOERROR`, `NXDOMAIN` or `SERVFAIL`; empty for what is not the cluster's to answer.
    pub code: &'static str,
    pub answers: Vec<String>,
    /// The owner of the SOA beside a negative answer.
    pub soa: Option<String>,
    pub additionals: Vec<String>,
    /// A name outside of the zone that the chain leads to.
    pub follow: Option<String>,
}

const TYPES: [&str; 8] = ["A", "AAAA", "SRV", "CNAME", "TXT", "SOA", "NS", "PTR"];
const ZONE: &str = "cluster.local.";

/// Every row of `table.txt`.
pub fn rows() -> Vec<Row> {
    let lines = include_str!("table.txt").lines().enumerate();
    let rows = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(index, line)| {
        let (question, answer) = line.split_once(": ").unwrap_or_else(|| panic!("line {}: no answer", index + 1));
        let (name, kind) = question.split_once(' ').unwrap();
        let name = absolute(name);
        let expect = expect(&name.to_ascii_lowercase(), answer);
        Row { line: index + 1, name, kind: kind.to_owned(), expect }
    })
    .collect()
}

fn expect(name: &str, text: &str) -> Expect {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let negative = |code| {
        // Another zone than the cluster's is named; whatever else follows are answers.
        let (zone, rest) = match rest.split_once(' ') {
            None if rest.ends_with('.') => (rest, ""),
            _ => (ZONE, rest),
        };
        Expect { code, soa: Some(zone.to_owned()), answers: records(name, rest), ..Expect::default() }
    };
    match word {
        "elsewhere" => Expect::default(),
        "servfail" => Expect { code: "SERVFAIL", ..Expect::default() },
        "nodata" => negative("NOERROR"),
        "nxdomain" => negative("NXDOMAIN"),
        _ => {
            let (text, follow) = text.split_once(" ~ ").map_or((text, None), |(a, b)| (a, Some(b.to_owned())));
            let (answers, additionals) = text.split_once(" | ").unwrap_or((text, ""));
            Expect {
                code: "NOERROR",
                answers: records(name, answers),
                additionals: records(name, additionals),
                soa: None,
                follow,
            }
        }
    }
}

fn records(name: &str, text: &str) -> Vec<String> {
    let items = text.split(", ").filter(|item| !item.is_empty());
    let mut records: Vec<String> = items
        .map(|item| {
            let words: Vec<&str> = item.split(' ').collect();
            let (owner, kind, data) = match words.as_slice() {
                [kind, data @ ..] if TYPES.contains(kind) => (name.to_owned(), *kind, data),
                [owner, kind, data @ ..] => (absolute(owner), *kind, data),
                _ => panic!("{item:?} is no record"),
            };
            let names = match kind {
                "SRV" => 3..4,
                "SOA" => 0..2,
                "CNAME" | "NS" | "PTR" => 0..1,
                _ => 0..0,
            };
            let data = data.iter().enumerate().map(|(place, word)| match names.contains(&place) {
                true => absolute(word),
                false => (*word).to_owned(),
            });
            format!("{owner} {kind} {}", data.collect::<Vec<_>>().join(" "))
        })
        .collect();
    records.sort();
    records
}

fn absolute(name: &str) -> String {
    match name {
        "@" => ZONE.to_owned(),
        name if name.ends_with('.') => name.to_owned(),
        name => format!("{name}.{ZONE}"),
    }
}
