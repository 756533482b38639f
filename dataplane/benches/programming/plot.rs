//! The figures as pictures for `docs/dataplane.md`.

use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

const BLUE_LINE: RGBColor = RGBColor(31, 95, 168);
const RED_LINE: RGBColor = RGBColor(190, 60, 40);

/// Writes `dataplane-load.svg` and `dataplane-change.svg`.
pub fn write(report: &Value, into: &Path) {
    let points = |rows: &str, pointer: &str| -> Vec<(f64, f64)> {
        let rows = report[rows].as_array().unwrap().iter();
        // The sizes of one line have equally many endpoints.
        let rows = rows.filter(|r| r["endpointsEach"] == 10);
        rows.map(|r| (r["services"].as_f64().unwrap(), r.pointer(pointer).unwrap().as_f64().unwrap() * 1e3)).collect()
    };
    let picture = |file: &str, title: &str, pointer: &str| {
        let lines = [
            ("Portolan: elements of constant maps", BLUE_LINE, points("loads", pointer)),
            ("a chain per Service and endpoint, nft -f", RED_LINE, points("chains", pointer)),
        ];
        draw(&into.join(file), title, &lines);
    };
    picture("dataplane-load.svg", "A full load: Services with 10 endpoints each", "/fullLoadSeconds");
    picture("dataplane-change.svg", "One endpoint's change", "/oneChangeSeconds/p50");
}

type Line = (&'static str, RGBColor, Vec<(f64, f64)>);

/// Milliseconds over Services, both by powers of ten.
fn draw(path: &Path, title: &str, lines: &[Line]) {
    let root = SVGBackend::new(path, (720, 400)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let all = || lines.iter().flat_map(|(.., points)| points);
    let low = all().map(|(_, y)| *y).fold(f64::MAX, f64::min) / 2.0;
    let high = all().map(|(_, y)| *y).fold(0.0, f64::max) * 3.0;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(70)
        .build_cartesian_2d((8.0..70_000.0).log_scale(), (low..high).log_scale())
        .unwrap();
    chart
        .configure_mesh()
        .x_desc("Services")
        .y_desc("milliseconds")
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(WHITE)
        .draw()
        .unwrap();
    for (name, colour, points) in lines {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.clone(), style).point_size(4))
            .unwrap()
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let place = SeriesLabelPosition::UpperLeft;
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .unwrap();
    root.present().unwrap();
}
