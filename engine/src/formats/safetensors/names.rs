//! Names of tensors: those of Hugging Face's LLaMA family, and GGUF's.

/// Outside the blocks: Hugging Face's name, GGUF's.
const OUTER: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// In a block. The sub-norms have two spellings: transformers', and that of the 1bitLLM models' own code.
const BLOCK: [(&str, &str); 15] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.attn_sub_norm", "attn_sub_norm"),
    ("self_attn.inner_attn_ln", "attn_sub_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.ffn_sub_norm", "ffn_sub_norm"),
    ("mlp.ffn_layernorm", "ffn_sub_norm"),
];

/// `module` and `kind` of `module.kind`, `kind` being `weight` or `bias`.
fn parted(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))
}

/// The GGUF name of a tensor, `blk.3.attn_q.weight` of `model.layers.3.self_attn.q_proj.weight`.
#[must_use]
pub fn gguf_name(hf: &str) -> Option<String> {
    let (module, kind) = parted(hf)?;
    if let Some((_, gguf)) = OUTER.iter().find(|(hf, _)| *hf == module) {
        return Some(format!("{gguf}.{kind}"));
    }
    let (index, part) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let (_, gguf) = BLOCK.iter().find(|(hf, _)| *hf == part)?;
    Some(format!("blk.{index}.{gguf}.{kind}"))
}

/// The Hugging Face names of a GGUF tensor, transformers' own first.
#[must_use]
pub fn hf_names(gguf: &str) -> Vec<String> {
    let Some((module, kind)) = parted(gguf) else { return Vec::new() };
    if let Some((hf, _)) = OUTER.iter().find(|(_, gguf)| *gguf == module) {
        return vec![format!("{hf}.{kind}")];
    }
    let Some((index, part)) = module.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return Vec::new();
    };
    let names = BLOCK.iter().filter(|(_, gguf)| *gguf == part);
    names.map(|(hf, _)| format!("model.layers.{index}.{hf}.{kind}")).collect()
}

/// Whether a module is a linear layer of a block: those that quantisation replaces.
pub(super) fn is_block_linear(module: &str) -> bool {
    module.starts_with("model.layers.") && module.ends_with("_proj") && gguf_name(&format!("{module}.weight")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.12.self_attn.o_proj.bias", "blk.12.attn_output.bias"),
            ("model.layers.0.mlp.ffn_sub_norm.weight", "blk.0.ffn_sub_norm.weight"),
        ] {
            assert_eq!(gguf_name(hf).as_deref(), Some(gguf));
            assert_eq!(hf_names(gguf)[0], hf);
        }
        let both = ["model.layers.1.self_attn.attn_sub_norm.weight", "model.layers.1.self_attn.inner_attn_ln.weight"];
        assert_eq!(hf_names("blk.1.attn_sub_norm.weight"), both);
        for name in
            ["weight", "model.layers.0.mlp.weight", "model.layers.0.mlp.up_proj.weight_scale", "blk.0.attn_q.weight"]
        {
            assert_eq!(gguf_name(name), None, "{name}");
        }
        assert!(hf_names("blk.0.nothing.weight").is_empty() && hf_names("rope_freqs.weight").is_empty());
        assert!(is_block_linear("model.layers.0.mlp.up_proj") && !is_block_linear("lm_head"));
    }
}
