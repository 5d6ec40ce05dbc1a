//! llama.cpp's `llama-bench` and those of its forks: the arguments of a cell, and what comes back as JSON.

use super::{Engine, file_name};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use suites::cell::{Cell, KvCache, Phase, Workload};
use suites::outside::Kind;
use suites::record::{OutsideModel, Program, Sample};

/// Why no answer of its is checked.
pub const UNCHECKED: &str = "answer not checked: llama-bench gives none";

/// How a build fills the cache ahead of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// `-d`, for any window.
    Any,
    /// `-gp`, for decode: a prompt that is not timed, then tokens that are.
    Decode,
    /// It can't.
    None,
}

/// How the build whose `--help` says `text` fills the cache; `None` if it is no llama-bench.
pub fn depth(text: &str) -> Option<Depth> {
    let has = |option: &str| text.split([' ', ',', '\n', '\t']).any(|word| word == option);
    match has("--n-gen") && has("--n-prompt") {
        true if has("--n-depth") => Some(Depth::Any),
        true if has("-gp") => Some(Depth::Decode),
        true => Some(Depth::None),
        false => None,
    }
}

/// Why a build that fills the cache by `depth` can't run `cell`, if it can't.
pub fn not_applicable(cell: &Cell, depth: Depth) -> Option<String> {
    if cell.kv == KvCache::Int8 {
        return Some("llama-bench has no cache of int8 with a scale a head and position".to_owned());
    }
    let able = match (cell.workload.phase, depth) {
        (_, Depth::Any) => true,
        (Phase::Decode, Depth::Decode) => true,
        _ => cell.workload.depth.unwrap_or(0) == 0,
    };
    (!able).then(|| "this llama-bench can't fill the cache ahead of such a window (no -d)".to_owned())
}

/// What is asked of one process.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The cell; a window that names no depth begins with an empty cache.
    pub cell: &'a Cell,
    /// The program.
    pub engine: &'a Engine,
    /// Its model file.
    pub model: &'a Path,
    /// Windows.
    pub windows: u32,
}

/// One test of llama-bench's JSON, as far as it is looked at.
#[derive(Deserialize)]
struct Test {
    build_commit: Option<String>,
    build_number: Option<u64>,
    model_type: String,
    model_size: u64,
    model_n_params: u64,
    n_threads: u32,
    n_prompt: u32,
    n_gen: u32,
    n_depth: Option<u32>,
    type_k: String,
    type_v: String,
    gpu_info: Option<String>,
    avg_ts: Option<f64>,
    samples_ns: Vec<u64>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What a run of llama-bench told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The program.
    pub program: Program,
    /// The model.
    pub model: OutsideModel,
    /// The windows.
    pub samples: Vec<Sample>,
}

