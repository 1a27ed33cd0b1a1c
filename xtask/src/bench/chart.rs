//! Curves as SVG: how what is measured grows, with both axes logarithmic.

use super::figures::Samples;

/// A picture of curves.
pub(super) struct Chart {
    pub(super) title: String,
    /// What grows, and what it costs.
    pub(super) labels: [String; 2],
    pub(super) curves: Vec<Curve>,
}

/// What one contestant was measured to cost.
pub(super) struct Curve {
    name: String,
    points: Vec<Point>,
}

struct Point {
    x: f64,
    least: f64,
    median: f64,
    most: f64,
}

impl Curve {
    /// Of samples of each number, which must be more than 0, shown in this unit.
    pub(super) fn new<'a>(
        name: impl Into<String>,
        samples: impl IntoIterator<Item = (u32, &'a Samples)>,
        unit: f64,
    ) -> Self {
        let point = |(number, samples): (u32, &Samples)| {
            let (least, most) = samples.range();
            Point {
                x: f64::from(number),
                least: least / unit,
                median: samples.median() / unit,
                most: most / unit,
            }
        };
        // What is not above 0 has no place on a logarithmic axis.
        let points = samples.into_iter().map(point);
        Self {
            name: name.into(),
            points: points.filter(|p| p.x > 0.0 && p.least > 0.0).collect(),
        }
    }
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// The part of it that the curves are in.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 360.0;
/// Least distance of two lines of the legend.
const LINE: f64 = 18.0;

/// They differ for colour-blind eyes too (Okabe and Ito), and in brightness.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#a0569b"];

impl Chart {
    /// The picture, as a file.
    pub(super) fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let across = Axis::of(points().map(|p| [p.x; 2]), &[1.0], [LEFT, RIGHT]);
        let steps = [1.0, 2.0, 5.0];
        let upwards = Axis::of(points().map(|p| [p.least, p.most]), &steps, [BOTTOM, TOP]);
        let mut body = self.frame(&across, &upwards);
        for (curve, colour) in self.curves.iter().zip(colours()) {
            body += &curve.drawn(colour, &across, &upwards);
        }
        body += &self.legend(&upwards);
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" \
             font-size=\"13\" fill=\"#333\">\n<title>{title}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }

    /// Title, axes, and what they mean.
    fn frame(&self, across: &Axis, upwards: &Axis) -> String {
        let mut svg = text(LEFT, 26.0, "font-size=\"16\"", &self.title);
        for tick in &across.ticks {
            let x = across.at(*tick);
            svg += &line([x, TOP], [x, BOTTOM], GRID);
            svg += &text(x, BOTTOM + 20.0, MIDDLE, &number(*tick));
        }
        for tick in &upwards.ticks {
            let y = upwards.at(*tick);
            svg += &line([LEFT, y], [RIGHT, y], GRID);
            svg += &text(LEFT - 8.0, y + 4.5, "text-anchor=\"end\"", &number(*tick));
        }
        svg += &line([LEFT, TOP], [LEFT, BOTTOM], AXIS);
        svg += &line([LEFT, BOTTOM], [RIGHT, BOTTOM], AXIS);
        let [below, beside] = &self.labels;
        svg += &text(f64::midpoint(LEFT, RIGHT), BOTTOM + 44.0, MIDDLE, below);
        let middle = f64::midpoint(TOP, BOTTOM);
        let upright = format!("{MIDDLE} transform=\"rotate(-90 20 {middle})\"");
        svg + &text(20.0, middle, &upright, beside)
    }

