"""Random small BitNet b1.58 checkpoints in every convention, with the logits of transformers' model in float32.

    transformers_bitnet.py engine/tests/golden/hf

An activation that lies on the edge between two int8 values goes to either side by the last bit of a float: two honest
implementations then differ by far more than their rounding. The prompts of 1 and 17 tokens are therefore the ones, of
many drawn, whose activations in transformers' own evaluation keep furthest from such edges (`tie`: the least distance,
in int8 steps); the prompt of 64 is taken as it comes.
"""

import torch
import folder as hf
from transformers.integrations import bitnet

BASE = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "rms_norm_eps": 1e-5, "rope_theta": 500.0, "max_position_embeddings": 128, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}
LLAMA = BASE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
OFFLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
# Without a class the legacy BitLinear is meant, whose scales are inverse.
LEGACY = {"quant_method": "bitnet", "modules_to_not_convert": None}

# Name: base, quantisation, hidden, ffn, layers, heads, kv_heads, vocabulary, tied, seed. Packed rows come in fours.
MODELS = {
    "bitnet-offline-tied": (BASE, OFFLINE, 96, 200, 2, 6, 2, 61, True, 1),
    "bitnet-offline-untied": (BASE, OFFLINE, 72, 188, 2, 4, 4, 50, False, 2),
    "bitnet-legacy-untied": (BASE, LEGACY, 88, 172, 2, 4, 2, 53, False, 3),
    "bitnet-legacy-tied": (BASE, LEGACY, 60, 148, 3, 6, 2, 67, True, 4),
    "bitnet-online-tied": (BASE, ONLINE, 60, 90, 2, 6, 3, 47, True, 5),
    "llama-bitlinear": (LLAMA, LEGACY, 80, 116, 2, 4, 2, 59, False, 6),
}


def tensors(config: dict, quantisation: dict, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    made = {"model.embed_tokens.weight": hf.noise(generator, config["vocab_size"], hidden).to(torch.bfloat16)}

    def linear(name: str, rows: int, cols: int) -> None:
        spread = float(0.6 + torch.rand(1, generator=generator)) / cols**0.5
        if quantisation is ONLINE:
            made[f"{name}.weight"] = (hf.noise(generator, rows, cols) * spread).to(torch.bfloat16)
            return
        codes = torch.randint(-1, 2, (rows, cols), generator=generator)
        made[f"{name}.weight"] = bitnet.pack_weights(codes)
        scale = torch.tensor([1.2 * spread])
        made[f"{name}.weight_scale"] = (1 / scale if quantisation is LEGACY else scale).to(torch.bfloat16)

    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        for part in ("input_layernorm", "post_attention_layernorm"):
            made[f"{block}.{part}.weight"] = hf.norm(generator, hidden)
        if config["model_type"] == "bitnet":
            made[f"{block}.self_attn.attn_sub_norm.weight"] = hf.norm(generator, hidden)
            made[f"{block}.mlp.ffn_sub_norm.weight"] = hf.norm(generator, ffn)
        for part, rows, cols in (("q", hidden, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, hidden)):
            linear(f"{block}.self_attn.{part}_proj", rows, cols)
        for part, rows, cols in (("gate", ffn, hidden), ("up", ffn, hidden), ("down", hidden, ffn)):
            linear(f"{block}.mlp.{part}_proj", rows, cols)
    made["model.norm.weight"] = hf.norm(generator, hidden)
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = hf.noise(generator, config["vocab_size"], hidden).to(torch.bfloat16)
    return made


class Ties:
    """Watches the linear layers' inputs: the least distance of an activation from the edge between two int8 values."""

    def __init__(self, model: torch.nn.Module):
        self.least = 1.0
        for module in model.modules():
            if isinstance(module, (bitnet.BitLinear, bitnet.AutoBitLinear)):
                module.register_forward_pre_hook(self.see)

    def see(self, _module: torch.nn.Module, inputs: tuple) -> None:
        x = inputs[0].double()
        steps = x * 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        self.least = min(self.least, float((steps - steps.floor() - 0.5).abs().min()))


def safest(model: torch.nn.Module, generator: torch.Generator, count: int, draws: int) -> tuple[list[int], float]:
    ties, best = Ties(model), ([], 0.0)
    for _ in range(draws):
        ids = hf.random_ids(generator, count, model.config.vocab_size)
        ties.least = 1.0
        hf.logits(model, ids)
        best = max(best, (ids, ties.least), key=lambda one: one[1])
    return best


def main() -> None:
    for name, (base, quantisation, hidden, ffn, layers, heads, kv_heads, vocab, tied, seed) in MODELS.items():
        config = base | {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab, "tie_word_embeddings": tied, "quantization_config": quantisation}
        folder = hf.target() / name
        hf.write(folder, config, tensors(config, quantisation, seed))
        model, generator = hf.load(folder), torch.Generator().manual_seed(100 + seed)
        one, one_tie = safest(model, generator, 1, 32)
        some, some_tie = safest(model, generator, 17, 256)
        prompts = [
            hf.prompt(model, one, [0], tie=one_tie),
            hf.prompt(model, some, list(range(17)), tie=some_tie),
            hf.prompt(model, hf.random_ids(generator, 64, vocab), list(range(0, 64, 7))),
        ]
        hf.answer(folder, prompts=prompts)
        print(f"{name}: ties {one_tie:.1e}, {some_tie:.1e}")


if __name__ == "__main__":
    main()
