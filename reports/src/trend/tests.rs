use super::*;

fn visit(day: u32) -> Visit {
    Visit {
        name: format!("night-{day}"),
        started: format!("2026-01-{day:02}T03:00:00.000Z"),
        suite: "nightly".to_owned(),
        suite_digest: "blake3:0123456789".to_owned(),
        revision: Some(format!("{day:02}abcdef0123")),
        dirty: Some(false),
        machine: MachineClass {
            cpu: "Example CPU".to_owned(),
            cpus: 2,
            cores: Some(1),
            isa: vec!["avx2".to_owned()],
            virtualisation: None,
            governor: None,
            turbo: None,
        },
        build: BuildClass {
            profile: "dev".to_owned(),
            opt_level: "3".to_owned(),
            debug_assertions: false,
            rustc: "rustc 1.95.0".to_owned(),
            target: "x86_64-unknown-linux-gnu".to_owned(),
            alone: None,
        },
    }
}

fn figure(visit: usize, value: Option<f64>) -> Figure {
    Figure {
        visit,
        cell: "ternary/700m/t2/tg128".to_owned(),
        engine: "ternary".to_owned(),
        model: "700m".to_owned(),
        model_digest: "blake3:77".to_owned(),
        threads: 2,
        workload: "tg128".to_owned(),
        metric: "tokens_per_second".to_owned(),
        unit: "tokens/s".to_owned(),
        kind: "measured".to_owned(),
        value,
        interval: value.map(|v| (v - 1.0, v + 1.0)),
        n: 3,
    }
}

/// Twenty nights; from the twelfth on a fifth slower.
fn nights() -> (Vec<Visit>, Vec<Figure>) {
    let value = |at: usize| if at < 11 { 100.0 } else { 80.0 } + (at * 7 % 5) as f64 / 10.0;
    let visits = (1..=20).map(visit).collect();
    (visits, (0..20).map(|at| figure(at, Some(value(at)))).collect())
}

#[test]
fn a_change_is_told_where_it_is_and_how_large() {
    let (visits, mut figures) = nights();
    figures.reverse();
    let found = series(&visits, &figures);
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!((one.points.len(), one.without, one.changes.len()), (20, 0, 1));
    assert_eq!(one.points[0].run, "night-1", "by their beginnings");
    let change = &one.changes[0];
    assert_eq!((one.points[change.at].run.as_str(), change.before, change.after), ("night-12", 100.2, 80.2));
    let told = table(&found);
    let want = "since 2026-01-12 03:00 (12abcde): 100 to 80.2 (-20.0 %), p 0.002";
    assert!(told.contains(want), "{told}");
    assert!(told.contains("Example CPU, 2 CPUs, avx2, 1 cores; dev build"), "{told}");
    assert!(markdown(&found).contains("| `ternary/700m/t2/tg128` | 20 | 2026-01-01 03:00 |"), "{}", markdown(&found));
    let rows = csv(&found).unwrap();
    assert_eq!(rows.lines().count(), 21);
    let marked: Vec<&str> = rows.lines().filter(|row| row.ends_with(",0.002")).collect();
    assert!(marked.len() == 1 && marked[0].contains("night-12,"), "{marked:?}");
    let document: serde_json::Value = serde_json::from_str(&json(&found)).unwrap();
    assert_eq!(document["series"][0]["changes"][0]["at"], 11);
    assert_eq!(document["series"][0]["machine"]["cpu"], "Example CPU");
}

#[test]
fn what_does_not_compare_is_no_series_together() {
    type Edit = fn(&mut Visit, &mut Figure);
    let edits: [Edit; 8] = [
        |visit, _| visit.machine.governor = Some("powersave".to_owned()),
        |visit, _| visit.machine.cpus = 4,
        |visit, _| visit.build.profile = "release".to_owned(),
        |visit, _| visit.build.rustc = "rustc 2".to_owned(),
        |visit, _| visit.suite = "other".to_owned(),
        |visit, _| visit.suite_digest = "blake3:99".to_owned(),
        |_, figure| figure.model_digest = "blake3:88".to_owned(),
        |_, figure| figure.kind = "modelled".to_owned(),
    ];
    for (number, edit) in edits.iter().enumerate() {
        let (mut visits, mut figures) = nights();
        for at in 11..20 {
            edit(&mut visits[at], &mut figures[at]);
        }
        let found = series(&visits, &figures);
        assert_eq!(found.iter().map(|s| s.points.len()).sum::<usize>(), 20, "{number}");
        assert!(found.len() == 2 && found.iter().all(|s| s.changes.is_empty()), "{number}: {found:?}");
        assert_eq!(table(&found).matches("Example CPU").count(), if number == 6 { 1 } else { 2 }, "{number}");
    }
    let (mut visits, figures) = nights();
    visits.iter_mut().for_each(|visit| visit.revision = None);
    assert_eq!(series(&visits, &figures).len(), 1, "revisions are what a history is of");
}

#[test]
fn runs_without_a_figure_are_counted_and_no_points() {
    let (visits, mut figures) = nights();
    figures[3] = figure(3, None);
    let found = series(&visits, &figures);
    assert_eq!((found[0].points.len(), found[0].without), (19, 1));
    assert!(table(&found).contains("19 + 1 without"), "{}", table(&found));
    assert!(series(&visits, &[figure(3, None)]).is_empty());
}

#[test]
fn a_chart_marks_the_change() {
    let (visits, mut figures) = nights();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.svg");
    let found = series(&visits, &figures);
    assert_eq!(draw(&found, &path).unwrap(), 0);
    let svg = std::fs::read_to_string(&path).unwrap();
    for text in
        ["change begins (advisory)", "ternary, 2 threads", "tokens_per_second (measured) over runs", "01-01 03:00"]
    {
        assert!(svg.contains(text), "{text}");
    }
    draw(&found, &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), svg, "the same series, the same bytes");
    figures[0].metric = "load_seconds".to_owned();
    assert!(matches!(draw(&series(&visits, &figures), &path), Err(crate::error::Error::Mixed(_))));
    assert!(matches!(draw(&[], &path), Err(crate::error::Error::Mixed(_))));
}
