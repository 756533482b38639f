//! What was last written into the tables, and what is to be written to come from there to something else.
//!
//! A chain is rewritten whole when anything in it is different: in one batch of `iptables-restore --noflush`, `:CHAIN` empties
//! it, or makes it, and its rules follow. A batch says first of all which chains there are, so that rules may lead to chains that
//! come later, and last which go: nothing leads to these any more. The rules of built-in chains that lead into ours are put
//! first where they are missing, and removed where nobody wants them.
//!
//! A batch is about one table of one family, which takes it whole or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::read::Found;
use super::rule::{Chain, Hook, Rule, Table};
use super::text;
use crate::plan::Family;

/// What a table of one family is to hold of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub chains: Vec<Chain>,
    /// The rules of built-in chains that lead into ours; of one chain, the first comes first.
    pub jumps: Vec<(Hook, Rule)>,
}

/// What is to change in the tables. A chain is its name and the text of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub tables: BTreeMap<(Family, Table), TableChanges>,
}

/// What is to change in one table of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// Chains as they shall be; `None`: gone.
    pub chains: BTreeMap<String, Option<Box<str>>>,
    /// The rules of built-in chains, where they shall be different.
    pub jumps: Option<Vec<(Hook, String)>>,
}

/// A table of one family as it was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub chains: BTreeMap<String, Box<str>>,
    /// Sorted by chain; of one chain, the first comes first.
    pub jumps: Vec<(Hook, String)>,
}

/// Every table as it was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    pub tables: BTreeMap<(Family, Table), Written>,
}

/// A batch for `iptables-restore` of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub family: Family,
    pub table: Table,
    pub text: String,
    /// Chains that are written.
    pub written: usize,
    /// Chains that go.
    pub gone: usize,
}

impl Batch {
    /// Makes or removes a chain that says what a setting was (`xtables::settings`); all of them are in one table.
    pub fn of_mark(mark: &str, make: bool) -> Self {
        let gone = if make { String::new() } else { format!("-X {mark}\n") };
        let text = format!("*{}\n:{mark} - [0:0]\n{gone}COMMIT\n", Table::Filter.name());
        Self { family: Family::V4, table: Table::Filter, text, written: 0, gone: 0 }
    }
}

/// The text of rules as a chain has them.
pub fn body(rules: &[Rule], family: Family) -> Box<str> {
    let mut text = String::new();
    for rule in rules {
        text::add(rule, family, &mut text);
    }
    text.into_boxed_str()
}

impl Changes {
    /// A chain shall be like this.
    pub fn set(&mut self, family: Family, table: Table, chain: &Chain) {
        let body = body(&chain.rules, family);
        self.of(family, table).chains.insert(chain.name.to_string(), Some(body));
    }

    /// A chain shall go.
    pub fn remove(&mut self, family: Family, table: Table, name: String) {
        self.of(family, table).chains.insert(name, None);
    }

    /// The rules of built-in chains shall be these and no others.
    pub fn jumps(&mut self, family: Family, table: Table, jumps: &[(Hook, Rule)]) {
        let mut jumps: Vec<_> = jumps.iter().map(|(hook, rule)| (*hook, text::line(rule, family))).collect();
        jumps.sort_by_key(|(hook, _)| *hook);
        self.of(family, table).jumps = Some(jumps);
    }

    /// The table shall hold this and nothing else that `shadow` knows of.
    pub fn whole(&mut self, family: Family, table: Table, content: &Content, shadow: &Shadow) {
        if let Some(written) = shadow.tables.get(&(family, table)) {
            written.chains.keys().for_each(|name| self.remove(family, table, name.clone()));
        }
        content.chains.iter().for_each(|chain| self.set(family, table, chain));
        self.jumps(family, table, &content.jumps);
    }

    fn of(&mut self, family: Family, table: Table) -> &mut TableChanges {
        self.tables.entry((family, table)).or_default()
    }

    /// Nothing shall be left of what `shadow` knows beside this.
    pub fn complete(&mut self, shadow: &Shadow) {
        for ((family, table), written) in &shadow.tables {
            let of = self.of(*family, *table);
            for name in written.chains.keys() {
                if !of.chains.contains_key(name) {
                    of.chains.insert(name.clone(), None);
                }
            }
            of.jumps.get_or_insert_default();
        }
    }

