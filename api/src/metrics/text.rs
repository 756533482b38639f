//! Prometheus' text format, version 0.0.4, as far as it is used here.

use std::fmt::Write;

/// What a family of samples is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page of metrics. Samples belong to the family that was begun last. Writing to a `String` cannot fail, so the
/// results of `write!` are dropped here and nowhere else.
#[derive(Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Begins a family; `help` holds no line end and no backslash.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample; `suffix` is `_bucket`, `_sum`, `_count` or nothing.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (index, (name, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escape(text));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A histogram whose counts are cumulative already.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], count: u64, sum: f64) {
        let texts: Vec<String> = bounds.iter().map(f64::to_string).collect();
        let rows = texts.iter().map(String::as_str).zip(counts.iter().copied()).chain([("+Inf", count)]);
        for (bound, cumulative) in rows {
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample("_bucket", &with_bound, cumulative as f64);
        }
        self.sample("_sum", labels, sum);
        self.sample("_count", labels, count as f64);
    }

    pub fn finish(self) -> String {
        self.text
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "Things.");
        page.sample("", &[("x", "1\"2"), ("y", "")], 3.0);
        page.sample("", &[], 1e21);
        page.family("b", Kind::Histogram, "Times.");
        page.histogram(&[("v", "get")], &[0.5, 1.0], &[1, 2], 3, 4.25);
        expect_test::expect![[r#"
            # HELP a_total Things.
            # TYPE a_total counter
            a_total{x="1\"2",y=""} 3
            a_total 1000000000000000000000
            # HELP b Times.
            # TYPE b histogram
            b_bucket{v="get",le="0.5"} 1
            b_bucket{v="get",le="1"} 2
            b_bucket{v="get",le="+Inf"} 3
            b_sum{v="get"} 4.25
            b_count{v="get"} 3
        "#]]
        .assert_eq(&page.finish());
    }
}