impl Asked<'_> {
    /// The command line.
    pub fn arguments(&self) -> Vec<OsString> {
        let Workload { phase, tokens, depth } = self.cell.workload;
        let depth = depth.unwrap_or(0);
        let (prompt, generated) = match phase {
            Phase::Prefill => (tokens, 0),
            Phase::Decode if self.by_prompt() => (0, 0),
            Phase::Decode => (0, tokens),
        };
        let mut all: Vec<OsString> = vec!["-m".into(), self.model.into()];
        let mut add = |flag: &str, value: String| all.extend([OsString::from(flag), value.into()]);
        add("-t", self.cell.threads.to_string());
        add("-p", prompt.to_string());
        add("-n", generated.to_string());
        if self.by_prompt() {
            add("-gp", format!("{depth},{tokens}"));
        } else if depth > 0 {
            add("-d", depth.to_string());
        }
        add("-r", self.windows.to_string());
        add("-ctk", self.cell.kv.name().to_owned());
        add("-ctv", self.cell.kv.name().to_owned());
        add("-ngl", "0".to_owned());
        add("-o", "json".to_owned());
        all.extend(self.engine.spec.args.iter().map(OsString::from));
        all
    }

    /// Whether the cache is filled by a prompt that is not timed.
    fn by_prompt(&self) -> bool {
        let Workload { phase, depth, .. } = self.cell.workload;
        phase == Phase::Decode && depth.is_some_and(|d| d > 0) && self.engine.depth == Depth::Decode
    }

    /// Reads what the program printed.
    ///
    /// # Errors
    /// No JSON, or not what was asked for, in one line.
    pub fn read(&self, stdout: &str) -> Result<Told, String> {
        let tests: Vec<Test> = serde_json::from_str(stdout).map_err(|error| {
            let head: String = stdout.chars().take(200).flat_map(char::escape_debug).collect();
            format!("no JSON of llama-bench ({error}): `{head}`")
        })?;
        let [test] = &tests[..] else { return Err(format!("asked for one test, answered {}", tests.len())) };
        self.check(test)?;
        let (tokens, known) = (self.cell.workload.tokens, |text: &String| !text.is_empty() && text != "unknown");
        let window = |&duration_ns: &u64| Sample { tokens, duration_ns, ttft_ns: None, token_ns: Vec::new() };
        let word = |argument: OsString| match Path::new(&argument) == self.model {
            true => file_name(self.model),
            false => argument.to_string_lossy().into_owned(),
        };
        Ok(Told {
            program: Program {
                kind: Kind::LlamaBench,
                file: file_name(&self.engine.spec.program),
                arguments: self.arguments().into_iter().map(word).collect(),
                commit: test.build_commit.clone().filter(known),
                build: test.build_number.filter(|&number| number > 0),
                isa: self.engine.spec.isa.clone(),
                told: settings(&test.rest),
            },
            model: OutsideModel {
                file: file_name(self.model),
                description: test.model_type.clone(),
                bytes: test.model_size,
                weights: test.model_n_params,
                file_bytes: std::fs::metadata(self.model).ok().map(|file| file.len()),
            },
            samples: test.samples_ns.iter().map(window).collect(),
        })
    }

    /// Whether the test is the one asked for, done as asked.
    fn check(&self, test: &Test) -> Result<(), String> {
        let (cell, before) = (self.cell, self.cell.workload.depth.unwrap_or(0));
        let tokens = cell.workload.tokens;
        let wanted = match cell.workload.phase {
            Phase::Prefill => (tokens, 0, before),
            Phase::Decode if self.by_prompt() => (before, tokens, 0),
            Phase::Decode => (0, tokens, before),
        };
        let found = (test.n_prompt, test.n_gen, test.n_depth.unwrap_or(0));
        if found != wanted {
            let (prompt, generated, depth) = found;
            return Err(format!("asked for {}, answered for {prompt} + {generated} after {depth}", cell.workload));
        }
        if test.n_threads != cell.threads {
            return Err(format!("asked for {} threads, answered for {}", cell.threads, test.n_threads));
        }
        let kv = cell.kv.name();
        if test.type_k != kv || test.type_v != kv {
            return Err(format!("asked for a {kv} cache, answered for {} and {}", test.type_k, test.type_v));
        }
        if let Some(gpu) = test.gpu_info.as_ref().filter(|gpu| !gpu.is_empty()) {
            return Err(format!("a build that uses a GPU ({gpu}): CPUs are compared here"));
        }
        if test.samples_ns.len() != self.windows as usize || test.samples_ns.contains(&0) {
            return Err(format!("asked for {} windows, answered {:?} ns", self.windows, test.samples_ns));
        }
        if test.model_size == 0 {
            return Err("a model of 0 bytes".to_owned());
        }
        let speed = |&ns: &u64| f64::from(tokens) * 1e9 / ns as f64;
        let mean = test.samples_ns.iter().map(speed).sum::<f64>() / f64::from(self.windows);
        match test.avg_ts.filter(|told| (told / mean - 1.0).abs() > 0.01) {
            Some(told) => Err(format!("its windows give {mean:.2} tokens/s on average, it says {told:.2}")),
            None => Ok(()),
        }
    }
}

