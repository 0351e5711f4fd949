//! The picture of the page: for each operation a bar for each runtime, and a line where the floor is.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::results::Results;

/// What is shown: operation, whether with seccomp, and its title.
const SHOWN: [(&str, bool, &str); 8] = [
    ("run", false, "run"),
    ("run", true, "run, seccomp"),
    ("create", false, "create"),
    ("start", false, "start"),
    ("exec", false, "exec"),
    ("state", false, "state"),
    ("kill", false, "kill"),
    ("delete", false, "delete"),
];
/// Okabe and Ito's colours, which can be told apart also by those who see no red and green.
const COLOURS: [&str; 5] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];

/// Pixels.
const MARGIN: f64 = 24.0;
const TITLE: f64 = 40.0;
const GROUP: f64 = 116.0;
const BAR: f64 = 26.0;
const HEIGHT: f64 = 220.0;
const FOOT: f64 = 48.0;
/// Of the key at the top.
const KEY: f64 = 80.0;

/// The picture, a whole file: processor time above, wall time below.
pub fn draw(results: &Results, peers: &[String], floor: &str) -> String {
    let shown: Vec<&String> = peers.iter().filter(|name| *name != floor).collect();
    let width = 2.0 * MARGIN + SHOWN.len() as f64 * GROUP;
    let panel = TITLE + HEIGHT + FOOT;
    let height = MARGIN + 2.0 * panel;
    let mut picture = Document::new()
        .set("viewBox", (0.0, 0.0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 12)
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#ffffff"));
    let floor_key = width - MARGIN - 210.0;
    for (at, name) in shown.iter().enumerate() {
        let x = floor_key - (shown.len() - at) as f64 * KEY;
        picture = picture.add(bar(x, MARGIN - 12.0, 12.0, 12.0, COLOURS[at % COLOURS.len()])).add(label(
            name,
            x + 18.0,
            MARGIN - 2.0,
            "start",
        ));
    }
    picture = picture.add(line(floor_key, floor_key + 14.0, MARGIN - 6.0));
    picture = picture.add(label("the floor: the kernel's own work", floor_key + 18.0, MARGIN - 2.0, "start"));
    for (number, title) in ["CPU", "wall"].into_iter().enumerate() {
        let top = MARGIN + number as f64 * panel;
        let heading = format!("{title} time, ms: each operation has a scale of its own");
        picture = picture.add(label(&heading, MARGIN, top + 14.0, "start").set("font-weight", "bold"));
        for (place, (operation, seccomp, title)) in SHOWN.into_iter().enumerate() {
            let milliseconds = |peer: &str| -> Option<f64> {
                let series = results.find(operation, seccomp, peer).filter(|series| !series.costs.is_empty())?;
                let figures = series.figures();
                Some(if number == 0 { figures.cpu } else { figures.wall } / 1000.0)
            };
            let group = Group { title, left: MARGIN + place as f64 * GROUP, bottom: top + TITLE + HEIGHT };
            let bars: Vec<Option<f64>> = shown.iter().map(|peer| milliseconds(peer)).collect();
            picture = group.draw(picture, &bars, milliseconds(floor));
        }
    }
    format!("{picture}\n")
}

/// The bars of one operation.
struct Group {
    title: &'static str,
    left: f64,
    bottom: f64,
}

impl Group {
    fn draw(&self, mut picture: Document, bars: &[Option<f64>], floor: Option<f64>) -> Document {
        let most = bars.iter().flatten().chain(&floor).copied().fold(0.0, f64::max);
        let height = |value: f64| if most > 0.0 { value / most * (HEIGHT - 20.0) } else { 0.0 };
        for (at, value) in bars.iter().enumerate() {
            let x = self.left + at as f64 * (BAR + 4.0);
            let Some(value) = *value else { continue };
            let top = self.bottom - height(value);
            picture = picture
                .add(bar(x, top, BAR, height(value), COLOURS[at % COLOURS.len()]))
                .add(label(&shown_as(value), x + BAR / 2.0, top - 4.0, "middle").set("font-size", 10));
        }
        let right = self.left + bars.len() as f64 * (BAR + 4.0) - 4.0;
        if let Some(floor) = floor {
            picture = picture.add(line(self.left - 3.0, right + 3.0, self.bottom - height(floor)));
        }
        picture.add(label(self.title, (self.left + right) / 2.0, self.bottom + 16.0, "middle"))
    }
}

/// Milliseconds, with as many digits as one can tell apart.
fn shown_as(value: f64) -> String {
    if value < 1.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

fn bar(x: f64, y: f64, width: f64, height: f64, colour: &str) -> Rectangle {
    Rectangle::new().set("x", x).set("y", y).set("width", width).set("height", height).set("fill", colour)
}

fn line(from: f64, to: f64, y: f64) -> Line {
    let line = Line::new().set("x1", from).set("x2", to).set("y1", y).set("y2", y);
    line.set("stroke", "#000000").set("stroke-width", 1.5).set("stroke-dasharray", "4 2")
}

fn label(text: &str, x: f64, y: f64, anchor: &str) -> Text {
    Text::new(text).set("x", x).set("y", y).set("text-anchor", anchor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Cost;

    #[test]
    fn a_bar_for_each_runtime_and_a_line_for_the_floor() {
        let mut results = Results::default();
        for (name, cpu) in [("ocirt", 2000.0), ("crun", 4000.0), ("floor", 1000.0)] {
            results.series("run", false, name).costs.insert(1, Cost { wall: cpu, cpu, ..Cost::default() });
        }
        let picture = draw(&results, &["ocirt", "crun", "floor"].map(str::to_owned), "floor");
        // The background, two keys, and two bars in each panel; the floor's key and a line in each.
        assert_eq!((picture.matches("<rect").count(), picture.matches("<line").count()), (7, 3));
        assert!(
            ["\n4.0\n", "\n2.0\n"].map(|text| picture.contains(text)) == [true, true] && !picture.contains("\n1.0\n")
        );
    }
}
