//! A chart as data: panels, axes and series, with the scales that place them.

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Log,
}

/// An axis with its ticks.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<(f64, String)>,
}

/// The shape at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Filled,
    Hollow,
    /// A filled diamond, whatever the colour.
    Diamond,
    /// The shape of a place in a list of its own, whatever the colour: it stands for the model of its points, and the colour
    /// for the series.
    Shape(usize),
    None,
}

/// How points of one group are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    Solid,
    Dashed,
    None,
}

/// The colour of what is no engine: limits, rest, marks.
pub(crate) const NEUTRAL: usize = usize::MAX;

/// A point with its interval. Points of one `group` are joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) group: u32,
    /// The model it is of, where neither its series nor its panel says so.
    pub(crate) model: Option<String>,
    /// Replicates behind it, where it is a figure of some.
    pub(crate) n: Option<usize>,
}

impl Point {
    /// A point without an interval, of group 0.
    pub(crate) fn bare(x: f64, y: f64) -> Point {
        Point { x, y, ..Point::default() }
    }
}

/// A line of points.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) stroke: Stroke,
    pub(crate) marker: Marker,
    pub(crate) points: Vec<Point>,
}

/// How much of its place a bar takes; the rest is air.
pub(crate) const BAR_SHARE: f64 = 0.92;

/// A part of a bar, from the end of the one before.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) hatched: bool,
    pub(crate) size: f64,
}

/// A bar from 0, `width` wide around `x`, with the interval of its end, and above it one of its texts: of those from the longest to
/// the shortest the first that has room, or where none has the first, upright.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) x: f64,
    pub(crate) width: f64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) labels: Vec<String>,
    /// Replicates behind it, where it is a figure of some.
    pub(crate) n: Option<usize>,
}

/// An area between two lines: `(x, low, high)`.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) points: Vec<(f64, f64, f64)>,
}

/// A text that names a line, from its lower end to its upper: above the line or below it, wherever there is room.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) line: [(f64, f64); 2],
    pub(crate) text: String,
    pub(crate) upper: bool,
}

/// One pair of axes. `mark` is a horizontal line of reference.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) bands: Vec<Band>,
    pub(crate) notes: Vec<Note>,
    pub(crate) mark: Option<f64>,
}

impl Panel {
    /// A panel of lines.
    pub(crate) fn new(title: String, x: Axis, y: Axis, series: Vec<Series>) -> Panel {
        Panel { title, x, y, series, bars: Vec::new(), bands: Vec::new(), notes: Vec::new(), mark: None }
    }
}

/// A whole picture.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// Most panels beside each other: with one they are as wide as the picture, and taller.
    pub(crate) columns: usize,
    pub(crate) panels: Vec<Panel>,
}

impl Axis {
    /// Ticks at 1, 2, 5 (few decades) or at powers of ten, with room around the values. `None` without a value the
    /// scale can show.
    pub(crate) fn fit(label: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Option<Axis> {
        let usable =
            |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0) && v.abs() < 1e30 && v.abs() > 1e-30;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| usable(v) || (scale == Scale::Linear && *v == 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        let (low, high, ticks) = match scale {
            Scale::Log => log_axis(low, high),
            Scale::Linear => linear_axis(low.min(0.0), high),
        };
        let ticks = ticks.into_iter().map(|v| (v, tick_label(v))).collect();
        Some(Axis { label: label.to_owned(), scale, low, high, ticks })
    }

    /// A linear axis just around the values, wherever 0 is. `None` without a value.
    pub(crate) fn near(label: &str, values: impl Iterator<Item = f64>) -> Option<Axis> {
        let usable = values.filter(|v| v.is_finite() && v.abs() < 1e30);
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (v.min(low), v.max(high)));
        if low > high {
            return None;
        }
        let room = if high > low { (high - low) * 0.12 } else { (high.abs() * 0.1).max(1e-6) };
        let (low, high, ticks) = linear_axis(low - room, high + room * 0.4);
        let ticks = ticks.into_iter().map(|v| (v, tick_label(v))).collect();
        Some(Axis { label: label.to_owned(), scale: Scale::Linear, low, high, ticks })
    }

    /// An axis of `names` at 0, 1, 2 and so on.
    pub(crate) fn named(names: &[String]) -> Axis {
        let ticks = names.iter().enumerate().map(|(at, name)| (at as f64, name.clone())).collect();
        let high = names.len().max(1) as f64 - 0.5;
        Axis { label: String::new(), scale: Scale::Linear, low: -0.5, high, ticks }
    }