    /// Names, each as near to the end of its curve as those above leave room.
    fn legend(&self, upwards: &Axis) -> String {
        let mut ends: Vec<_> = self
            .curves
            .iter()
            .zip(colours())
            .filter_map(|(curve, colour)| {
                let last = curve.points.last()?;
                Some((upwards.at(last.median), curve.name.as_str(), colour))
            })
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut svg = String::new();
        let mut free = TOP;
        for (end, name, colour) in ends {
            let y = end.max(free);
            free = y + LINE;
            let x = RIGHT + 14.0;
            svg += &line([x, y], [x + 18.0, y], &stroke(colour));
            svg += &text(x + 24.0, y + 4.5, "", name);
        }
        svg
    }
}

impl Curve {
    /// A line through the medians, and at each of them how far the samples reach.
    fn drawn(&self, colour: &str, across: &Axis, upwards: &Axis) -> String {
        let mut svg = String::new();
        let mut path = Vec::new();
        for point in &self.points {
            let (x, y) = (across.at(point.x), upwards.at(point.median));
            let (low, high) = (upwards.at(point.least), upwards.at(point.most));
            let faint = format!("stroke=\"{colour}\" stroke-width=\"5\" opacity=\"0.3\"");
            svg += &line([x, low], [x, high], &faint);
            svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n");
            path.push(format!("{x:.1},{y:.1}"));
        }
        let (path, stroke) = (path.join(" "), stroke(colour));
        svg + &format!("<polyline points=\"{path}\" fill=\"none\" {stroke}/>\n")
    }
}

/// A logarithmic axis.
struct Axis {
    /// Marked values; the first and the last are its ends.
    ticks: Vec<f64>,
    pixels: [f64; 2],
}

impl Axis {
    /// From a tick at or below all of these values to one at or above them. Ticks are these steps
    /// of each power of ten.
    fn of(ranges: impl Iterator<Item = [f64; 2]>, steps: &[f64], pixels: [f64; 2]) -> Self {
        let values: Vec<_> = ranges.flatten().collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let all: Vec<_> = (-6..=12)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .collect();
        // What is computed may miss a tick by a rounding.
        let first = all.iter().rposition(|tick| *tick <= least * 1.000_001);
        let last = all.iter().position(|tick| *tick >= most * 0.999_999);
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(all.len() - 1));
        Self {
            ticks: all.get(first..=last).unwrap_or_default().to_vec(),
            pixels,
        }
    }

    /// Where a value is.
    fn at(&self, value: f64) -> f64 {
        let [from, to] = self.pixels;
        match self.ticks[..] {
            [first, .., last] => {
                from + (to - from) * (value / first).log10() / (last / first).log10()
            }
            _ => from,
        }
    }
}

fn colours() -> impl Iterator<Item = &'static str> {
    COLOURS.into_iter().cycle()
}

const MIDDLE: &str = "text-anchor=\"middle\"";
const GRID: &str = "stroke=\"#ddd\"";
const AXIS: &str = "stroke=\"#333\"";

fn stroke(colour: &str) -> String {
    format!("stroke=\"{colour}\" stroke-width=\"2\"")
}

fn line([x1, y1]: [f64; 2], [x2, y2]: [f64; 2], how: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {how}/>\n")
}

fn text(x: f64, y: f64, how: &str, words: &str) -> String {
    let words = escaped(words);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>\n")
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

/// A tick in words: `0.5`, `20`, `10,000`.
fn number(tick: f64) -> String {
    if tick < 0.999 {
        // One digit that is not 0.
        let text = format!("{tick:.6}");
        return text.trim_end_matches('0').to_owned();
    }
    let digits = format!("{tick:.0}");
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples
    }

    #[test]
    fn ticks_enclose_what_is_measured() {
        let ticks = |least, most, steps: &[f64]| {
            let axis = Axis::of(std::iter::once([least, most]), steps, [0.0, 1.0]);
            let ticks: Vec<_> = axis.ticks.iter().map(|tick| number(*tick)).collect();
            ticks.join(" ")
        };
        assert_eq!(ticks(1.0, 10_000.0, &[1.0]), "1 10 100 1,000 10,000");
        assert_eq!(ticks(0.3, 2.1, &[1.0, 2.0, 5.0]), "0.2 0.5 1 2 5");
        assert_eq!(ticks(7.0, 7.0, &[1.0, 2.0, 5.0]), "5 10");
    }

    #[test]
    fn each_factor_of_ten_is_as_long_as_the_next() {
        let axis = Axis::of(std::iter::once([1.0, 1e4]), &[1.0], [100.0, 500.0]);
        let at: Vec<_> = axis.ticks.iter().map(|tick| axis.at(*tick)).collect();
        for (got, wanted) in at.into_iter().zip([100.0, 200.0, 300.0, 400.0, 500.0]) {
            assert!((got - wanted).abs() < 1e-6, "{got}");
        }
    }

    #[test]
    fn a_picture_has_a_line_through_the_medians_and_a_name_for_each_contestant() {
        let few = samples(&[2e3, 1e3, 5e3]);
        let many = samples(&[10e3]);
        let none = samples(&[]);
        let chart = Chart {
            title: "a < b & c".into(),
            labels: ["number".into(), "ms".into()],
            curves: vec![
                Curve::new("ours", [(0, &few), (1, &few), (100, &many)], 1e3),
                Curve::new("theirs", [(1, &none)], 1e3),
            ],
        };
        let svg = chart.svg();
        // From 1 to 10 ms: 2 is 0.301 of the way up.
        let points = format!("points=\"{LEFT:.1},266.7 {RIGHT:.1},{TOP:.1}\"");
        assert!(svg.contains(&points), "{svg}");
        assert!(svg.contains(">ours</text>") && svg.contains("a &lt; b &amp; c"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
