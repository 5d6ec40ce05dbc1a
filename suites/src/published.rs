//! What papers print: tables of figures by device, engine and size of model, as data (`published.toml`).

use crate::error::Error;
use crate::model::with_hint;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

const PUBLISHED: &str = include_str!("../published.toml");
const ORIGIN: &str = "published.toml";

/// What a table's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Decoded tokens a second, in tokens/s: more is better.
    TokensPerSecond,
    /// Joules of a decoded token, in J/token: less is better.
    JoulesPerToken,
}

impl Metric {
    /// Its unit as tables print it.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::TokensPerSecond => "tokens/s",
            Metric::JoulesPerToken => "J/token",
        }
    }
}

/// With how many threads a table's figures were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The count that was fastest, chosen for each figure.
    Best,
    /// As many.
    Count(u32),
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threads::Best => write!(f, "best thread count"),
            Threads::Count(1) => write!(f, "1 thread"),
            Threads::Count(threads) => write!(f, "{threads} threads"),
        }
    }
}

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Threads, String> {
        match (text, text.parse()) {
            ("best", _) => Ok(Threads::Best),
            (_, Ok(threads)) if threads > 0 => Ok(Threads::Count(threads)),
            _ => Err(format!("expected `best` or a number of threads, found `{text}`")),
        }
    }
}

impl Threads {
    /// Whether a cell with as many threads may stand for it.
    pub fn fits(self, threads: u32) -> bool {
        self == Threads::Best || self == Threads::Count(threads)
    }
}

/// One engine on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The device, as the paper names it.
    pub device: String,
    /// The engine or kernel, as the paper names it.
    pub engine: String,
    /// Bits a weight, where the paper tells.
    pub bits: Option<f64>,
    figures: BTreeMap<String, f64>,
}

impl Row {
    /// The figure of a model size in the table's unit; `None` where the paper has N/A.
    pub fn figure(&self, size: &str) -> Option<f64> {
        self.figures.get(size).copied()
    }
}

/// How a paper sets one engine against another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Against {
    /// The engine's figure over the other's.
    #[serde(rename = "x")]
    Times,
    /// The change from the other's figure to the engine's, in per cent: less than 0 for a reduction.
    #[serde(rename = "%")]
    Percent,
}

/// What a paper prints of two rows of one device, rounded as printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The device of both rows.
    pub device: String,
    /// The engine that is compared.
    pub engine: String,
    /// The engine that it is compared with.
    pub over: String,
    /// In which form.
    pub against: Against,
    figures: BTreeMap<String, f64>,
}

impl Comparison {
    /// The printed ratio or change of a model size; `None` where the paper has none.
    pub fn figure(&self, size: &str) -> Option<f64> {
        self.figures.get(size).copied()
    }
}

/// A table of a paper.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Paper and table, such as `2410.16144/table4`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Paper, version and table, as a legend prints them.
    pub source: String,
    /// What its figures are.
    pub metric: Metric,
    /// With how many threads they were reached.
    pub threads: Threads,
    /// Sizes of model, the least first: names of `models.toml`.
    pub sizes: Vec<String>,
    /// What the paper leaves unsaid, or says beside the table.
    pub note: Option<String>,
    /// Every engine on every device.
    pub rows: Vec<Row>,
    /// What the paper makes of pairs of rows.
    pub comparisons: Vec<Comparison>,
}

impl Table {
    /// The row of an engine on a device.
    pub fn row(&self, device: &str, engine: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.device == device && row.engine == engine)
    }

    /// The figure of an engine on a device for a model size, in the unit of the metric; `None` where the paper has none.
    pub fn figure(&self, device: &str, engine: &str, size: &str) -> Option<f64> {
        self.row(device, engine)?.figure(size)
    }

    /// Devices in the order of the rows.
    pub fn devices(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.rows.iter().map(|row| row.device.as_str()).filter(|device| seen.insert(*device)).collect()
    }
}

/// Every table that the program knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The tables, in the file's order.
    pub tables: Vec<Table>,
}

impl Published {
    /// The tables that come with the program.
    ///
    /// # Errors
    /// None in a tested build: the embedded file is checked by this crate's tests.
    pub fn embedded() -> Result<Published, Error> {
        Published::parse(PUBLISHED, ORIGIN)
    }

    /// The table called `name`, such as `2410.16144/table4`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn table(&self, name: &str) -> Result<&Table, Error> {
        let found = self.tables.iter().find(|table| table.name == name);
        found.ok_or_else(|| Error::unknown("published table", name, self.tables.iter().map(|t| t.name.as_str())))
    }

    /// Reads tables from a TOML text.
    ///
    /// # Errors
    /// Syntax, unknown keys, repeated names and rows, figures of sizes that the table lacks, figures that can't be.
    pub fn parse(text: &str, origin: &str) -> Result<Published, Error> {
        let parse = |e: toml::de::Error| Error::Parse { origin: origin.to_owned(), message: with_hint(&e.to_string()) };
        let wire: Wire = toml::from_str(text).map_err(parse)?;
        let mut tables: Vec<Table> = Vec::new();
        for table in wire.table {
            let table = table.check(origin)?;
            if tables.iter().any(|known| known.name == table.name) {
                return Err(bad(origin, &table.name, "name", "a name that no other table has", &table.name));
            }
            tables.push(table);
        }
        Ok(Published { tables })
    }
}

