//! Line plots as inline SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df"];

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points in the plot's units.
    pub points: Vec<(f64, f64)>,
}

/// An axis: its range, its marks and whether it is logarithmic.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: &'static str,
    /// Smallest and largest value.
    pub range: (f64, f64),
    /// Value and text of each mark.
    pub marks: Vec<(f64, String)>,
    /// Equal ratios have equal lengths.
    pub logarithmic: bool,
}

impl Axis {
    /// Place of `value` between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        let scale = |x: f64| {
            if self.logarithmic {
                x.max(1e-12).ln()
            } else {
                x
            }
        };
        let (low, high) = (scale(self.range.0), scale(self.range.1));
        if high <= low {
            return 0.0;
        }
        ((scale(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// An axis from 0 to a round number above `max`.
    pub fn from_zero(title: &'static str, max: f64, show: impl Fn(f64) -> String) -> Self {
        let step = round_step(max / 4.0);
        let count = (max / step).ceil().max(1.0);
        let marks = (0..=count as u32).map(|i| f64::from(i) * step);
        Self {
            title,
            range: (0.0, count * step),
            marks: marks.map(|value| (value, show(value))).collect(),
            logarithmic: false,
        }
    }

    /// A logarithmic axis over whole decades around `low` to `high`.
    pub fn decades(
        title: &'static str,
        (low, high): (f64, f64),
        show: impl Fn(f64) -> String,
    ) -> Self {
        let first = low.max(1e-9).log10().floor() as i32;
        let last = (high.max(1e-9).log10().ceil() as i32).max(first + 1);
        let marks = (first..=last).map(|power| 10f64.powi(power));
        Self {
            title,
            range: (10f64.powi(first), 10f64.powi(last)),
            marks: marks.map(|value| (value, show(value))).collect(),
            logarithmic: true,
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    if !step.is_finite() || step <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|f| f * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// Draws the lines.
pub fn render(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let at_x = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| TOP + (1.0 - y.place(value)) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    svg += &grid(x, y, at_x, at_y);
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(px, py)| format!("{:.1},{:.1}", at_x(*px), at_y(*py)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>",
            points.join(" ")
        );
    }
    svg + "</svg>\n" + &legend(y, lines)
}

/// A line and a text for each mark, and the title of the x axis.
fn grid(x: &Axis, y: &Axis, at_x: impl Fn(f64) -> f64, at_y: impl Fn(f64) -> f64) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg = String::new();
    for (value, text) in &y.marks {
        let at = at_y(*value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (value, text) in &x.marks {
        let at = at_x(*value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            bottom + 18.0
        );
    }
    let (middle, below) = ((LEFT + right) / 2.0, HEIGHT - 6.0);
    let title = x.title;
    svg + &format!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{title}</text>\n")
}

fn legend(y: &Axis, lines: &[Line]) -> String {
    let names = lines.iter().zip(COLOURS.iter().cycle());
    let names: Vec<String> = names
        .map(|(line, colour)| format!("<b style=\"color:{colour}\">{}</b>", line.name))
        .collect();
    format!(
        "<p class=\"legend\">{}: {}</p>\n",
        y.title,
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(0.9), 1.0);
        assert_eq!(round_step(130.0), 200.0);
        assert_eq!(round_step(4_100.0), 5_000.0);
        assert_eq!(round_step(0.0), 1.0);
        assert_eq!(round_step(f64::NAN), 1.0);
    }

    #[test]
    fn points_stay_inside_the_frame() {
        let x = Axis::from_zero("s", 10.0, |v| v.to_string());
        let y = Axis::decades("us", (3.0, 700.0), |v| v.to_string());
        assert_eq!(y.range, (1.0, 1000.0));
        assert_eq!((x.place(-5.0), x.place(1e9)), (0.0, 1.0));
        assert!((y.place(31.62) - 0.5).abs() < 0.001);
        let line = Line {
            name: "read".to_owned(),
            points: vec![(0.0, 0.0), (10.0, 1e12)],
        };
        let svg = render(&x, &y, &[line]);
        assert!(svg.contains("points=\"80.0,256.0 840.0,14.0\""), "{svg}");
    }
}
