//! Where texts may stand so that none covers another: beside their lines, clear of what else is drawn.

/// A line from one end to the other, in logical units.
pub(super) type Line = [(f64, f64); 2];

/// How far a text lies from the line that it names, in logical units.
const GAP: f64 = 4.0;
/// Places tried along a line.
const TRIES: u32 = 40;
/// Rows of text away from its line that a text may stand at most, where others have the nearer ones.
const ROWS: u32 = 4;

/// A rectangle in logical units; down is more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The square of `half` a side around a place.
    pub(super) fn around((x, y): (f64, f64), half: f64) -> Area {
        Area { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    pub(super) fn meets(&self, other: &Area) -> bool {
        let across = self.left < other.right && other.left < self.right;
        across && self.top < other.bottom && other.top < self.bottom
    }

    fn holds(&self, other: &Area) -> bool {
        let across = self.left <= other.left && other.right <= self.right;
        across && self.top <= other.top && other.bottom <= self.bottom
    }

    /// Whether any of a line lies inside (Liang and Barsky's clipping).
    fn crossed(&self, [from, to]: &Line) -> bool {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let edges = [
            (-dx, from.0 - self.left),
            (dx, self.right - from.0),
            (-dy, from.1 - self.top),
            (dy, self.bottom - from.1),
        ];
        let (mut enters, mut leaves) = (0.0f64, 1.0f64);
        for (towards, inside) in edges {
            if towards == 0.0 {
                if inside <= 0.0 {
                    return false;
                }
            } else if towards < 0.0 {
                enters = enters.max(inside / towards);
            } else {
                leaves = leaves.min(inside / towards);
            }
        }
        enters < leaves
    }
}

/// A text that names a line.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// The line, from left to right, level or rising.
    pub(super) line: Line,
    /// Width and height of the text.
    pub(super) size: (f64, f64),
    /// Whether the text stands above the line, to the left of its place on it, or below, to the right.
    pub(super) upper: bool,
}

impl Label {
    fn is_level(&self) -> bool {
        self.line[0].1 == self.line[1].1
    }

    /// Places `rows` of text away from the line, from its upper end to its lower; a level line has both sides.
    fn places(&self, rows: std::ops::Range<u32>) -> impl Iterator<Item = Area> + '_ {
        let [from, to] = self.line;
        let level = self.is_level();
        let sides = if level { vec![self.upper, !self.upper] } else { vec![self.upper] };
        let (width, height) = self.size;
        let place = move |row: u32, upper: bool, share: f64| {
            let (x, y) = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            // Below a level line a text ends where above it would, so that it stays beside it.
            let left = if upper || level { x - GAP - width } else { x + GAP };
            let away = GAP + f64::from(row) * height;
            let top = if upper { y - away - height } else { y + away };
            Area { left, top, right: left + width, bottom: top + height }
        };
        let along =
            move |row, upper| (0..=TRIES).map(move |i| place(row, upper, 1.0 - f64::from(i) / f64::from(TRIES)));
        let beside = move |row| sides.clone().into_iter().flat_map(move |upper| along(row, upper));
        rows.flat_map(beside)
    }
}

