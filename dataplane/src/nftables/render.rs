//! A plan's tables as text: the layout, then every element on a line of its own, sorted. For golden tests, and
//! for people who want to see what would be programmed.

use std::fmt::Write as _;

use super::Dirty;
use super::changes::Changes;
use super::element::family_name;
use super::layout::{Owner, chains};
use super::set::{Data, Set};
use super::shadow::{Exhausted, Shadow};
use crate::plan::{Family, Plan};

/// The elements of tables that are made for this plan from scratch.
///
/// # Errors
/// When the plan is larger than the tables can number.
pub fn render(plan: &Plan) -> Result<String, Exhausted> {
    let changes = Shadow::default().update(plan, &Dirty::All)?;
    let mut text = String::new();
    for (family, chain) in &changes.chains {
        let _ = writeln!(text, "{} chain {}", family_name(*family), chain.name);
    }
    text.push_str(&render_changes(&changes));
    Ok(text)
}

/// The elements that change: `+` added, `-` removed.
pub fn render_changes(changes: &Changes) -> String {
    let mut lines = Vec::new();
    for (_, _, group) in changes.groups() {
        lines.extend(group.removed.iter().map(|e| format!("- {e}\n")));
        lines.extend(group.added.iter().map(|e| format!("+ {e}\n")));
    }
    lines.sort_unstable_by(|a, b| a[2..].cmp(&b[2..]).then(b.cmp(a)));
    lines.concat()
}

/// Sets, chains and rules of a family's table.
pub fn render_layout(family: Family) -> String {
    let mut text = format!("table {} {}\n", family_name(family), Owner::Agent.table());
    for set in Set::all() {
        let spec = set.spec();
        let kind = if spec.data == Data::None { "set" } else { "map" };
        let _ = writeln!(text, "{kind} {} flags {:#x}  # {}", spec.name, spec.flags(), spec.comment);
    }
    for chain in chains(Owner::Agent, family) {
        let _ = writeln!(text, "chain {}{}{}", chain.name, hook(&chain), note(chain.comment));
        for rule in chain.rules {
            let exprs: Vec<_> = rule.exprs.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "    {}{}", exprs.join("; "), note(rule.comment));
        }
    }
    text
}

fn hook(chain: &super::layout::Chain) -> String {
    chain.hook.map_or_else(String::new, |h| format!(" priority {}", h.number_and_priority().1))
}

fn note(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!("  # {comment}") }
}
