"""A LLaMA forward pass in float64 NumPy from a GGUF file: greedy continuation and logits, as JSON."""

import argparse
import json

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def to_bf16(rows: np.ndarray) -> np.ndarray:
    """To the nearest value whose lower sixteen bits are zero, ties to even."""
    bits = rows.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


# What an engine makes of a matrix, and of what a matrix is multiplied by.
ROUNDINGS = {
    "logits": (lambda rows: rows.astype(np.float16), lambda x: x),
    "logits_bf16": (to_bf16, lambda x: to_bf16(x).astype(np.float64)),
    "logits_exact": (lambda rows: rows, lambda x: x),
}


class Model:
    """Weights by name, in the file's (permuted, interleaved-RoPE) order; matrices rounded."""

    def __init__(self, path: str, rounding, activations):
        self.activations = activations
        reader = GGUFReader(path)
        self.meta = {key: field.contents() for key, field in reader.fields.items()}
        self.weights = {}
        for tensor in reader.tensors:
            rows = dequantize(tensor.data, tensor.tensor_type).reshape([int(d) for d in reversed(tensor.shape)])
            if rows.ndim == 2:
                rows = rounding(rows)
            self.weights[tensor.name] = rows.astype(np.float32)
        self.heads = self.meta["llama.attention.head_count"]
        self.kv_heads = self.meta["llama.attention.head_count_kv"]
        self.dim = self.meta["llama.rope.dimension_count"]
        self.eps = self.meta["llama.attention.layer_norm_rms_epsilon"]
        self.theta = self.meta["llama.rope.freq_base"]

    def get(self, name: str) -> np.ndarray:
        return self.weights[name].astype(np.float64)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return self.activations(x) @ self.get(name).T

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.get(name)

    def rope(self, x: np.ndarray) -> np.ndarray:
        """x: [tokens, heads, dim]; values 2i and 2i + 1 turn by position * theta^(-2i/dim)."""
        frequency = self.theta ** (-np.arange(0, self.dim, 2) / self.dim)
        angle = np.arange(len(x))[:, None, None] * frequency
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)

    def attention(self, x: np.ndarray, block: str) -> np.ndarray:
        tokens = len(x)
        query = self.rope(self.linear(x, f"{block}.attn_q.weight").reshape(tokens, self.heads, self.dim))
        key = self.rope(self.linear(x, f"{block}.attn_k.weight").reshape(tokens, self.kv_heads, self.dim))
        value = self.linear(x, f"{block}.attn_v.weight").reshape(tokens, self.kv_heads, self.dim)
        group = self.heads // self.kv_heads
        key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
        score = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(self.dim)
        score = np.where(np.tril(np.ones((tokens, tokens), bool)), score, -np.inf)
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weight, value).reshape(tokens, -1)
        return self.linear(mixed, f"{block}.attn_output.weight")

    def logits(self, ids: list[int]) -> np.ndarray:
        """Logits of every position: [tokens, vocabulary]."""
        x = self.get("token_embd.weight")[ids]
        for layer in range(self.meta["llama.block_count"]):
            block = f"blk.{layer}"
            x = x + self.attention(self.norm(x, f"{block}.attn_norm.weight"), block)
            h = self.norm(x, f"{block}.ffn_norm.weight")
            gate, up = self.linear(h, f"{block}.ffn_gate.weight"), self.linear(h, f"{block}.ffn_up.weight")
            x = x + self.linear(gate / (1 + np.exp(-gate)) * up, f"{block}.ffn_down.weight")
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        return self.linear(self.norm(x, "output_norm.weight"), head)


def smollm(meta: dict) -> Tokenizer:
    """SmolLM's tokenizer as its authors define it: digits apart, then GPT-2's byte-level BPE."""
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: id for id, text in enumerate(tokens)}, merges))
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([text for text, kind in zip(tokens, meta["tokenizer.ggml.token_type"]) if kind == 3])
    return tokenizer


TEXTS = ["The capital of France is", "In 2024, 3½ of 1234567 people don't\n\n  agree...", "Führer 日本語 🦙 нещо на Български", "  leading\tand trailing  "]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--tokenizer")
    parser.add_argument("--bos", type=int)
    options = parser.parse_args()
    model = Model(options.gguf, *ROUNDINGS["logits"])
    tokenizer = Tokenizer.from_file(options.tokenizer) if options.tokenizer else smollm(model.meta)
    prompt = ([options.bos] if options.bos is not None else []) + tokenizer.encode(options.prompt).ids
    ids, least = list(prompt), np.inf
    for _ in range(options.tokens):
        last = model.logits(ids)[-1]
        best, second = np.sort(last)[-1], np.sort(last)[-2]
        least = min(least, best - second)
        ids.append(int(last.argmax()))
    step = max(1, model.logits(ids[:1]).shape[1] // 256)
    rows = {name: Model(options.gguf, *rounding).logits(ids) for name, rounding in ROUNDINGS.items()}
    kept = lambda rows: {str(p): [round(float(v), 6) for v in rows[p, ::step]] for p in (0, len(prompt) - 1, len(ids) - 1)}
    answer = {
        "prompt": options.prompt,
        "prompt_tokens": prompt,
        "tokens": ids[len(prompt):],
        "text": tokenizer.decode(ids[len(prompt):]),
        "smallest_margin": round(float(least), 6),
        "logit_step": step,
        **{name: kept(rows) for name, rows in rows.items()},
        "encoded": {text: tokenizer.encode(text).ids for text in TEXTS},
    }
    print(json.dumps(answer, ensure_ascii=False, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
