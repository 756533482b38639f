//! Plots, all of one look: lines through points over two axes, or bars beside each other. The legend stands beside them, so
//! that it never hides what it explains.
#![allow(dead_code, reason = "each case draws what it has")]

use std::ops::Range;
use std::path::Path;

use bench::report::short;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 400);
/// Of the part to the right, which has the legend.
const LEGEND: u32 = 250;
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 95, 168),
    RGBColor(190, 60, 40),
    RGBColor(46, 125, 80),
    RGBColor(140, 100, 170),
    RGBColor(215, 140, 30),
    RGBColor(90, 90, 90),
];

/// Of the bars that are not ours.
const OTHERS: RGBColor = RGBColor(165, 175, 185);

/// What an axis is of, with its unit, and how it is divided.
#[derive(Clone, Copy)]
pub struct Axis {
    pub about: &'static str,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// From zero.
    Even,
    /// By powers of ten; what is no more than zero is left out.
    Powers,
}

/// What it is called, and its points. An empty one keeps its colour for the lines that have points.
pub type Line = (String, Vec<(f64, f64)>);

pub fn even(about: &'static str) -> Axis {
    Axis { about, scale: Scale::Even }
}

pub fn powers(about: &'static str) -> Axis {
    Axis { about, scale: Scale::Powers }
}

/// Draws lines into a file, in the order of the colours.
pub fn lines(path: &Path, title: &str, x: Axis, y: Axis, lines: &[Line]) {
    let lines: Vec<Line> = lines.iter().map(|(name, points)| (name.clone(), fitting(points, x, y))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    assert!(all().next().is_some(), "{title}: nothing to draw");
    let (over, up) = (x.range(all().map(|p| p.0)), y.range(all().map(|p| p.1)));
    let by_powers = |range: Range<f64>| range.clone().log_scale().with_key_points(ticks(&range));
    match (x.scale, y.scale) {
        (Scale::Even, Scale::Even) => draw(path, title, (x, over), (y, up), &lines),
        (Scale::Even, Scale::Powers) => draw(path, title, (x, over), (y, by_powers(up)), &lines),
        (Scale::Powers, Scale::Even) => draw(path, title, (x, by_powers(over)), (y, up), &lines),
        (Scale::Powers, Scale::Powers) => draw(path, title, (x, by_powers(over)), (y, by_powers(up)), &lines),
    }
}

fn fitting(points: &[(f64, f64)], x: Axis, y: Axis) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|point| x.has(point.0) && y.has(point.1)).collect()
}

impl Axis {
    fn has(self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Even || value > 0.0)
    }

    /// What holds all of these, with some room.
    fn range(self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        match self.scale {
            Scale::Even if high > 0.0 => 0.0..high * 1.1,
            Scale::Even => 0.0..1.0,
            Scale::Powers => labelled(low / 1.5, high * 1.5),
        }
    }
}

/// What is labelled between these two: powers of ten, and twice and five times those where there is room.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let (first, last) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let steps: &[f64] = if last - first > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| range.contains(tick)).collect()
}

/// This range, or as much more as two labels take.
fn labelled(low: f64, high: f64) -> Range<f64> {
    let range = low..high;
    if ticks(&range).len() >= 2 { range } else { low / 2.5..high * 2.5 }
}

fn draw<X, Y>(path: &Path, title: &str, (x, over): (Axis, X), (y, up): (Axis, Y), lines: &[Line])
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(over, up)
        .unwrap();
    chart
        .configure_mesh()
        .x_desc(x.about)
        .y_desc(y.about)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .draw()
        .unwrap();
    for ((_, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart.draw_series(LineSeries::new(points.clone(), style).point_size(3)).unwrap();
    }
    let shown = lines.iter().zip(COLOURS.iter().cycle()).filter(|((_, points), _)| !points.is_empty());
    for (n, ((name, _), colour)) in (0..).zip(shown) {
        let height = 60 + 22 * n;
        legend.draw(&PathElement::new([(8, height), (28, height)], colour.stroke_width(2))).unwrap();
        legend.draw(&Circle::new((18, height), 3, colour.filled())).unwrap();
        legend.draw(&Text::new(name.clone(), (36, height - 7), ("sans-serif", 13))).unwrap();
    }
    root.present().unwrap();
}

/// Draws a bar for each of these values, one below the other, with what it is called before and its value behind it. Whose name
/// begins with ours is set apart.
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[(String, f64)]) {
    const NAMES: i32 = 320;
    const STEP: i32 = 26;
    let (width, below) = (860, 52 + STEP * bars.len() as i32);
    let root = SVGBackend::new(path, (width as u32, below as u32)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    root.draw(&Text::new(title.to_owned(), (12, 12), ("sans-serif", 18))).unwrap();
    let longest = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    for (n, (name, value)) in (0..).zip(bars) {
        let top = 44 + STEP * n;
        let length = (f64::from(width - NAMES - 130) * value / longest).round() as i32;
        root.draw(&Text::new(name.clone(), (12, top + 2), ("sans-serif", 13))).unwrap();
        let bar = [(NAMES, top), (NAMES + length.max(1), top + STEP - 8)];
        let ours = name.to_lowercase().starts_with("portolan");
        root.draw(&Rectangle::new(bar, if ours { COLOURS[0] } else { OTHERS }.filled())).unwrap();
        let text = format!("{} {unit}", short(*value));
        root.draw(&Text::new(text, (NAMES + length + 8, top + 2), ("sans-serif", 13))).unwrap();
    }
    root.present().unwrap();
}
