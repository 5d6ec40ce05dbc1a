//! What a history is asked for.

use super::{History, wrong};
use crate::error::Error;
use anyhow::{Result, bail};
use reports::trend::{Figure, Visit};
use rusqlite::types::Type;
use rusqlite::{Row, params};
use std::collections::BTreeMap;

/// Most values that an error names.
const NAMED: usize = 20;

/// Which figures; `None` takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The metric, as in `summary.csv`.
    pub metric: String,
    /// Name of the suite.
    pub suite: Option<String>,
    /// Name of the model.
    pub model: Option<String>,
    /// Name of the engine.
    pub engine: Option<String>,
    /// The workload, such as `tg128`.
    pub workload: Option<String>,
    /// Threads.
    pub threads: Option<u32>,
    /// `measured`, `modelled` or `derived`.
    pub kind: Option<String>,
}

impl History {
    /// The runs of the suite, and their figures of the filter's metric and cells.
    ///
    /// # Errors
    /// A name that no figure has, with those there are; a file that can't be read.
    pub fn figures(&self, filter: &Filter) -> Result<(Vec<Visit>, Vec<Figure>)> {
        let texts = [
            ("--metric", "metric", Some(&filter.metric)),
            ("--suite", "suite", filter.suite.as_ref()),
            ("--model", "model", filter.model.as_ref()),
            ("--engine", "engine", filter.engine.as_ref()),
            ("--workload", "workload", filter.workload.as_ref()),
            ("--kind", "kind", filter.kind.as_ref()),
        ];
        for (option, column, wanted) in texts {
            let Some(wanted) = wanted else { continue };
            let known = self.distinct(column).map_err(|e| wrong(&self.path, e))?;
            // A history without a run has no names to tell.
            if !known.is_empty() && !known.contains(wanted) {
                let named = known.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let more = if known.len() > NAMED { " and more" } else { "" };
                let path = self.path.display();
                bail!(Error::Usage(format!("{option}: `{wanted}` is not in {path}; there are {named}{more}")));
            }
        }
        Ok(self.select(filter).map_err(|e| wrong(&self.path, e))?)
    }

    /// The values of a column, which is named by this file alone.
    fn distinct(&self, column: &'static str) -> rusqlite::Result<Vec<String>> {
        let table = if column == "suite" { "runs" } else { "figures" };
        let mut select = self.db.prepare(&format!("SELECT DISTINCT {column} FROM {table} ORDER BY 1"))?;
        select.query_map([], |row| row.get(0))?.collect()
    }

    fn select(&self, filter: &Filter) -> rusqlite::Result<(Vec<Visit>, Vec<Figure>)> {
        // One transaction, so that no figure is of a run that came after the runs were read.
        let transaction = self.db.unchecked_transaction()?;
        let mut select = transaction.prepare(
            "SELECT id, name, started, suite, suite_digest, revision, dirty, machine, build FROM runs
             WHERE ?1 IS NULL OR suite = ?1 ORDER BY started, name",
        )?;
        let mut places: BTreeMap<i64, usize> = BTreeMap::new();
        let mut visits = Vec::new();
        for found in select.query_map([&filter.suite], |row| Ok((row.get(0)?, visit(row)?)))? {
            let (id, visit) = found?;
            places.insert(id, visits.len());
            visits.push(visit);
        }
        let mut select = transaction.prepare(
            "SELECT run, cell, engine, model, model_digest, threads, workload, metric, unit, kind, value, lo, hi, n FROM figures
             WHERE metric = ?1 AND (?2 IS NULL OR model = ?2) AND (?3 IS NULL OR engine = ?3)
             AND (?4 IS NULL OR workload = ?4) AND (?5 IS NULL OR threads = ?5) AND (?6 IS NULL OR kind = ?6)",
        )?;
        let f = filter;
        let wanted = params![f.metric, f.model, f.engine, f.workload, f.threads, f.kind];
        let mut figures = Vec::new();
        for found in select.query_map(wanted, |row| Ok((row.get::<_, i64>(0)?, figure(row)?)))? {
            let (run, figure) = found?;
            figures.extend(places.get(&run).map(|&visit| Figure { visit, ..figure }));
        }
        Ok((visits, figures))
    }
}

fn visit(row: &Row<'_>) -> rusqlite::Result<Visit> {
    Ok(Visit {
        name: row.get(1)?,
        started: row.get(2)?,
        suite: row.get(3)?,
        suite_digest: row.get(4)?,
        revision: row.get(5)?,
        dirty: row.get(6)?,
        machine: class(row, 7)?,
        build: class(row, 8)?,
    })
}

fn class<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    let wrong = |e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e));
    serde_json::from_str(&text).map_err(wrong)
}

fn figure(row: &Row<'_>) -> rusqlite::Result<Figure> {
    let (lo, hi): (Option<f64>, Option<f64>) = (row.get(11)?, row.get(12)?);
    Ok(Figure {
        visit: 0,
        cell: row.get(1)?,
        engine: row.get(2)?,
        model: row.get(3)?,
        model_digest: row.get(4)?,
        threads: row.get(5)?,
        workload: row.get(6)?,
        metric: row.get(7)?,
        unit: row.get(8)?,
        kind: row.get(9)?,
        value: row.get(10)?,
        interval: lo.zip(hi),
        n: row.get(13)?,
    })
}
