//! `eval`: accuracy on a task, by one engine or two, with standard errors and a log of every item.

use super::say;
use super::talk::Talk;
use crate::data::{self, Named};
use crate::driver::interrupt::Interrupt;
use crate::error::Error;
use crate::eval::Evaluation;
use crate::eval::backend::Backend;
use crate::eval::engine::Local;
use crate::eval::evaluation::Found;
use crate::eval::remote::Remote;
use crate::eval::task::{self, Files, Prepared};
use anyhow::{Result, bail};
use engine::chat::ChatTemplate;
use serde::Serialize;
use std::path::{Path, PathBuf};
use suites::eval::{Accuracy, AccuracyFigure, Header, Part, Row, TaskAsk};

/// Arguments of `eval`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a task (see `list tasks`), or a TOML file
    task: String,
    #[command(flatten)]
    talk: Talk,
    /// A second engine on the same model and items: both are compared by McNemar's test
    #[arg(long, value_name = "ENGINE")]
    against: Option<String>,
    /// Ask a server that speaks OpenAI's completions protocol instead, by plain HTTP: --model is its name there
    #[arg(long, value_name = "URL", conflicts_with_all = ["against", "context", "chat"])]
    endpoint: Option<String>,
    /// Environment variable that holds the endpoint's API key
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    api_key_variable: Option<String>,
    /// The first so many items, of MMLU those of each subject [default: all]
    #[arg(long)]
    limit: Option<u32>,
    /// Examples before each question [default: the task's]
    #[arg(long)]
    fewshot: Option<u32>,
    /// Most tokens of a text; what is longer is cut off from the left, which the log tells [default: the model's context]
    #[arg(long)]
    context: Option<u32>,
    /// Put prompts of generation tasks as a user's message: `model` takes the model's own chat template, else the name of a
    /// built-in one
    #[arg(long, value_name = "TEMPLATE")]
    chat: Option<String>,
    #[command(flatten)]
    files: Files,
    /// Leave out documents that cannot be read (they are listed): else the first one is an error
    #[arg(long)]
    skip_bad: bool,
    /// Run programs that the model writes (HumanEval): each in a process of its own without network, with bounded memory,
    /// time and files, in an empty folder. It is still code that nobody has read
    #[arg(long)]
    run_generated_code: bool,
    /// Folder of logs: what is found there is not answered again
    #[arg(long, default_value = "results/eval")]
    out: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What is printed of one engine.
#[derive(Serialize)]
struct Output {
    engine: String,
    model: String,
    #[serde(flatten)]
    accuracy: Accuracy,
    /// Tokens of this run a second; `None` where everything was in the log.
    tokens_per_second: Option<f64>,
    /// Items in no figure: line and reason.
    skipped_items: Vec<(u32, String)>,
}

/// Runs `eval`.
///
/// # Errors
/// Bad names and files; documents that cannot be read, unless they are to be left out; an engine that fails; Ctrl-C, after
/// which the same command goes on.
pub fn run(args: &Args) -> Result<u8> {
    args.talk.refuse_bounded()?;
    let ask = TaskAsk { task: args.task.clone(), limit: args.limit, fewshot: args.fewshot };
    let prepared = task::prepare(&ask, &Files { data: args.talk.data.clone(), ..args.files.clone() })?;
    refuse_bad(args, &prepared)?;
    let interrupt = Interrupt::default();
    interrupt.install()?;
    let mut outputs = Vec::new();
    let mut rows = Vec::new();
    let engines = std::iter::once(&args.talk.engine).chain(&args.against);
    for engine in engines {
        let (header, found) = match &args.endpoint {
            Some(url) => remote(args, url, &prepared, &interrupt)?,
            None => one(args, engine, &prepared, &interrupt)?,
        };
        let output = output(&header, &found);
        if !args.json {
            say(prose(&output))?;
        }
        outputs.push(output);
        rows.push(found.rows);
    }
    let comparisons: Vec<String> = match rows.as_slice() {
        [first, second] => {
            let names = [&outputs[0].engine, &outputs[1].engine].map(String::as_str);
            super::compare::lines(&prepared.metrics, names, [first, second])
        }
        _ => Vec::new(),
    };
    if args.json {
        say(serde_json::to_string(&serde_json::json!({ "results": outputs, "comparisons": comparisons }))?)?;
    } else {
        comparisons.iter().try_for_each(say)?;
    }
    Ok(0)
}

/// A document that cannot be read changes what is asked: that is the user's to allow.
fn refuse_bad(args: &Args, prepared: &Prepared) -> Result<()> {
    let Some((line, reason)) = prepared.skipped.first().filter(|_| !args.skip_bad) else { return Ok(()) };
    let more = match prepared.skipped.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let file = prepared.documents.display();
    bail!(Error::Input(format!("{file}:{}: {reason}{more}: --skip-bad leaves such out", line + 1)));
}

