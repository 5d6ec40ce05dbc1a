//! Rankings as text.

use super::{Place, Ranking, Standing};
use crate::sheet::{self, Format, Sheet};
use crate::text::{Footnotes, short};
use serde::Serialize;

/// Writes rankings, one a run, with why they stand apart.
///
/// # Errors
/// None but of the writers of CSV and JSON.
pub fn show(rankings: &[Ranking], apart: &[String], format: Format) -> Result<String, String> {
    #[derive(Serialize)]
    struct Document<'a> {
        rankings: &'a [Ranking],
        apart: &'a [String],
    }
    match format {
        Format::Json => sheet::json(&Document { rankings, apart }),
        Format::Csv => csv(rankings),
        Format::Table | Format::Markdown => {
            let mut sheets: Vec<Sheet> = rankings.iter().flat_map(sheets).collect();
            if let Some(last) = sheets.last_mut() {
                last.notes.extend(apart.iter().cloned());
            }
            Ok(sheet::text(&sheets, format))
        }
    }
}

const HEADER: [&str; 16] = [
    "run",
    "of",
    "model",
    "threads",
    "workload",
    "variant",
    "rank",
    "tied",
    "engine",
    "outside",
    "tokens_per_second",
    "over",
    "ratio",
    "lo",
    "hi",
    "n",
];

/// A row of the CSV, in the order of [`HEADER`].
#[derive(Serialize)]
struct Row<'a> {
    run: &'a str,
    of: &'a str,
    model: &'a str,
    threads: Option<u32>,
    workload: &'a str,
    variant: &'a str,
    rank: usize,
    tied: bool,
    engine: &'a str,
    outside: bool,
    tokens_per_second: f64,
    over: &'a str,
    ratio: Option<f64>,
    lo: Option<f64>,
    hi: Option<f64>,
    n: Option<usize>,
}

fn csv(rankings: &[Ranking]) -> Result<String, String> {
    let mut rows = Vec::new();
    for ranking in rankings {
        let places = ranking.places.iter().map(|place| (Some(place), &place.standings));
        for (place, list) in places.chain([(None, &ranking.overall)]) {
            rows.extend(list.iter().map(|own| row(ranking, place, list, own)));
        }
    }
    sheet::csv(&HEADER, &rows)
}

fn row<'a>(ranking: &'a Ranking, place: Option<&'a Place>, list: &'a [Standing], own: &'a Standing) -> Row<'a> {
    Row {
        run: &ranking.run,
        of: if place.is_some() { "place" } else { "overall" },
        model: place.map_or("", |place| &place.model),
        threads: place.map(|place| place.threads),
        workload: place.map_or("", |place| &place.workload),
        variant: place.map_or("", |place| place.variant.trim()),
        rank: own.rank,
        tied: own.tied,
        engine: &own.engine,
        outside: own.outside,
        tokens_per_second: own.tokens_per_second,
        over: ranking.baseline.as_deref().unwrap_or(list.first().map_or("", |first| &first.engine)),
        ratio: own.ratio.map(|ratio| ratio.value),
        lo: own.ratio.and_then(|ratio| ratio.lo),
        hi: own.ratio.and_then(|ratio| ratio.hi),
        n: own.ratio.map(|ratio| ratio.n),
    }
}

fn sheets(ranking: &Ranking) -> Vec<Sheet> {
    let over = ranking.baseline.as_deref().unwrap_or("the fastest");
    let title = format!("Engines of {} ({}), tokens/s over {over}", ranking.run, ranking.started);
    let mut sheet = Sheet::new(title, 3, &["place", "rank", "engine", "tokens/s", "ratio", "n", "notes"]);
    let mut known = Footnotes::default();
    for place in &ranking.places {
        let name = format!("{}/t{}/{}{}", place.model, place.threads, place.workload, place.variant);
        list(&mut sheet, &name, &place.standings, ranking, &mut known);
        for (engine, reason) in &place.absent {
            let row = [name.as_str(), "-", engine, "", "", ""].map(str::to_owned).to_vec();
            sheet.noted(row, std::slice::from_ref(reason), &mut known);
        }
    }
    sheet.tell(&known);
    if ranking.places.is_empty() {
        sheet.notes.push("No two engines were measured at one model, thread count and workload.".to_owned());
    }
    sheet.notes.push(
        "Ratios are formed within each block, with 95 % intervals over n blocks. Engines share a rank (=) unless the \
         interval of one's ratio to the first of that rank lies below 1; without an interval none is told from another."
            .to_owned(),
    );
    if ranking.single > 0 {
        sheet.notes.push(format!("{} places of one engine alone are not listed.", ranking.single));
    }
    sheet.notes.extend(ranking.notes.iter().cloned());
    let mut sheets = vec![sheet];
    if !ranking.overall.is_empty() {
        let title = format!(
            "Overall: geometric mean of tokens/s over the {} places that every engine was measured at",
            ranking.overall_places
        );
        let mut sheet = Sheet::new(title, 3, &["place", "rank", "engine", "tokens/s", "ratio", "n", "notes"]);
        let mut known = Footnotes::default();
        list(&mut sheet, "overall", &ranking.overall, ranking, &mut known);
        sheet.tell(&known);
        if ranking.left_out > 0 {
            sheet.notes.push(format!("{} places without a figure of every engine are left out.", ranking.left_out));
        }
        sheets.push(sheet);
    }
    sheets
}

/// Adds one list's rows.
fn list(sheet: &mut Sheet, name: &str, standings: &[Standing], ranking: &Ranking, known: &mut Footnotes) {
    for (at, own) in standings.iter().enumerate() {
        let base = match &ranking.baseline {
            Some(baseline) => *baseline == own.engine,
            None => at == 0,
        };
        let mut notes = Vec::new();
        if own.outside {
            notes.push("an outside program's own figure: its answer is not checked".to_owned());
        }
        if own.ratio.is_none() && !base {
            let over = ranking.baseline.as_deref().unwrap_or("the fastest");
            notes.push(format!("no block holds it and {over}"));
        }
        let row = vec![
            name.to_owned(),
            format!("{}{}", own.rank, if own.tied { "=" } else { "" }),
            own.engine.clone(),
            short(own.tokens_per_second),
            own.ratio.map_or_else(|| if base { "1".to_owned() } else { String::new() }, |ratio| ratio.ratio()),
            own.ratio.map_or(String::new(), |ratio| ratio.n.to_string()),
        ];
        sheet.noted(row, &notes, known);
    }
}