/// A place for each label within `within`, no two over each other: clear of `taken` and `lines` if it can be, else of `taken`,
/// else some rows away from its line, else clear of the other labels alone; `None` where even that can't be.
pub(super) fn place(labels: &[Label], within: &Area, taken: &[Area], lines: &[Line]) -> Vec<Option<Area>> {
    let mut placed: Vec<Option<Area>> = vec![None; labels.len()];
    // Level lines first: their names end where the lines do, those of slopes may move along.
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|&at| !labels[at].is_level());
    for at in order {
        let label = &labels[at];
        let free = |area: &Area| within.holds(area) && !placed.iter().flatten().any(|other| other.meets(area));
        let clear = |area: &Area| free(area) && !taken.iter().any(|other| other.meets(area));
        let bare = |area: &Area| clear(area) && !lines.iter().any(|line| area.crossed(line));
        let found = label.places(0..1).find(bare).or_else(|| label.places(0..1).find(clear));
        let found = found.or_else(|| label.places(1..ROWS).find(bare)).or_else(|| label.places(1..ROWS).find(clear));
        let found = found.or_else(|| label.places(0..ROWS).find(free));
        placed[at] = found;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Area = Area { left: 80.0, top: 100.0, right: 720.0, bottom: 380.0 };

    fn label(line: Line, upper: bool) -> Label {
        Label { line, size: (110.0, 16.0), upper }
    }

    /// Two slopes three units apart, and three levels of which two begin where the slopes are: as two caches and a memory of nearly
    /// one speed have it.
    fn crowded() -> Vec<Label> {
        let mut labels =
            vec![label([(300.0, 380.0), (620.0, 110.0)], true), label([(306.0, 380.0), (626.0, 110.0)], false)];
        labels.extend([110.0, 240.0, 250.0, 262.0].map(|y| label([(640.0, y), (720.0, y)], true)));
        labels.extend([300.0, 304.0].map(|y| label([(400.0, y), (720.0, y)], true)));
        labels
    }

    #[test]
    fn no_label_covers_another_or_leaves_its_frame() {
        let labels = crowded();
        let lines: Vec<Line> = labels.iter().map(|l| l.line).collect();
        for taken in [Vec::new(), vec![Area::around((690.0, 250.0), 40.0)], vec![WITHIN]] {
            let areas: Vec<Area> = place(&labels, &WITHIN, &taken, &lines).into_iter().flatten().collect();
            assert_eq!(areas.len(), labels.len(), "each has a place");
            for (at, area) in areas.iter().enumerate() {
                assert!(WITHIN.holds(area), "{area:?}");
                assert!(areas[..at].iter().all(|other| !other.meets(area)), "{areas:?}");
            }
        }
    }

    #[test]
    fn labels_keep_clear_of_points_and_lines_where_they_can() {
        let labels = [label([(100.0, 200.0), (700.0, 200.0)], true)];
        let point = Area::around((650.0, 190.0), 6.0);
        let across: Line = [(560.0, 100.0), (560.0, 380.0)];
        let at = |taken: &[Area], lines: &[Line]| place(&labels, &WITHIN, taken, lines)[0].unwrap();
        assert_eq!(at(&[], &[]).right, 696.0, "its upper end first");
        let clear = at(&[point], &[across]);
        assert!(!clear.meets(&point) && !clear.crossed(&across), "{clear:?}");
        let none = place(&labels, &Area { right: 150.0, ..WITHIN }, &[], &[]);
        assert_eq!(none, [None], "no room at all");
    }

    /// A name of a level that has no room above keeps its place at the end, and the slope's gives way.
    #[test]
    fn levels_have_their_places_before_slopes() {
        let labels = [label([(300.0, 380.0), (560.0, 104.0)], false), label([(540.0, 104.0), (720.0, 104.0)], true)];
        let areas: Vec<Area> = place(&labels, &WITHIN, &[], &labels.each_ref().map(|l| l.line))
            .into_iter()
            .map(|area| area.unwrap())
            .collect();
        assert_eq!((areas[1].right, areas[1].top), (716.0, 108.0));
        assert!(!areas[0].meets(&areas[1]), "{areas:?}");
        assert!(labels.iter().all(|l| areas.iter().all(|area| !area.crossed(&l.line))), "{areas:?}");
    }

    #[test]
    fn lines_cross_areas_or_pass_by() {
        let area = Area::around((10.0, 10.0), 5.0);
        for (line, crosses) in [
            ([(0.0, 0.0), (20.0, 20.0)], true),
            ([(0.0, 12.0), (30.0, 12.0)], true),
            ([(0.0, 15.0), (30.0, 15.0)], false),
            ([(0.0, 20.0), (30.0, 10.0)], false),
            ([(0.0, 0.0), (4.0, 4.0)], false),
        ] {
            assert_eq!(area.crossed(&line), crosses, "{line:?}");
        }
    }
}