    /// Where a value lies, 0 at the low end and 1 at the high end; `None` if the scale can't show it.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Log => return None,
        };
        (place.is_finite() && (-0.02..=1.02).contains(&place)).then_some(place)
    }
}

fn log_axis(low: f64, high: f64) -> (f64, f64, Vec<f64>) {
    // A tenth of the range, at least a sixth of a decade, keeps markers off the frame.
    let room = ((high / low).log10() * 0.07).max(0.15);
    let (low, high) = (low / 10f64.powf(room), high * 10f64.powf(room));
    let decades = (high / low).log10();
    // Close values need more ticks: with three a decade an axis may have but one.
    let steps: &[f64] = match decades {
        d if d < 0.8 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        d if d < 1.6 => &[1.0, 2.0, 3.0, 5.0, 7.0],
        d if d < 3.2 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let stride = ((decades / 8.0).ceil() as i32).max(1);
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decade = |e: i32| steps.iter().map(move |s| s * 10f64.powi(e));
    let ticks = (first..=last).filter(|e| stride == 1 || e % stride == 0).flat_map(decade);
    (low, high, ticks.filter(|&v| v >= low && v <= high).collect())
}

fn linear_axis(low: f64, high: f64) -> (f64, f64, Vec<f64>) {
    let high = if high > low { high + (high - low) * 0.08 } else { low + 1.0 };
    let rough = (high - low) / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|s| s * unit).find(|&s| s >= rough).unwrap_or(unit * 10.0);
    let count = ((high - low) / step).floor() as i32;
    let start = (low / step).ceil();
    (low, high, (0..=count.min(20)).map(|i| (start + f64::from(i)) * step).filter(|&v| v <= high).collect())
}

/// `0.05`, `20`, `5k`, `2M`.
fn tick_label(value: f64) -> String {
    let plain = |v: f64| {
        let text = format!("{v:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        v if v >= 1e15 || (v < 1e-4 && v > 0.0) => format!("{value:.0e}"),
        v if v >= 1e12 => format!("{}T", plain(value / 1e12)),
        v if v >= 1e9 => format!("{}G", plain(value / 1e9)),
        v if v >= 1e6 => format!("{}M", plain(value / 1e6)),
        v if v >= 1e4 => format!("{}k", plain(value / 1e3)),
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::fit("x", Scale::Log, [3.0, 400.0].into_iter()).unwrap();
        assert!(axis.place(3.0).unwrap() > 0.0 && axis.place(400.0).unwrap() < 1.0);
        assert_eq!(
            axis.ticks.iter().map(|t| t.1.as_str()).collect::<Vec<_>>(),
            ["5", "10", "20", "50", "100", "200", "500"]
        );
        for close in [1.0, 2.9, 3.79, 7.1, 9.9] {
            let axis = Axis::fit("x", Scale::Log, [close, close * 1.01].into_iter()).unwrap();
            assert!(axis.ticks.len() >= 2, "{close}: {:?}", axis.ticks);
        }
        let axis = Axis::fit("x", Scale::Linear, [0.0, 9.0].into_iter()).unwrap();
        assert_eq!(axis.ticks.iter().map(|t| t.1.as_str()).collect::<Vec<_>>(), ["0", "2", "4", "6", "8"]);
    }

    #[test]
    fn odd_values_do_not_panic() {
        for scale in [Scale::Linear, Scale::Log] {
            assert!(Axis::fit("x", scale, [f64::NAN, f64::INFINITY].into_iter()).is_none());
            for values in [[1.0, 1.0], [1e-29, 1e29], [5.0, 5.0]] {
                let axis = Axis::fit("x", scale, values.into_iter()).unwrap();
                assert!(axis.ticks.len() < 60);
            }
        }
        assert!(Axis::fit("x", Scale::Linear, [0.0].into_iter()).is_some());
        assert!(Axis::near("x", [f64::NAN].into_iter()).is_none());
        for values in [[0.0, 0.0], [0.5, 0.5], [-3.0, 1e29]] {
            let axis = Axis::near("x", values.into_iter()).unwrap();
            assert!(values.iter().all(|v| (0.0..=1.0).contains(&axis.place(*v).unwrap())), "{axis:?}");
        }
    }
}
