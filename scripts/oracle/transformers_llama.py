"""Random small checkpoints of the LLaMA family, with the logits and greedy text of transformers' model in float32, and its logits
with the inputs of linear layers rounded to bf16.

    transformers_llama.py engine/tests/golden/hf

Weights are bf16 values that f16 holds too, so the f16, bf16 and reference engines all run the very same model.
"""

import torch
import folder as hf

BASE = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 256, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
LLAMA = BASE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
QWEN2 = BASE | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 2}
QWEN3 = BASE | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "use_sliding_window": False, "sliding_window": None}
# The original context is short, so that the prompts here reach what is stretched and what is not.
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

MODELS = {
    "llama-tied-rope3": LLAMA | {"vocab_size": 71, "tie_word_embeddings": True, "rope_theta": 500.0, "rope_scaling": LLAMA3_ROPE},
    "llama-untied-linear": LLAMA | {"vocab_size": 61, "tie_word_embeddings": False, "num_key_value_heads": 4, "rope_theta": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "qwen2-tied": QWEN2 | {"vocab_size": 67, "tie_word_embeddings": True, "rope_theta": 1000.0, "rms_norm_eps": 1e-6},
    "qwen3-untied": QWEN3 | {"vocab_size": 59, "tie_word_embeddings": False, "rope_theta": 1000.0, "head_dim": 16, "rms_norm_eps": 1e-6},
    "mistral-window": LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 53, "tie_word_embeddings": False, "rope_theta": 300.0, "sliding_window": 11},
}


def tensors(config: dict, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    dim = config.get("head_dim", hidden // heads)
    q, kv = heads * dim, config["num_key_value_heads"] * dim
    made = {"model.embed_tokens.weight": hf.noise(generator, config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        for part in ("input_layernorm", "post_attention_layernorm"):
            made[f"{block}.{part}.weight"] = hf.norm(generator, hidden)
        shapes = {"self_attn.q": (q, hidden), "self_attn.k": (kv, hidden), "self_attn.v": (kv, hidden), "self_attn.o": (hidden, q), "mlp.gate": (ffn, hidden), "mlp.up": (ffn, hidden), "mlp.down": (hidden, ffn)}
        for part, (rows, cols) in shapes.items():
            made[f"{block}.{part}_proj.weight"] = hf.noise(generator, rows, cols) * 1.3 / cols**0.5
            if config["model_type"] == "qwen2" and part in ("self_attn.q", "self_attn.k", "self_attn.v"):
                made[f"{block}.{part}_proj.bias"] = hf.noise(generator, rows) * 0.7
        if config["model_type"] == "qwen3":
            made[f"{block}.self_attn.q_norm.weight"] = hf.norm(generator, dim)
            made[f"{block}.self_attn.k_norm.weight"] = hf.norm(generator, dim)
    made["model.norm.weight"] = hf.norm(generator, hidden)
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = hf.noise(generator, config["vocab_size"], hidden)
    return {name: exact_in_f16(tensor) for name, tensor in made.items()}


def exact_in_f16(tensor: torch.Tensor) -> torch.Tensor:
    """Rounded to bf16, and what is below f16's finest step to zero."""
    rounded = tensor.to(torch.bfloat16)
    rounded[rounded.to(torch.float16).to(torch.bfloat16) != rounded] = 0
    return rounded


def bf16_activations(model: torch.nn.Module) -> torch.nn.Module:
    """The model, every linear layer's input rounded to bf16 from now on."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(torch.bfloat16).float(), *inputs[1:]))
    return model


def main() -> None:
    for seed, (name, config) in enumerate(MODELS.items(), 11):
        folder = hf.target() / name
        hf.write(folder, config, tensors(config, seed))
        model, generator = hf.load(folder), torch.Generator().manual_seed(100 + seed)
        rows = {1: [0], 17: list(range(17)), 64: list(range(0, 64, 7))}
        prompts = [hf.prompt(model, hf.random_ids(generator, n, config["vocab_size"]), rows[n]) for n in rows]
        greedy = hf.greedy(model, hf.random_ids(generator, 17, config["vocab_size"]), 128)
        rounded = bf16_activations(model)
        prompts_bf16 = [hf.prompt(rounded, prompt["tokens"], prompt["rows"]) for prompt in prompts]
        hf.answer(folder, prompts=prompts, greedy=greedy, prompts_bf16=prompts_bf16)
        print(f"{name}: least margin {min(greedy['margins'])}, {len(set(greedy['tokens']))} different tokens")


if __name__ == "__main__":
    main()
