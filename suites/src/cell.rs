//! The unit of work: engine × model × threads × workload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which window of a generation is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The whole prompt in one batch.
    Prefill,
    /// One token after another, each forced, after a short prompt or at a given depth.
    Decode,
}

impl Phase {
    /// The name used in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
        }
    }
}

/// What a cell's worker does inside its timed window, written as llama-bench does: `pp512`, `tg128`, `tg128@d4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Workload {
    /// The timed window.
    pub phase: Phase,
    /// Tokens processed inside one window.
    pub tokens: u32,
    /// Tokens already in the KV cache when the window begins. `None` means the default: 0 for prefill,
    /// [`Workload::DECODE_PROMPT`] for decode.
    pub depth: Option<u32>,
}

impl Workload {
    /// Prompt length ahead of a decode window that names no depth (METHODOLOGY, "the unit of work").
    pub const DECODE_PROMPT: u32 = 16;
    /// Bound on tokens and depth, so that a slip of the pen can't ask for terabytes.
    pub const MAX_TOKENS: u32 = 1 << 20;

    /// KV-cache positions filled before the window.
    pub fn depth(&self) -> u32 {
        self.depth.unwrap_or(match self.phase {
            Phase::Prefill => 0,
            Phase::Decode => Workload::DECODE_PROMPT,
        })
    }

    /// KV-cache positions needed in all.
    pub fn context(&self) -> u32 {
        self.depth() + self.tokens
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.phase {
            Phase::Prefill => "pp",
            Phase::Decode => "tg",
        };
        write!(f, "{prefix}{}", self.tokens)?;
        match self.depth {
            Some(depth) => write!(f, "@d{depth}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected a workload such as `pp512`, `tg128` or `tg128@d4096`, found `{text}`");
        let (head, depth) = match text.split_once("@d") {
            Some((head, depth)) => (head, Some(depth)),
            None => (text, None),
        };
        let (phase, tokens) = match (head.strip_prefix("pp"), head.strip_prefix("tg")) {
            (Some(tokens), _) => (Phase::Prefill, tokens),
            (_, Some(tokens)) => (Phase::Decode, tokens),
            _ => return Err(bad()),
        };
        let number = |digits: &str| -> Result<u32, String> {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let value: u32 = digits.parse().map_err(|_| bad())?;
            if plain && value <= Workload::MAX_TOKENS { Ok(value) } else { Err(bad()) }
        };
        let tokens = number(tokens)?;
        if tokens == 0 {
            return Err(bad());
        }
        Ok(Workload { phase, tokens, depth: depth.map(number).transpose()? })
    }
}

impl TryFrom<String> for Workload {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Workload> for String {
    fn from(workload: Workload) -> String {
        workload.to_string()
    }
}

/// One engine × model × threads × workload. Its [`id`](Cell::id) is stable across runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Name in `engines.toml`.
    pub engine: String,
    /// Name in `models.toml`.
    pub model: String,
    /// Worker threads, each pinned to a CPU of its own.
    pub threads: u32,
    /// The timed window.
    pub workload: Workload,
    /// Element type of the KV cache: `f16`, `f32` or `int8`.
    pub kv: KvCache,
    /// Forced instruction set, or `None` for the best the CPU has. What actually ran is in the measurement.
    pub isa: Option<String>,
}

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KvCache {
    /// 2 bytes an element.
    #[default]
    F16,
    /// 4 bytes an element.
    F32,
    /// 1 byte an element, and 8 bytes of scales a head and position.
    Int8,
}

impl KvCache {
    /// Bytes an element takes.
    pub fn bytes(self) -> u64 {
        match self {
            KvCache::F16 => 2,
            KvCache::F32 => 4,
            KvCache::Int8 => 1,
        }
    }

    /// Bytes the scales of one head and position take, key and value together.
    pub fn scale_bytes(self) -> u64 {
        match self {
            KvCache::F16 | KvCache::F32 => 0,
            KvCache::Int8 => 8,
        }
    }

    /// As definitions, records and `--kv` name it.
    pub fn name(self) -> &'static str {
        match self {
            KvCache::F16 => "f16",
            KvCache::F32 => "f32",
            KvCache::Int8 => "int8",
        }
    }
}

impl Cell {
    /// `engine/model/t2/tg128`, with `/kv-f32` and `/isa-avx2` added where they differ from the default.
    pub fn id(&self) -> String {
        let mut id = format!("{}/{}/t{}/{}", self.engine, self.model, self.threads, self.workload);
        if self.kv != KvCache::F16 {
            id.push_str("/kv-");
            id.push_str(self.kv.name());
        }
        if let Some(isa) = &self.isa {
            id.push_str("/isa-");
            id.push_str(isa);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_round_trip() {
        for text in ["pp512", "tg128", "tg128@d4096", "pp1@d0"] {
            assert_eq!(text.parse::<Workload>().unwrap().to_string(), text);
        }
        assert_eq!("tg128".parse::<Workload>().unwrap().context(), 144);
        assert_eq!("tg128@d0".parse::<Workload>().unwrap().context(), 128);
    }

    #[test]
    fn bad_workloads_are_refused() {
        for text in [
            "",
            "pp",
            "pp0",
            "tg-1",
            "tg+1",
            "pp512@",
            "pp512@d",
            "pp 512",
            "xx5",
            "pp99999999999",
            "pp1048577",
            "tg1@d1048577",
            "tgé",
        ] {
            let error = text.parse::<Workload>().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn cell_ids_name_what_differs() {
        let mut cell = Cell {
            engine: "f16".into(),
            model: "7b".into(),
            threads: 2,
            workload: "tg128".parse().unwrap(),
            kv: KvCache::F16,
            isa: None,
        };
        assert_eq!(cell.id(), "f16/7b/t2/tg128");
        cell.isa = Some("avx2".into());
        cell.kv = KvCache::F32;
        assert_eq!(cell.id(), "f16/7b/t2/tg128/kv-f32/isa-avx2");
        cell.kv = KvCache::Int8;
        assert_eq!(cell.id(), "f16/7b/t2/tg128/kv-int8/isa-avx2");
    }
}
