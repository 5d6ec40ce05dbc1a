//! Rankings, with figures worked out by hand.

mod fixture;

use fixture::{near, record, run};
use reports::ranking::{Ranking, apart, rank, show};
use reports::{RunData, sheet::Format};
use std::collections::BTreeMap;
use suites::cell::{Cell, KvCache};
use suites::record::{NotApplicable, Outcome, SCHEMA};
use suites::run::{Plan, Run};

/// Records of engines at a thread count; 0 is a block that was not applicable.
fn data(cells: &[(&str, u32, &[f64])]) -> RunData {
    let mut records = Vec::new();
    for (engine, threads, speeds) in cells {
        let (engine, model, threads) = ((*engine).to_owned(), "125m".to_owned(), *threads);
        let cell = Cell { engine, model, threads, workload: "tg8".parse().unwrap(), kv: KvCache::F16, isa: None };
        for (block, speed) in (0..).zip(*speeds) {
            let mut record = record(&cell, block, *speed);
            if *speed <= 0.0 {
                record.outcome = Outcome::Na(NotApplicable { reason: "needs 60 GiB".to_owned() });
            }
            records.push(record);
        }
    }
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    RunData { run: run(), plan, records, notes: Vec::new(), items: BTreeMap::new() }
}

fn ranks(ranking: &Ranking, place: usize) -> Vec<(usize, bool, &str)> {
    ranking.places[place].standings.iter().map(|s| (s.rank, s.tied, s.engine.as_str())).collect()
}

/// The machine drifts threefold over the blocks. z over x is 1.05, 0.95, 0.967: its interval holds 1, so they share rank 1; y
/// is 0.9 of x in every block: rank 3, though its figures overlap those of x.
#[test]
fn ranks_are_shared_where_the_interval_holds_1() {
    let data = data(&[("x", 1, &[10.0, 20.0, 30.0]), ("y", 1, &[9.0, 18.0, 27.0]), ("z", 1, &[10.5, 19.0, 29.0])]);
    let found = rank(&data, None, &[]);
    assert_eq!(ranks(&found, 0), [(1, true, "x"), (1, true, "z"), (3, false, "y")]);
    let [x, z, y] = found.places[0].standings.as_slice() else { panic!("three") };
    assert_eq!((x.ratio, x.decided_by), (None, None));
    let ratio = z.ratio.unwrap();
    near(Some(ratio.value), 29.0 / 30.0);
    near(ratio.lo, 0.95);
    near(ratio.hi, 1.05);
    let ratio = y.ratio.unwrap();
    [Some(ratio.value), ratio.lo, ratio.hi].into_iter().for_each(|figure| near(figure, 0.9));
    assert_eq!(ratio.n, 3);
    // Over another, ranks stay and ratios are of that one.
    let over = rank(&data, Some("y"), &[]);
    assert_eq!(ranks(&over, 0), ranks(&found, 0));
    near(over.places[0].standings[0].ratio.map(|ratio| ratio.value), 1.0 / 0.9);
    assert_eq!(over.places[0].standings[2].ratio, None);
    assert_eq!(rank(&data, None, &["x".to_owned(), "y".to_owned()]).places[0].standings.len(), 2);
}

#[test]
fn one_block_tells_none_from_another() {
    let found = rank(&data(&[("x", 1, &[10.0]), ("y", 1, &[1.0])]), None, &[]);
    assert_eq!(ranks(&found, 0), [(1, true, "x"), (1, true, "y")]);
    assert_eq!(found.places[0].standings[1].ratio.unwrap().lo, None);
}

/// At two threads z is N/A: overall is over one place with all three, over two without it. There y over x is 0.9 and 0.5, so
/// the geometric mean is the root of 0.45 in every block.
#[test]
fn overall_is_over_places_that_every_engine_has() {
    let data = data(&[
        ("nowhere", 1, &[0.0; 3]),
        ("x", 1, &[10.0, 20.0, 30.0]),
        ("y", 1, &[9.0, 18.0, 27.0]),
        ("z", 1, &[5.0, 5.0, 5.0]),
        ("x", 2, &[40.0; 3]),
        ("y", 2, &[20.0; 3]),
        ("z", 2, &[0.0; 3]),
        ("x", 4, &[50.0; 3]),
    ]);
    let found = rank(&data, None, &[]);
    assert_eq!((found.places.len(), found.single, found.overall_places, found.left_out), (2, 1, 1, 2));
    assert_eq!(found.places[0].absent[0].0, "nowhere", "it is told of, and in no other's way");
    assert_eq!(found.places[1].absent, [("z".to_owned(), "na: needs 60 GiB".to_owned())]);
    assert_eq!(found.overall.iter().map(|s| s.engine.as_str()).collect::<Vec<_>>(), ["x", "y", "z"]);
    let two = rank(&data, None, &["x".to_owned(), "y".to_owned()]);
    assert_eq!((two.overall_places, two.left_out), (2, 1));
    let ratio = two.overall[1].ratio.unwrap();
    [Some(ratio.value), ratio.lo, ratio.hi].into_iter().for_each(|figure| near(figure, 0.45f64.sqrt()));
    near(Some(two.overall[0].tokens_per_second), (20.0f64 * 40.0).sqrt());
    let csv = show(std::slice::from_ref(&found), &[], Format::Csv).unwrap();
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 + 2 + 3, "{csv}");
    let table = show(&[found], &[], Format::Table).unwrap();
    assert!(table.contains("over the 1 places") && table.contains("na: needs 60 GiB"), "{table}");
}

#[test]
fn without_a_place_of_all_nothing_is_ranked_overall() {
    let found = rank(&data(&[("x", 1, &[1.0; 3]), ("y", 1, &[2.0; 3]), ("z", 2, &[1.0; 3])]), None, &[]);
    assert!(found.overall.is_empty() && found.notes.iter().any(|note| note.contains("nothing is ranked overall")));
}

/// x was measured at one thread in block 0 alone, at two in block 1 alone.
#[test]
fn an_engine_without_a_whole_block_is_told_of() {
    let data = data(&[
        ("x", 1, &[1.0, 0.0]),
        ("x", 2, &[0.0, 1.0]),
        ("y", 1, &[2.0; 2]),
        ("y", 2, &[2.0; 2]),
        ("z", 1, &[1.0; 2]),
        ("z", 2, &[1.0; 2]),
    ]);
    let found = rank(&data, None, &[]);
    assert_eq!(found.overall.iter().map(|s| (s.rank, s.engine.as_str())).collect::<Vec<_>>(), [(1, "y"), (2, "z")]);
    assert!(found.notes.iter().any(|note| note.contains("x is not ranked overall")), "{:?}", found.notes);
}

#[test]
fn runs_stand_apart_with_the_reason() {
    let one = data(&[("x", 1, &[1.0; 3])]);
    let mut two = one.clone();
    two.run = Run { name: "two".to_owned(), ..run() };
    let mut three = two.clone();
    (three.run.name, three.run.machine.cpus) = ("three".to_owned(), 64);
    let told = apart(&[one, two, three]);
    assert!(told[0].contains("made-up and two are alike") && told[0].contains("different times"), "{told:?}");
    assert!(told[1].contains("made-up and three can't be compared: machine's number of CPUs: 4 and 64"), "{told:?}");
    assert!(apart(&[]).is_empty());
}
