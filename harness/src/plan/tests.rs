use super::*;
use suites::model::WeightFormat;

fn host() -> Host {
    Host {
        energy_window: None,
        cpus: 2,
        available_bytes: Some(22_900_000_000),
        isas: vec!["scalar".into(), "avx2".into()],
        files: BTreeMap::new(),
        ternary: BTreeSet::new(),
        outside: Outside::default(),
    }
}

fn plan(suite: &str, filter: &Filter, host: &Host) -> Result<Plan> {
    let catalogue = Catalogue::embedded()?;
    make(&catalogue.suite(suite)?, &catalogue, filter, host)
}

fn na(plan: &Plan, id: &str) -> Option<String> {
    plan.cells.iter().find(|c| c.cell.id() == id).unwrap_or_else(|| panic!("no cell {id}")).na.clone()
}

#[test]
fn what_does_not_fit_is_na_with_the_reason() {
    let plan = plan("x86-full", &Filter::default(), &host()).unwrap();
    assert_eq!(na(&plan, "ternary/13b/t2/tg128"), None);
    let reason = na(&plan, "f16/13b/t2/tg128").unwrap();
    assert!(reason.starts_with("needs 2") && reason.ends_with("22.9 GB available"), "{reason}");
    assert!(na(&plan, "ternary/100b/t1/pp512").unwrap().starts_with("needs 2"));
    let attempted: Vec<_> = plan.steps.iter().map(|s| plan.cells[s.cell as usize].na.clone()).collect();
    assert!(attempted.iter().all(Option::is_none));
}

const OWN: &str = r#"
name = "own"
about = "a test"
blocks = 2
seed = 9
timeout = "10s"
min_window = "1s"
[[group]]
models = ["tiny-260k", "smollm2-135m"]
engines = ["ternary", "f16"]
threads = [1, 3]
workloads = ["tg8", "tg8@d510"]
isa = "avx512"
"#;

#[test]
fn each_reason_is_named() {
    let catalogue = Catalogue::embedded().unwrap();
    let text = OWN.replace("isa = \"avx512\"", "");
    let make = |text: &str, host: &Host| {
        make(&Suite::parse(text, "own", &catalogue).unwrap(), &catalogue, &Filter::default(), host).unwrap()
    };
    let own = make(&text, &host());
    assert_eq!(na(&own, "f16/tiny-260k/t1/tg8"), None);
    assert!(na(&own, "f16/tiny-260k/t3/tg8").unwrap().contains("3 threads, 2 CPUs"));
    assert!(na(&own, "f16/tiny-260k/t1/tg8@d510").unwrap().contains("518 tokens, the model allows 512"));
    for engine in ["f16", "ternary"] {
        let reason = na(&own, &format!("{engine}/smollm2-135m/t1/tg8")).unwrap();
        assert!(reason.contains("run scripts/fetch-data --only smollm2-135m"), "{reason}");
    }
    let mut with_file = host();
    with_file.files.insert("smollm2-135m".into(), Ok("x.gguf".into()));
    let ternary = "ternary/smollm2-135m/t1/tg8";
    assert_eq!(na(&make(&text, &with_file), "f16/smollm2-135m/t1/tg8"), None);
    assert_eq!(na(&make(&text, &with_file), ternary).unwrap(), "no ternary weights in this file");
    with_file.ternary.insert("smollm2-135m".into());
    assert_eq!(na(&make(&text, &with_file), ternary), None);
    let forced = make(OWN, &host());
    assert!(na(&forced, "f16/tiny-260k/t1/tg8/isa-avx512").unwrap().contains("no avx512 on this CPU"));
}

#[test]
fn the_order_is_seeded_and_every_block_whole() {
    let filter = Filter::default();
    let (a, b) = (plan("x86-quick", &filter, &host()).unwrap(), plan("x86-quick", &filter, &host()).unwrap());
    assert_eq!(a, b);
    for block in 0..3 {
        let mut cells: Vec<u32> = a.steps.iter().filter(|s| s.block == block).map(|s| s.cell).collect();
        assert!(!cells.is_sorted(), "block {block} is shuffled");
        cells.sort_unstable();
        assert_eq!(cells, (0..a.cells.len() as u32).collect::<Vec<_>>());
    }
    let of = |block| a.steps.iter().filter(move |s| s.block == block).map(|s| s.cell).collect::<Vec<_>>();
    assert_ne!(of(0), of(1));
    assert!(a.steps.is_sorted_by_key(|s| s.block), "earlier blocks come first");
}