fn bad(origin: &str, table: &str, key: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    Error::Value {
        origin: origin.to_owned(),
        key: format!("table `{table}`: {key}"),
        expected: expected.to_owned(),
        found: format!("`{found}`"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    table: Vec<WireTable>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireThreads {
    Count(u32),
    Word(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTable {
    name: String,
    title: String,
    source: String,
    metric: Metric,
    unit: String,
    threads: WireThreads,
    sizes: Vec<String>,
    note: Option<String>,
    row: Vec<WireRow>,
    #[serde(default)]
    comparison: Vec<WireComparison>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRow {
    device: String,
    engine: String,
    bits: Option<f64>,
    figures: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireComparison {
    device: String,
    engine: String,
    over: String,
    unit: Against,
    figures: BTreeMap<String, f64>,
}

impl WireTable {
    fn check(self, origin: &str) -> Result<Table, Error> {
        let bad = |key: &str, expected: &str, found: &str| bad(origin, &self.name, key, expected, found);
        if self.unit != self.metric.unit() {
            return Err(bad("unit", self.metric.unit(), &self.unit));
        }
        let threads = match &self.threads {
            WireThreads::Count(count) if *count > 0 => Threads::Count(*count),
            WireThreads::Word(word) if word == "best" => Threads::Best,
            WireThreads::Count(count) => return Err(bad("threads", "1 or more, or `best`", &count.to_string())),
            WireThreads::Word(word) => return Err(bad("threads", "a count or `best`", word)),
        };
        if self.sizes.iter().collect::<BTreeSet<_>>().len() != self.sizes.len() {
            return Err(bad("sizes", "each size once", &self.sizes.join(", ")));
        }
        let known = |key: &str, figures: &BTreeMap<String, f64>| match figures.keys().find(|s| !self.sizes.contains(s))
        {
            Some(other) => Err(bad(key, "a size of the table", other)),
            None => Ok(()),
        };
        let mut rows: Vec<Row> = Vec::new();
        for row in &self.row {
            let key = format!("row {} on {}", row.engine, row.device);
            known(&key, &row.figures)?;
            if let Some(figure) = row.figures.values().find(|f| !(f.is_finite() && **f > 0.0)) {
                return Err(bad(&key, "figures over 0", &figure.to_string()));
            }
            if rows.iter().any(|r| r.device == row.device && r.engine == row.engine) {
                return Err(bad(&key, "one row of an engine and device", "a second one"));
            }
            let WireRow { device, engine, bits, figures } = row;
            let (device, engine, figures) = (device.clone(), engine.clone(), figures.clone());
            rows.push(Row { device, engine, bits: *bits, figures });
        }
        for c in &self.comparison {
            let key = format!("comparison of {} on {}", c.engine, c.device);
            known(&key, &c.figures)?;
            let there = |engine: &String| rows.iter().any(|r| r.device == c.device && r.engine == *engine);
            if let Some(missing) = [&c.engine, &c.over].into_iter().find(|engine| !there(engine)) {
                return Err(bad(&key, "engines that have rows of the device", missing));
            }
        }
        let comparison = |c: WireComparison| {
            let WireComparison { device, engine, over, unit, figures } = c;
            Comparison { device, engine, over, against: unit, figures }
        };
        let comparisons = self.comparison.into_iter().map(comparison).collect();
        let WireTable { name, title, source, metric, sizes, note, .. } = self;
        Ok(Table { name, title, source, metric, threads, sizes, note, rows, comparisons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    fn embedded() -> Published {
        Published::embedded().unwrap()
    }

    #[test]
    fn headline_figures_are_there_by_name() {
        let published = embedded();
        let figure = |table: &str, device: &str, engine: &str, size: &str| {
            published.table(table).unwrap().figure(device, engine, size)
        };
        assert_eq!(figure("2410.16144/table4", "i7-13700H", "bitnet.cpp", "13b"), Some(10.99));
        assert_eq!(figure("2410.16144/table4", "i7-13700H", "llama.cpp", "30b"), None, "N/A");
        assert_eq!(figure("2410.16144/table5", "M2 Ultra", "bitnet.cpp", "100b"), Some(1.27));
        assert_eq!(figure("2410.16144/table6", "i7-13700H", "bitnet.cpp", "7b"), Some(2.017));
        assert_eq!(figure("2502.11880/table7", "M2 Ultra", "I2_S", "700m"), Some(238.16));
        let [four, five] = ["2410.16144/table4", "2410.16144/table5"].map(|name| published.table(name).unwrap());
        assert_eq!((four.threads, five.threads), (Threads::Best, Threads::Count(2)));
        assert_eq!(four.devices(), ["M2 Ultra", "i7-13700H"]);
        let kernels = published.table("2502.11880/table7").unwrap();
        assert_eq!((kernels.rows.len(), kernels.row("i7-13700H", "TL2_0").unwrap().bits), (16, Some(1.67)));
        let error = published.table("2410.16144/table3").unwrap_err().to_string();
        assert!(error.contains("did you mean `2410.16144/table"), "{error}");
    }

    #[test]
    fn sizes_are_models_that_grow() {
        let catalogue = Catalogue::embedded().unwrap();
        for table in embedded().tables {
            let shape = |size: &String| match catalogue.model(size).unwrap() {
                crate::ModelSpec::Synthetic(shape) => shape.linear_params(),
                crate::ModelSpec::File(file) => panic!("{} is a file", file.name),
            };
            let params: Vec<u64> = table.sizes.iter().map(shape).collect();
            assert!(params.is_sorted_by(|a, b| a < b), "{}: {params:?}", table.name);
        }
    }

    #[test]
    fn a_bigger_model_is_slower_and_takes_more_joules() {
        for table in embedded().tables {
            for row in &table.rows {
                let figures: Vec<f64> = table.sizes.iter().filter_map(|size| row.figure(size)).collect();
                assert!(figures.len() >= 2 || table.sizes.len() == 3, "{}: {row:?}", table.name);
                let falls = table.metric == Metric::TokensPerSecond;
                let sorted = figures.is_sorted_by(|a, b| if falls { a > b } else { a < b });
                assert!(sorted, "{}: {} on {}: {figures:?}", table.name, row.engine, row.device);
            }
        }
    }

    /// Each printed ratio is one that figures rounded to the printed ones can have.
    #[test]
    fn printed_comparisons_follow_from_the_printed_figures() {
        let mut checked = 0;
        for table in embedded().tables {
            for c in &table.comparisons {
                for size in &table.sizes {
                    let figures = [&c.engine, &c.over].map(|engine| table.figure(&c.device, engine, size));
                    let (Some(printed), [Some(own), Some(other)]) = (c.figure(size), figures) else {
                        assert!(c.figure(size).is_none(), "{}: {size}: a ratio of nothing", table.name);
                        continue;
                    };
                    // Half of the last digit: two decimals of tokens/s and of joules over 1, three of the others.
                    let half = |figure: f64| {
                        if table.metric == Metric::JoulesPerToken && figure < 12.0 { 0.0005 } else { 0.005 }
                    };
                    let ends = [(own - half(own)) / (other + half(other)), (own + half(own)) / (other - half(other))];
                    let (low, high, digit) = match c.against {
                        Against::Times => (ends[0], ends[1], 0.005),
                        Against::Percent => ((ends[0] - 1.0) * 100.0, (ends[1] - 1.0) * 100.0, 0.05),
                    };
                    let fits = printed + digit >= low - 1e-9 && printed - digit <= high + 1e-9;
                    assert!(fits, "{}: {size} on {}: {printed}, not in {low} to {high}", table.name, c.device);
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 11 + 9 + 11 + 9 + 3 + 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = "[[table]]\nname = \"p/t\"\ntitle = \"t\"\nsource = \"s\"\nmetric = \"tokens_per_second\"\nunit = \"tokens/s\"\n\
                    threads = 2\nsizes = [\"1b\", \"7b\"]\n[[table.row]]\ndevice = \"d\"\nengine = \"e\"\nfigures = { \"1b\" = 2.0 }\n";
        assert_eq!(Published::parse(good, "x.toml").unwrap().tables.len(), 1);
        let comparison =
            "[[table.comparison]]\ndevice = \"d\"\nengine = \"e\"\nover = \"f\"\nunit = \"x\"\nfigures = {}\n";
        for (text, word) in [
            (good.replace("threads", "thread"), "thread"),
            (good.replace("threads = 2", "threads = \"all\""), "`best`"),
            (good.replace("threads = 2", "threads = 0"), "1 or more"),
            (good.replace("tokens/s", "J/token"), "unit"),
            (good.replace("2.0", "-2.0"), "over 0"),
            (good.replace("2.0", "nan"), "over 0"),
            (good.replace("\"1b\" = 2.0", "\"3b\" = 2.0"), "3b"),
            (good.replace("[\"1b\", \"7b\"]", "[\"1b\", \"1b\"]"), "once"),
            (format!("{good}{good}"), "no other table"),
            (format!("{good}{}", &good[good.find("[[table.row]]").unwrap()..]), "one row"),
            (format!("{good}{comparison}"), "engines that have rows"),
        ] {
            let message = Published::parse(&text, "x.toml").unwrap_err().to_string();
            assert!(message.starts_with("x.toml") && message.contains(word), "{word}: {message}");
        }
    }
}
