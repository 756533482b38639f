//! Files of kubectl command lines, and what each version prints.
//!
//! A line that begins with `$ ` is a command line; `<<<` feeds it the lines up to the next blank one. Lines that begin
//! with neither are titles. Every version goes through the whole file on a server of its own. Where all print the same,
//! the transcript has it once; where they differ, each group of versions follows under its numbers, so that a
//! difference between versions is seen in one place and one between runs is a failure.
//!
//! What differs from run to run is masked: times, ages, uids, revisions, and runs of blanks, since columns are as wide
//! as what is masked.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::kubectl::{Kubectl, VERSIONS};
use crate::server::Server;

struct Step<'a> {
    title: Option<&'a str>,
    command: &'a str,
    input: String,
}

/// Runs `text` in every version, side by side, and returns the transcript.
pub fn run(text: &str) -> String {
    let steps = steps(text);
    let printed: Vec<Vec<String>> = std::thread::scope(|scope| {
        let runs: Vec<_> = VERSIONS.map(|version| scope.spawn(|| one_version(version, &steps))).into_iter().collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut transcript = String::new();
    for (i, step) in steps.iter().enumerate() {
        if let Some(title) = step.title {
            writeln!(transcript, "## {title}\n").unwrap();
        }
        writeln!(transcript, "$ kubectl {}", step.command).unwrap();
        let mut shown = BTreeSet::new();
        for (v, version) in VERSIONS.iter().enumerate() {
            if shown.contains(version) {
                continue;
            }
            let same: Vec<&str> =
                (v..VERSIONS.len()).filter(|w| printed[*w][i] == printed[v][i]).map(|w| VERSIONS[w]).collect();
            if same.len() < VERSIONS.len() {
                writeln!(transcript, "[{}]", same.join(" ")).unwrap();
            }
            transcript.push_str(&printed[v][i]);
            shown.extend(same);
        }
        transcript.push('\n');
    }
    transcript
}

fn one_version(version: &str, steps: &[Step<'_>]) -> Vec<String> {
    let server = Server::start(&[]);
    let kubectl = Kubectl::new(version, &server.kubeconfig(), server.dir());
    let address = server.address();
    let home = server.dir().display().to_string();
    steps
        .iter()
        .map(|step| {
            let output = kubectl.run(&words(step.command), &step.input);
            let mut text = String::new();
            for stream in [&output.stdout, &output.stderr] {
                let stream = String::from_utf8_lossy(stream).replace(&address, "ADDRESS").replace(&home, "HOME");
                text.push_str(&masked(&stream));
            }
            if !output.status.success() {
                writeln!(text, "exit code {}", output.status.code().unwrap()).unwrap();
            }
            text
        })
        .collect()
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut title = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            if !line.is_empty() {
                title = Some(line);
            }
            continue;
        };
        let (command, input) = match command.strip_suffix(" <<<") {
            None => (command, String::new()),
            Some(command) => {
                (command, lines.by_ref().take_while(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect())
            }
        };
        steps.push(Step { title: title.take(), command, input });
    }
    steps
}

/// Splits at blanks outside single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

fn masked(text: &str) -> String {
    let mut out = String::new();
    // kubectl 1.27 colours what it says of the cluster, also where nobody sees it.
    let text = text.replace("\u{1b}[0;32m", "").replace("\u{1b}[0;33m", "").replace("\u{1b}[0m", "");
    for line in text.lines() {
        if line.trim().is_empty() {
            out.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        out.push_str(&line[..indent]);
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut i = 0;
        while i < words.len() {
            if i > 0 {
                out.push(' ');
            }
            // `Mon, 02 Jan 2006 15:04:05 +0000`, as describe prints times.
            let date = words[i].len() == 4 && words[i].ends_with(',') && words.get(i + 5) == Some(&"+0000");
            let key = i.checked_sub(1).map_or("", |before| words[before]).trim_matches(['"', ':']);
            let revision = key == "resourceVersion" || key == "Version" && words[0] == "Resource";
            if revision {
                out.push_str("REVISION");
            } else if date {
                out.push_str("TIME");
            } else {
                out.push_str(&masked_word(words[i]));
            }
            i += if date { 6 } else { 1 };
        }
        out.push('\n');
    }
    out
}

fn masked_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| "\"',;()[]{}".contains(c));
    let mask = if is_age(core) {
        "AGE".to_owned()
    } else if is_uid(core) {
        "UID".to_owned()
    } else if is_time(core) {
        "TIME".to_owned()
    } else if core.len() > 6 && core.chars().all(|c| c.is_ascii_digit()) {
        "NUMBER".to_owned()
    } else if let Some((stem, suffix)) = core.rsplit_once('-')
        && suffix.len() == 5
        && suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c))
    {
        // A generated name.
        format!("{stem}-XXXXX")
    } else {
        return allocated(word);
    };
    word.replacen(core, &mask, 1)
}

