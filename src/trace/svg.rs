//! A recording as a picture: of each command a time line, a row for each span in the order in which they began, colours by
//! kind. Plain SVG 1.1, without scripts.

use std::fmt::Write as _;

use super::read::{Recording, Run, Span};
use super::text::{millis, outcome, shown};
use super::{Category, Lane};

/// Pixels.
const WIDTH: f64 = 1280.0;
const MARGIN: f64 = 16.0;
/// The column of bars, and behind it that of names.
const BARS: f64 = 560.0;
const ROW: f64 = 18.0;
const TITLE: f64 = 26.0;
const LEGEND: f64 = 30.0;

/// A colour for each kind, which can be told apart also by those who see no red and green (Okabe and Ito's palette).
fn colour(category: Category) -> &'static str {
    match category {
        Category::Command => "#000000",
        Category::Plan => "#cc79a7",
        Category::State => "#999999",
        Category::Cgroup => "#e69f00",
        Category::Process => "#0072b2",
        Category::Hook => "#d55e00",
        Category::Step => "#009e73",
        Category::Wait => "#d9d9d9",
        Category::Message => "#f0e442",
    }
}

/// The picture, a whole file.
pub fn draw(recording: &Recording) -> String {
    let runs = shown(&recording.runs);
    let rows: usize = runs.iter().map(|run| run.spans.len()).sum();
    let height = 2.0 * MARGIN + LEGEND + runs.len() as f64 * (TITLE + ROW) + rows as f64 * ROW;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    legend(&mut svg);
    let mut top = MARGIN + LEGEND;
    for run in runs {
        top = one(&mut svg, run, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    for (place, category) in Category::ALL.into_iter().skip(1).enumerate() {
        let x = MARGIN + place as f64 * 90.0;
        bar(svg, x, MARGIN, 12.0, category, "");
        label(svg, x + 18.0, MARGIN + 10.0, category.name(), "");
    }
}

/// Draws a command below `top`, and returns where the next one begins.
fn one(svg: &mut String, run: &Run, top: f64) -> f64 {
    let (begin, end) = (run.begin_us, run.end_us());
    label(
        svg,
        MARGIN,
        top + 14.0,
        &format!("{}: {}", run.name(), outcome(run)),
        " font-weight=\"bold\" font-size=\"14\"",
    );
    let scale = BARS / (end - begin).max(0.001);
    let mut y = top + TITLE;
    for span in &run.spans {
        let length = span.length_us(end);
        let [left, right] =
            [span.begin_us, span.begin_us + length].map(|time| ((time - begin) * scale).clamp(0.0, BARS));
        bar(svg, MARGIN + left, y, (right - left).max(1.0), span.category, &title(span, length));
        label(svg, MARGIN + BARS + 12.0, y + 11.0, &title(span, length), "");
        y += ROW;
    }
    y + ROW
}

/// `0.365 ms  init: mount proc on /proc (mounts[0])`
fn title(span: &Span, length: f64) -> String {
    let lane = if span.lane == Lane::Init { "init: " } else { "" };
    let field = if span.field.is_empty() { String::new() } else { format!(" ({})", span.field) };
    let note = match (span.duration_us, span.failed) {
        (None, _) => ", did not end",
        (Some(_), true) => ", failed",
        (Some(_), false) => "",
    };
    format!("{}  {lane}{}{field}{note}", millis(length), span.name)
}

fn bar(svg: &mut String, x: f64, y: f64, width: f64, category: Category, title: &str) {
    let fill = colour(category);
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(title)) };
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"13\" fill=\"{fill}\" stroke=\"#00000040\" \
         stroke-width=\"0.5\">{title}</rect>"
    );
}

fn label(svg: &mut String, x: f64, y: f64, text: &str, style: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\"{style}>{}</text>", escaped(text));
}

/// Text of XML 1.0, which knows no control characters.
fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}
