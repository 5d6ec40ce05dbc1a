//! `quantization_config`: what the weights of the linear layers mean.
//!
//! transformers' `integrations/bitnet.py`, `quantizers/base.py` and `utils/quantization_config.py` (5.24), and the code
//! that the 1bitLLM models carry (`utils_quant.py`).

use std::fmt;

use super::json::Section;
use crate::formats::FormatError;

/// How the weights of a folder's linear layers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// No quantisation: as they stand.
    Plain,
    /// `autobitlinear`, `offline`: a weight is a trit times `weight_scale`.
    Multiplies,
    /// `bitlinear`, the default linear class: a weight is a trit divided by `weight_scale`.
    Divides,
    /// Master weights W, quantised as they are used: s = 1 / max(mean |W|, 1e-5), a weight is
    /// clamp(round(W s), -1, 1) / s. `autobitlinear`, `online`; and the 1bitLLM models.
    Online,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Convention::Plain => "none",
            Convention::Multiplies => "weight_scale multiplies (autobitlinear, offline)",
            Convention::Divides => "weight_scale divides (bitlinear)",
            Convention::Online => "master weights, quantised by mean |W| (online)",
        })
    }
}

/// A folder's convention, and which modules it is not for.
#[derive(Clone, Debug)]
pub(super) struct Quantisation {
    pub(super) convention: Convention,
    /// `modules_to_not_convert`; `lm_head` if not given.
    spared: Vec<String>,
}

impl Quantisation {
    /// Reads `quantization_config`, or infers it for the 1bitLLM models, whose code quantises without being told.
    pub(super) fn read(config: Section<'_>) -> Result<Self, FormatError> {
        let spared = vec!["lm_head".to_owned()];
        let Some(section) = config.section("quantization_config")? else {
            let architectures = config.opt_strings("architectures")?.unwrap_or_default();
            let convention = match architectures.contains(&"BitnetForCausalLM") {
                true => Convention::Online,
                false => Convention::Plain,
            };
            for (key, bits) in [("weight_bits", 1), ("input_bits", 8)] {
                match config.opt_u32(key)? {
                    Some(other) if convention == Convention::Online && other != bits => {
                        return Err(config.wrong(key, bits.to_string(), other.to_string()));
                    }
                    _ => {}
                }
            }
            return Ok(Quantisation { convention, spared });
        };
        match section.opt_str("quant_method")? {
            Some("bitnet") => {}
            Some(other) => return Err(section.wrong("quant_method", "bitnet", other)),
            None => return Err(section.missing("quant_method", "bitnet")),
        }
        // What is normed before quantisation would need a norm per linear layer.
        if section.opt_bool("use_rms_norm")?.unwrap_or(false) {
            return Err(section.wrong("use_rms_norm", "false (no RMSNorm within linear layers)", "true"));
        }
        let mode = section.opt_str("quantization_mode")?.unwrap_or("offline");
        if !matches!(mode, "offline" | "online") {
            return Err(section.wrong("quantization_mode", "offline or online", mode));
        }
        let convention = match (section.opt_str("linear_class")?.unwrap_or("bitlinear"), mode) {
            // BitLinear has no modes.
            ("bitlinear", _) => Convention::Divides,
            ("autobitlinear", "offline") => Convention::Multiplies,
            ("autobitlinear", _) => Convention::Online,
            (other, _) => return Err(section.wrong("linear_class", "bitlinear or autobitlinear", other)),
        };
        let spared = match section.opt_strings("modules_to_not_convert")? {
            Some(patterns) => check_patterns(section, &patterns)?,
            None => spared,
        };
        Ok(Quantisation { convention, spared })
    }

    /// Whether a module's weights follow the convention.
    pub(super) fn converts(&self, module: &str) -> bool {
        let at_border = |pattern: &str| {
            let rest = module.strip_prefix(pattern);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || pattern.ends_with('.'))
        };
        self.convention != Convention::Plain
            && !self.spared.iter().any(|pattern| at_border(pattern) || module.ends_with(pattern.as_str()))
    }
}

/// Names are matched as they stand; patterns are refused rather than misunderstood, and so is a quantised head.
fn check_patterns(section: Section<'_>, patterns: &[&str]) -> Result<Vec<String>, FormatError> {
    const KEY: &str = "modules_to_not_convert";
    let plain = |pattern: &str| {
        !pattern.is_empty() && pattern.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if let Some(other) = patterns.iter().find(|pattern| !plain(pattern)) {
        return Err(section.wrong(KEY, "names of modules (patterns are not read)", *other));
    }
    if !patterns.iter().any(|pattern| "lm_head".ends_with(pattern)) {
        let expected = "lm_head among them (a head with quantised activations is not run)";
        return Err(section.wrong(KEY, expected, format!("[{}]", patterns.join(", "))));
    }
    Ok(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
}