#[test]
fn filters_and_shards() {
    let all = plan("x86-quick", &Filter::default(), &host()).unwrap();
    let mut ids: Vec<String> = Vec::new();
    for i in 0..3 {
        let filter = Filter { shard: Some((i, 3)), ..Filter::default() };
        ids.extend(plan("x86-quick", &filter, &host()).unwrap().cells.iter().map(|c| c.cell.id()));
    }
    let mut wanted: Vec<String> = all.cells.iter().map(|c| c.cell.id()).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted, "shards are a partition");
    let filter = Filter {
        engines: Some(vec!["f16".into()]),
        models: Some(vec!["125m".into()]),
        threads: Some(vec![2]),
        blocks: Some(1),
        shard: None,
    };
    let few = plan("x86-quick", &filter, &host()).unwrap();
    assert_eq!((few.cells.len(), few.steps.len()), (2, 2));
}

#[test]
fn unknown_names_get_the_nearest() {
    let filter = Filter { models: Some(vec!["125n".into()]), ..Filter::default() };
    let error = plan("x86-quick", &filter, &host()).unwrap_err();
    assert!(error.to_string().contains("did you mean `125m`"), "{error}");
    assert_eq!(crate::error::exit_code(&error), 64);
    let filter = Filter { threads: Some(vec![77]), ..Filter::default() };
    assert_eq!(crate::error::exit_code(&plan("x86-quick", &filter, &host()).unwrap_err()), 64);
}

#[test]
fn bigger_takes_longer() {
    let catalogue = Catalogue::embedded().unwrap();
    let ns = |model: &str, cell: &str, threads| {
        let spec = catalogue.model(model).unwrap();
        let cell = Cell {
            threads,
            workload: cell.parse().unwrap(),
            ..reference_cell(spec, &catalogue.engines[1], KvCache::F16, 1)
        };
        predict::cell_ns(spec, WeightFormat::F16, &cell, std::time::Duration::from_secs(1))
    };
    assert!(ns("7b", "pp512", 1) > 5 * ns("700m", "pp512", 1));
    assert!(ns("7b", "tg128", 1) > ns("7b", "tg128", 2));
}

/// A bounded copy is of an f16 head, and memory beside it.
#[test]
fn bounded_heads_need_f16_and_room() {
    let catalogue = Catalogue::embedded().unwrap();
    let engine = |name: &'static str| catalogue.engine(name).unwrap();
    let (f16, q6) = (catalogue.model("2b4t-z80").unwrap(), catalogue.model("2b4t-q6-z80").unwrap());
    let host = Host { available_bytes: None, isas: Vec::new(), ..self::host() };
    let reason = |model, name: &'static str| {
        let cell = Cell { isa: None, ..reference_cell(model, engine(name), KvCache::F16, 2) };
        not_applicable(&host, &cell, model, engine(name), 0)
    };
    assert_eq!((reason(f16, "ternary-bounded"), reason(q6, "ternary")), (None, None));
    assert!(reason(q6, "ternary-sparse-1.6-bounded").unwrap().contains("q6_k"));
    let more = f16.engine_bytes(engine("ternary-bounded")) - f16.engine_bytes(engine("ternary"));
    // Eight bits a weight, and 5 % for scales, norms and whole cache lines.
    assert!((1.04..1.07).contains(&(more as f64 / (128_256.0 * 2560.0))), "{more}");
}

/// Where energy is measured, rest before and after and longer windows are part of what is predicted.
#[test]
fn rest_and_longer_windows_are_predicted_where_energy_is_measured() {
    let catalogue = Catalogue::embedded().unwrap();
    let suite = catalogue.suite("x86-quick").unwrap();
    let total = |energy_window| {
        let host = Host { energy_window, ..self::host() };
        let plan = make(&suite, &catalogue, &Filter::default(), &host).unwrap();
        let open: Vec<u64> = plan.cells.iter().filter(|cell| cell.na.is_none()).map(|cell| cell.predicted_ns).collect();
        (open.iter().sum::<u64>(), open.len() as u64)
    };
    let (without, cells) = total(None);
    let (with, _) = total(Some(std::time::Duration::from_secs(2)));
    let rest = u64::try_from(suite.idle.as_nanos()).unwrap() * 2;
    assert!(with >= without + cells * rest && suite.idle.as_secs() >= 2, "{with} {without} {cells}");
}