/// Addresses and node ports that were drawn: explicit ones in the steps are from the bands that draws avoid.
fn allocated(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let end = |more: fn(char) -> bool| rest.find(|c| !more(c)).unwrap_or(rest.len());
        let number = end(|c| c.is_ascii_digit());
        let address = end(|c| c.is_ascii_hexdigit() || c == ':');
        let dotted = end(|c| c.is_ascii_digit() || c == '.');
        let previous = out.chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || c == '.');
        let (length, mask) = if previous {
            (0, "")
        } else if rest.starts_with("10.96.") && !rest.starts_with("10.96.0.") {
            (dotted, "ADDRESS4")
        } else if rest.strip_prefix("fd00:10:96::").is_some_and(|_| address > "fd00:10:96::ff".len()) {
            (address, "ADDRESS6")
        } else if number == 5 && rest[..5].parse().is_ok_and(|n: u32| (30086..=32767).contains(&n))
            // The range itself, which errors tell.
            && !out.ends_with("30000-")
        {
            (number, "NODEPORT")
        } else if rest.starts_with("LIVE-") || rest.starts_with("MERGED-") || rest.starts_with("kubectl-edit-") {
            // Names of temporary files.
            (end(|c| c.is_ascii_alphanumeric() || c == '-'), "TEMPORARY")
        } else {
            (0, "")
        };
        let length = if length == 0 {
            let c = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..c]);
            c
        } else {
            out.push_str(mask);
            length
        };
        rest = &rest[length..];
    }
    out
}

/// `5s`, `2m5s`, `324d`.
fn is_age(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with(|c: char| "smhdy".contains(c))
        && word.chars().all(|c| c.is_ascii_digit() || "smhdy".contains(c))
}

fn is_uid(word: &str) -> bool {
    word.len() == 36
        && word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_what_differs_from_run_to_run() {
        assert_eq!(masked("web   ClusterIP   <none>   2m5s\n"), "web ClusterIP <none> AGE\n");
        assert_eq!(masked("  resourceVersion: \"17\"\n"), "  resourceVersion: REVISION\n");
        assert_eq!(masked("  uid: 3f2504e0-4f89-41d3-9a0c-0305e82c3301\n"), "  uid: UID\n");
        assert_eq!(masked("Start Time:  Mon, 02 Jan 2006 15:04:05 +0000\n"), "Start Time: TIME\n");
        assert_eq!(masked("ports 80/TCP\n"), "ports 80/TCP\n");
        assert_eq!(
            masked("80:31234/TCP 10.96.7.8, fd00:10:96::1a2b web-x2b4c\n"),
            "80:NODEPORT/TCP ADDRESS4, ADDRESS6 web-XXXXX\n"
        );
        assert_eq!(masked("80:30080/TCP 10.96.0.20 fd00:10:96::20\n"), "80:30080/TCP 10.96.0.20 fd00:10:96::20\n");
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("get svc -o 'jsonpath={.a} {.b}'"), ["get", "svc", "-o", "jsonpath={.a} {.b}"]);
    }
}
