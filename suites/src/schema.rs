//! JSON Schemas of what a run writes, published under `suites/schema/`.

use crate::record::Record;
use crate::run::{Plan, Run};

/// File name and pretty-printed JSON Schema of each published type.
pub fn all() -> Vec<(&'static str, String)> {
    let text = |schema: schemars::Schema| format!("{:#}\n", schema.as_value());
    vec![
        ("record.schema.json", text(schemars::schema_for!(Record))),
        ("run.schema.json", text(schemars::schema_for!(Run))),
        ("plan.schema.json", text(schemars::schema_for!(Plan))),
    ]
}
