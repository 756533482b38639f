//! A trace as people read it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Head, Hop, Kernel, Outcome, Reply};
use crate::route::Origin;

/// Endpoints that are listed.
const SHOWN: usize = 20;
/// Where what belongs to a word begins.
const INDENT: usize = 12;

fn line(f: &mut fmt::Formatter<'_>, word: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {word:INDENT$}{text}")
}

/// The word before the first line only.
fn lines(f: &mut fmt::Formatter<'_>, word: &str, texts: &[String]) -> fmt::Result {
    texts.iter().enumerate().try_for_each(|(n, text)| line(f, if n == 0 { word } else { "" }, text))
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.protocol, self.from)?;
        if self.destination.is_some() && !self.from.contains(&self.client.to_string()) {
            write!(f, " ({})", self.client)?;
        }
        write!(f, " to {}", self.to)?;
        match self.destination {
            Some(destination) if destination.to_string() != self.to => writeln!(f, " ({destination})")?,
            _ => writeln!(f)?,
        }
        lines(f, "name", &self.name)
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Pod => "a pod of this node",
            Origin::ThisNode => "this node",
            Origin::Outside => "outside",
        };
        writeln!(f, "at {}, from {origin}", self.node)?;
        if let Some(frontend) = &self.frontend {
            line(f, "asks", frontend)?;
        }
        match self.outcome {
            Outcome::Forwarded => self.endpoints(f)?,
            Outcome::Rejected => lines(f, "rejected", &or(&self.reasons, "at once"))?,
            Outcome::Dropped => lines(f, "dropped", &or(&self.reasons, "without a word"))?,
            Outcome::AnsweredHere => line(f, "answered", &format!("{} answers itself", self.node))?,
            Outcome::Untouched => lines(f, "untouched", &or(&self.reasons, "it is no Service's"))?,
        }
        lines(f, "unless", &self.remedies)?;
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.fmt(f))
    }
}

fn or(reasons: &[String], otherwise: &str) -> Vec<String> {
    if reasons.is_empty() { vec![otherwise.to_owned()] } else { reasons.to_vec() }
}

impl Hop {
    fn endpoints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, "choice", &self.choice)?;
        if let Some(seconds) = self.affinity_seconds {
            let text = format!("stays with its endpoint until it has opened no connection for {seconds} s");
            line(f, "client", &text)?;
        }
        let sees: BTreeSet<&str> = self.endpoints.iter().map(|way| way.sees.as_str()).collect();
        let several = sees.len() > 1;
        let mut texts = Vec::new();
        let widest = self.endpoints.iter().take(SHOWN).map(|w| w.endpoint.to_string().len()).max().unwrap_or(0);
        for way in self.endpoints.iter().take(SHOWN) {
            let mut text = format!("{:>5.1} %  {:widest$}", way.probability * 100.0, way.endpoint.to_string());
            if let Some(pod) = &way.pod {
                text.push_str(&format!("  pod {pod}"));
            }
            if let Some(node) = &way.node {
                text.push_str(&format!("{}on {node}", if way.pod.is_some() { " " } else { "  " }));
            }
            if several {
                text.push_str(&format!(", sees {}", way.sees));
            }
            texts.push(text);
        }
        if self.endpoints.len() > SHOWN {
            texts.push(format!("and {} more", self.endpoints.len() - SHOWN));
        }
        lines(f, "endpoints", &texts)?;
        if let (false, Some(sees)) = (several, sees.first()) {
            line(f, "source", &format!("the endpoint sees {sees}"))?;
        }
        let replies: BTreeSet<Reply> = self.endpoints.iter().map(|way| way.reply).collect();
        let replies: Vec<_> = replies.into_iter().map(|reply| self.reply(reply)).collect();
        lines(f, "replies", &replies)
    }

    fn reply(&self, reply: Reply) -> String {
        let node = &self.node;
        match reply {
            Reply::FromHere => format!("pass {node}, where the endpoint is"),
            Reply::ToTheNode => format!("go to {node}, which the endpoint takes for its client"),
            Reply::ToTheClientHere => format!("pass {node}, where the client is"),
            Reply::PastTheNode => format!(
                "go to the client, who only knows them if its route leads through {node} (--cluster-cidr hides strangers)"
            ),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts = self.differences.clone();
        let revision = self.revision.as_ref().map(|r| format!(" (revision {r})")).unwrap_or_default();
        if self.agrees {
            texts.insert(0, format!("does the same{revision}"));
        } else if self.revision.is_some() {
            texts.insert(0, format!("DIFFERS{revision}:"));
        }
        if let Some(endpoint) = self.remembered {
            texts.push(format!("the client was here before and goes to {endpoint}"));
        }
        if !self.chains.is_empty() {
            texts.push(format!("chains: {}", self.chains.join(", ")));
        }
        lines(f, "kernel", &texts)
    }
}