    /// Leaves out what is as `shadow` says anyhow.
    pub fn reduce(&mut self, shadow: &Shadow) {
        let nothing = Written::default();
        self.tables.retain(|place, changes| {
            let written = shadow.tables.get(place).unwrap_or(&nothing);
            changes.chains.retain(|name, body| written.chains.get(name) != body.as_ref());
            changes.jumps.take_if(|jumps| *jumps == written.jumps);
            !changes.chains.is_empty() || changes.jumps.is_some()
        });
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The batches, in an order in which what marks come to mean something before anything is marked: `filter` first, and
    /// `nat`, which leads to everything, behind the others; where nothing is left to be untracked, `raw` at the very last.
    /// What is reduced to nothing has none.
    pub fn batches(&self, shadow: &Shadow) -> Vec<Batch> {
        let mut batches: Vec<Batch> =
            self.tables.iter().map(|(place, changes)| changes.batch(*place, shadow.tables.get(place))).collect();
        let order = |table: Table| match table {
            Table::Filter => 0,
            Table::Mangle => 1,
            Table::Raw => 2,
            Table::Nat => 3,
        };
        let goes = |batch: &Batch| batch.table == Table::Raw && batch.gone > 0;
        batches.sort_by_key(|batch| (goes(batch), order(batch.table), batch.family));
        batches
    }
}

impl TableChanges {
    fn batch(&self, (family, table): (Family, Table), written: Option<&Written>) -> Batch {
        let mut text = format!("*{}\n", table.name());
        let line = |text: &mut String, parts: [&str; 5]| parts.iter().for_each(|part| text.push_str(part));
        let known = |name: &String| written.is_some_and(|w| w.chains.contains_key(name));
        // What goes is emptied first, so that it leads to nothing either.
        let named = self.chains.iter().filter(|(name, body)| body.is_some() || known(name));
        for (name, _) in named {
            line(&mut text, [":", name, " - [0:0]\n", "", ""]);
        }
        if let Some(jumps) = &self.jumps {
            let before = written.map(|w| w.jumps.as_slice()).unwrap_or_default();
            for (hook, rule) in before {
                line(&mut text, ["-D ", hook.chain(), " ", rule, "\n"]);
            }
            // Each is put before the one that was put there last.
            for (hook, rule) in jumps.iter().rev() {
                line(&mut text, ["-I ", hook.chain(), " ", rule, "\n"]);
            }
        }
        for (name, body) in &self.chains {
            for rule in body.iter().flat_map(|body| body.lines()) {
                line(&mut text, ["-A ", name, " ", rule, "\n"]);
            }
        }
        let gone: Vec<&String> =
            self.chains.iter().filter(|(name, body)| body.is_none() && known(name)).map(|(name, _)| name).collect();
        for name in &gone {
            line(&mut text, ["-X ", name, "\n", "", ""]);
        }
        text.push_str("COMMIT\n");
        Batch { family, table, text, written: self.chains.len() - gone.len(), gone: gone.len() }
    }
}

impl Shadow {
    /// What `iptables-save` printed of the tables of a family. A jump that stands more than once is known as often.
    pub fn find(&mut self, family: Family, tables: &BTreeMap<Table, Found>) {
        for (table, found) in tables {
            let jumps = found.jumps.iter().filter_map(|(chain, rule)| Some((super::read::hook(chain)?, rule.clone())));
            let chains = found.chains.iter().map(|(name, body)| (name.clone(), body.as_str().into()));
            let mut written = Written { chains: chains.collect(), jumps: jumps.collect() };
            written.jumps.sort_by_key(|(hook, _)| *hook);
            if written != Written::default() {
                self.tables.insert((family, *table), written);
            }
        }
    }

    /// The changes were made.
    pub fn apply(&mut self, changes: Changes) {
        for (place, changes) in changes.tables {
            let written = self.tables.entry(place).or_default();
            for (name, body) in changes.chains {
                match body {
                    Some(body) => written.chains.insert(name, body),
                    None => written.chains.remove(&name),
                };
            }
            if let Some(jumps) = changes.jumps {
                written.jumps = jumps;
            }
            if *written == Written::default() {
                self.tables.remove(&place);
            }
        }
    }

    /// What makes the tables that `found` describes hold what this one says.
    pub fn mend(&self, found: &Self) -> Changes {
        let mut changes = Changes::default();
        let places: BTreeSet<_> = self.tables.keys().chain(found.tables.keys()).copied().collect();
        let nothing = Written::default();
        for place in places {
            let (want, have) = (self.tables.get(&place), found.tables.get(&place));
            let (want, have) = (want.unwrap_or(&nothing), have.unwrap_or(&nothing));
            let of = changes.tables.entry(place).or_default();
            of.chains.extend(have.chains.keys().map(|name| (name.clone(), None)));
            of.chains.extend(want.chains.iter().map(|(name, body)| (name.clone(), Some(body.clone()))));
            of.jumps = Some(want.jumps.clone());
        }
        changes.reduce(found);
        changes
    }

    /// What takes away everything.
    pub fn removal(&self) -> Changes {
        Self::default().mend(self)
    }

    /// How many chains there are.
    pub fn chains(&self) -> usize {
        self.tables.values().map(|written| written.chains.len()).sum()
    }

    /// The rules of ours, as text says them.
    ///
    /// # Errors
    /// When the shadow is of tables in which somebody else wrote.
    pub fn rules(&self) -> Result<super::Ruleset, super::read::Unreadable> {
        let mut ruleset = super::Ruleset::default();
        for ((family, table), written) in &self.tables {
            let chains = written.chains.iter().map(|(name, body)| (name.clone(), body.to_string()));
            let jumps = written.jumps.iter().map(|(hook, rule)| (hook.chain().to_owned(), rule.clone()));
            let found = Found { chains: chains.collect(), jumps: jumps.collect(), ..Found::default() };
            super::read::rules(*family, &[(*table, found)].into(), &mut ruleset)?;
        }
        Ok(ruleset)
    }
}

impl Chain {
    pub fn new(name: impl Into<Cow<'static, str>>, rules: Vec<Rule>) -> Self {
        Self { name: name.into(), rules }
    }
}
