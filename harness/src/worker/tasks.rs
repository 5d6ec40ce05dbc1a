//! The suite's tasks, put to the model that was measured.

use crate::driver::interrupt::Interrupt;
use crate::eval::engine::Local;
use crate::eval::{Evaluation, task};
use crate::local::{Opened, Source};
use crate::probe::phases::Phases;
use crate::protocol::{Request, TaskRequest};
use anyhow::{Context as _, Result};
use engine::tokenizer::Tokenizer;
use suites::eval::{Accuracy, TaskOutcome};
use suites::record::Stage;

/// Answers every task of the request; what goes wrong with one keeps it from having figures, and nothing else.
pub(super) fn answer(request: &Request, opened: &Opened, phases: &mut Phases<'_>) -> Vec<TaskOutcome> {
    if request.tasks.is_empty() {
        return Vec::new();
    }
    let tokenizer = tokenizer(request);
    let mut tokens = 0;
    phases.begin();
    let mut outcomes = Vec::with_capacity(request.tasks.len());
    for asked in &request.tasks {
        let found = match &tokenizer {
            Ok(tokenizer) => one(request, asked, opened, tokenizer),
            Err(reason) => Err(anyhow::anyhow!("{reason}")),
        };
        outcomes.push(match found {
            Ok(accuracy) => {
                tokens += accuracy.tokens;
                TaskOutcome::Ok(accuracy)
            }
            Err(error) => TaskOutcome::Unavailable { task: asked.ask.task.clone(), reason: format!("{error:#}") },
        });
    }
    phases.end(Stage::Tasks, tokens);
    outcomes
}

/// The tokenizer of the model's file, or why there is none.
fn tokenizer(request: &Request) -> Result<Tokenizer, String> {
    let path = request.model_path.as_deref().ok_or("a synthetic model has no tokenizer")?;
    let open = || -> Result<Tokenizer> { Source::open(path)?.tokenizer() };
    open().map_err(|error| format!("{error:#}"))
}

fn one(request: &Request, asked: &TaskRequest, opened: &Opened, tokenizer: &Tokenizer) -> Result<Accuracy> {
    let prepared = task::prepare(&asked.ask, &task::Files { data: asked.data.clone(), ..task::Files::default() })?;
    let mut backend = Local::new(opened, tokenizer, request.cell.kv, None, None)?;
    let header = backend.header(&prepared, &request.cell.engine, request.model.name(), asked.model_digest.clone());
    let evaluation = Evaluation {
        prepared: &prepared,
        header: &header,
        part: backend.part(),
        log: &asked.log,
        run_code: false,
        interrupt: &Interrupt::default(),
        show: false,
    };
    let accuracy = evaluation.run(&mut backend).with_context(|| asked.ask.task.clone())?.accuracy;
    Ok(Accuracy { log: asked.name.clone(), ..accuracy })
}