/// Everything else that is one word, number or switch, but for times and paths.
fn settings(rest: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let skip = ["model_filename", "test_time", "avg_ns", "stddev_ns", "stddev_ts"];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let kept = rest.iter().filter(|(key, _)| !skip.contains(&key.as_str()));
    kept.filter_map(|(key, value)| Some((key.clone(), text(value)?))).filter(|(_, text)| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use suites::outside::OutsideEngine;

    fn engine(depth: Depth) -> Engine {
        let (name, isa, models) = ("theirs".to_owned(), None, BTreeMap::new());
        let (program, args) = (PathBuf::from("/x/llama-bench"), vec!["-rtr".to_owned(), "1".to_owned()]);
        Engine { spec: OutsideEngine { name, kind: Kind::LlamaBench, program, args, isa, models }, depth }
    }

    fn cell(workload: &str) -> Cell {
        let (engine, model, workload) = ("theirs".to_owned(), "m".to_owned(), workload.parse().unwrap());
        Cell { engine, model, threads: 2, workload, kv: KvCache::F16, isa: None }
    }

    fn line(workload: &str, depth: Depth) -> String {
        let (cell, engine) = (cell(workload), engine(depth));
        let all = Asked { cell: &cell, engine: &engine, model: Path::new("/m/a.gguf"), windows: 3 }.arguments();
        all.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// As llama.cpp prints it, shortened.
    const JSON: &str = r#"[
      {
        "build_commit": "8337e4cd", "build_number": 4567, "cpu_info": "A CPU", "gpu_info": "",
        "model_filename": "/m/a.gguf", "model_type": "bitnet 2B TQ2_0", "model_size": 790000000, "model_n_params": 2412820480,
        "n_threads": 2, "type_k": "f16", "type_v": "f16", "embeddings": false, "n_prompt": 0, "n_gen": 64,
        "test_time": "2026-01-01T00:00:00Z", "avg_ns": 2000000000, "stddev_ns": 0, "avg_ts": 32.5, "stddev_ts": 0.5,
        "samples_ns": [ 2000000000, 2000000000, 1900000000 ], "samples_ts": [ 32.0, 32.0, 33.68 ]
      }
    ]"#;

    fn told(json: &str, workload: &str, depth: Depth) -> Result<Told, String> {
        let (cell, engine) = (cell(workload), engine(depth));
        Asked { cell: &cell, engine: &engine, model: Path::new("/m/a.gguf"), windows: 3 }.read(json)
    }

    #[test]
    fn workloads_become_flags() {
        let tail = "-r 3 -ctk f16 -ctv f16 -ngl 0 -o json -rtr 1";
        let cases = [
            ("tg64", Depth::Any, "-p 0 -n 64"),
            ("pp512", Depth::Decode, "-p 512 -n 0"),
            ("tg64@d1024", Depth::Any, "-p 0 -n 64 -d 1024"),
            ("pp64@d1024", Depth::Any, "-p 64 -n 0 -d 1024"),
            ("tg64@d1024", Depth::Decode, "-p 0 -n 0 -gp 1024,64"),
            ("tg64@d0", Depth::None, "-p 0 -n 64"),
        ];
        for (workload, depth, flags) in cases {
            assert_eq!(line(workload, depth), format!("-m /m/a.gguf -t 2 {flags} {tail}"));
        }
    }

    #[test]
    fn what_a_build_can_not_do_is_told() {
        let able = |workload: &str, depth| not_applicable(&cell(workload), depth).is_none();
        assert!(able("tg8", Depth::None) && able("pp8", Depth::None) && able("pp8@d9", Depth::Any));
        assert!(able("tg8@d9", Depth::Decode) && !able("pp8@d9", Depth::Decode) && !able("tg8@d9", Depth::None));
        let int8 = Cell { kv: KvCache::Int8, ..cell("tg8") };
        assert!(not_applicable(&int8, Depth::Any).unwrap().contains("int8"));
    }

    #[test]
    fn help_tells_what_a_build_can_do() {
        let help = "usage: llama-bench\n  -p, --n-prompt <n>  (default: 512)\n  -n, --n-gen <n>";
        assert_eq!(depth(help), Some(Depth::None));
        assert_eq!(depth(&format!("{help}\n  -gp <pp,tg>")), Some(Depth::Decode));
        assert_eq!(depth(&format!("{help}\n  -d, --n-depth <n>")), Some(Depth::Any));
        assert_eq!(depth("usage: ls [FILE]"), None);
    }

    #[test]
    fn windows_program_and_model_are_kept() {
        let told = told(JSON, "tg64", Depth::Any).unwrap();
        let windows: Vec<_> = told.samples.iter().map(|s| (s.tokens, s.duration_ns)).collect();
        assert_eq!(windows, [(64, 2_000_000_000), (64, 2_000_000_000), (64, 1_900_000_000)]);
        assert_eq!((told.program.commit.as_deref(), told.program.build), (Some("8337e4cd"), Some(4567)));
        assert_eq!(told.program.arguments[..4], ["-m", "a.gguf", "-t", "2"], "no path");
        assert_eq!((told.model.file.as_str(), told.model.bytes), ("a.gguf", 790_000_000));
        assert_eq!(told.model.file_bytes, None, "no such file here");
        assert_eq!(told.program.told["cpu_info"], "A CPU");
        assert!(!told.program.told.values().any(|v| v.contains("/m/")), "{:?}", told.program.told);
        let unknown = JSON.replace("8337e4cd", "unknown").replace("4567", "0");
        let program = self::told(&unknown, "tg64", Depth::Any).unwrap().program;
        assert_eq!((program.commit, program.build), (None, None), "unknown is none");
    }

    #[test]
    fn anything_else_than_asked_is_refused() {
        let cases = [
            ("\"n_threads\": 2", "\"n_threads\": 4", "asked for 2 threads, answered for 4"),
            ("\"n_gen\": 64", "\"n_gen\": 32", "asked for tg64, answered for 0 + 32"),
            ("\"n_prompt\": 0", "\"n_prompt\": 0, \"n_depth\": 16", "after 16"),
            ("\"type_v\": \"f16\"", "\"type_v\": \"q8_0\"", "a f16 cache"),
            ("\"gpu_info\": \"\"", "\"gpu_info\": \"A GPU\"", "uses a GPU"),
            (", 1900000000 ]", " ]", "asked for 3 windows"),
            ("1900000000 ]", "0 ]", "asked for 3 windows"),
            ("\"avg_ts\": 32.5", "\"avg_ts\": 3.25", "it says 3.25"),
            ("\"model_size\": 790000000", "\"model_size\": 0", "0 bytes"),
            ("\"samples_ns\"", "\"samples\"", "no JSON of llama-bench (missing field `samples_ns`"),
            (JSON, "build: 1\n[]", "no JSON"),
            (JSON, "[]", "answered 0"),
        ];
        for (from, to, part) in cases {
            assert!(JSON.contains(from), "{from}");
            let message = told(&JSON.replace(from, to), "tg64", Depth::Any).unwrap_err();
            assert!(message.contains(part) && message.len() < 500, "{to}: {message}");
        }
        let gp = JSON.replace("\"n_prompt\": 0", "\"n_prompt\": 16");
        assert!(told(&gp, "tg64@d16", Depth::Decode).is_ok());
        assert!(told(&gp, "tg64", Depth::Decode).is_err(), "another depth");
    }
}