/// Evaluates what is behind an endpoint.
fn remote(args: &Args, url: &str, prepared: &Prepared, interrupt: &Interrupt) -> Result<(Header, Found)> {
    let mut backend = Remote::open(url, &args.talk.model, args.api_key_variable.clone())?;
    let (header, part) = (backend.header(prepared), backend.part());
    evaluate(args, prepared, header, part, interrupt, &mut backend)
}

/// Evaluates one engine.
fn one(args: &Args, engine: &str, prepared: &Prepared, interrupt: &Interrupt) -> Result<(Header, Found)> {
    let talk = Talk { engine: engine.to_owned(), ..args.talk.clone() };
    let (opened, tokenizer) = talk.open()?;
    let tokenizer = tokenizer?;
    let template = args.chat.as_deref().map(|name| chat(name, &tokenizer)).transpose()?;
    let mut backend = Local::new(&opened, &tokenizer, talk.kv, args.context, template.as_ref())?;
    let header = backend.header(prepared, engine, &model_name(&talk.model), digest(&talk)?);
    let part = backend.part();
    evaluate(args, prepared, header, part, interrupt, &mut backend)
}

fn evaluate(
    args: &Args,
    prepared: &Prepared,
    header: Header,
    part: Part,
    interrupt: &Interrupt,
    backend: &mut dyn Backend,
) -> Result<(Header, Found)> {
    let path = args.out.join(task::log_name(&header));
    eprintln!("{} on {} by {}: {}", header.task, header.model, header.engine, path.display());
    let evaluation = Evaluation {
        prepared,
        header: &header,
        part,
        log: &path,
        run_code: args.run_generated_code,
        interrupt,
        show: true,
    };
    let found = evaluation.run(backend)?;
    Ok((header, found))
}

fn chat(name: &str, tokenizer: &engine::tokenizer::Tokenizer) -> Result<ChatTemplate> {
    if name != "model" {
        return Ok(ChatTemplate::built_in(name)?);
    }
    match ChatTemplate::of(tokenizer)? {
        Some(template) => Ok(template),
        None => bail!(Error::Usage(format!(
            "--chat model: the model has no chat template; built in are {}",
            engine::chat::built_in_names()
        ))),
    }
}

/// A model as a log names it: without the folders that a path leads through.
fn model_name(model: &str) -> String {
    let last = Path::new(model.trim_end_matches('/')).file_name();
    last.map_or(model.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// SHA-256 of a model's file, or of all weights and settings of a folder.
fn digest(talk: &Talk) -> Result<Option<String>> {
    let path = match data::resolve(&talk.model, talk.data.as_deref())? {
        Named::Path(path) | Named::Spec(_, Some(path)) => path,
        Named::Spec(_, None) => return Ok(None),
    };
    if !path.is_dir() {
        return Ok(Some(data::sha256(&path)?));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") || name.ends_with(".json") {
            files.push((name, data::sha256(&entry.path())?));
        }
    }
    files.sort();
    Ok(Some(data::sha256_of_all(&files)))
}

fn output(header: &Header, found: &Found) -> Output {
    let seconds = found.spent.duration.as_secs_f64();
    let skipped = |row: &Row| row.skipped().map(|reason| (row.index, reason.to_owned()));
    Output {
        engine: header.engine.clone(),
        model: header.model.clone(),
        tokens_per_second: (found.spent.tokens > 0 && seconds > 0.0).then(|| found.spent.tokens as f64 / seconds),
        skipped_items: found.rows.iter().filter_map(skipped).collect(),
        accuracy: found.accuracy.clone(),
    }
}

/// Figures for reading.
fn prose(output: &Output) -> String {
    let accuracy = &output.accuracy;
    let mut lines = vec![format!(
        "{} on {} by {}: {} items, {}-shot",
        accuracy.task, output.model, output.engine, accuracy.items, accuracy.fewshot
    )];
    lines.extend(accuracy.figures.iter().map(|figure| format!("  {}", told(figure))));
    for (line, reason) in &output.skipped_items {
        lines.push(format!("  skipped: document {line}: {reason}"));
    }
    if accuracy.truncated > 0 {
        lines.push(format!("  {} items were cut off from the left to fit the context", accuracy.truncated));
    }
    if let Some(speed) = output.tokens_per_second {
        lines.push(format!("  {speed:.0} tokens/s asked and answered"));
    }
    lines.join("\n")
}

/// `acc_norm 0.3520 ± 0.0213 [0.3100, 0.3940]`.
fn told(figure: &AccuracyFigure) -> String {
    let AccuracyFigure { metric, value, stderr, interval } = figure;
    let error = stderr.map_or(String::new(), |error| format!(" ± {error:.4}"));
    let range = interval.map_or(String::new(), |(low, high)| format!(" [{low:.4}, {high:.4}]"));
    format!("{} {value:.4}{error}{range}", metric.name())
}
