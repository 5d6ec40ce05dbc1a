"""GGUF files that `harness` writes, loaded by upstream llama.cpp (the llama-cpp-python package), its logits beside ours.

    llamacpp.py --harness target/release/harness

A synthetic LLaMA-style ternary model is written in each packing that llama.cpp knows, by `model synth --out` and again
through `model convert`; the real model, if given, is converted to F16 and Q8_0. The distance is the root mean square of
the difference over that of ours, all positions together. Bounds differ because llama.cpp rounds activations to what it
multiplies them as: of F32 not at all, of F16 to f16, of Q8_0 to int8 in blocks of 32, of TQ1_0 and TQ2_0 to int8 in blocks
of 256 (Q8_K), where BitNet b1.58 has one scale a token. Prints one JSON object; exits 1 if anything is out of bound.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp as llama
import numpy as np

TOKENS = [(i * i * 31 + i * 17 + 5) % 301 for i in range(40)]
SHAPE = ["family=llama", "activation=silu", "hidden=512", "ffn=768", "layers=3", "heads=8", "kv_heads=2", "vocab=301", "context=128", "rope_theta=500.0"]
# Packing: the engine to hold it against, the bound.
SYNTHETIC = {"f32": ("reference", 1e-5), "f16": ("f16", 2e-3), "bf16": ("bf16", 1e-2), "q8_0": ("f16", 2e-2), "tq1_0": ("ternary", 3e-2), "tq2_0": ("ternary", 3e-2)}
REAL = {"f16": ("f16", 2e-3), "q8_0": ("f16", 3e-2)}


def harness(options: argparse.Namespace, *arguments: object) -> dict:
    run = subprocess.run([options.harness, *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def ours(options: argparse.Namespace, path: pathlib.Path, engine: str, tokens: list[int]) -> np.ndarray:
    ids = ",".join(map(str, tokens))
    return np.array(harness(options, "logits", "--model", path, "--engine", engine, "--kv", "f32", "--all", "--tokens", ids)["logits"])


def theirs(path: pathlib.Path, tokens: list[int]) -> np.ndarray:
    """Logits after each token, decoded one by one, keys and values in f32."""
    given = llama.llama_model_default_params()
    given.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(path).encode(), given)
    if not model:
        sys.exit(f"llama.cpp does not load {path}")
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_threads, params.type_k, params.type_v = 128, 1, 0, 0
    params.flash_attn_type = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED: it rounds on its way.
    context = llama.llama_init_from_model(model, params)
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    rows = []
    for token in tokens:
        ids = (llama.llama_token * 1)(token)
        if llama.llama_decode(context, llama.llama_batch_get_one(ids, 1)) != 0:
            sys.exit(f"llama.cpp does not evaluate {path}")
        logits = llama.llama_get_logits_ith(context, -1)
        rows.append(np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (vocab,)).astype(float))
    llama.llama_free(context)
    llama.llama_model_free(model)
    return np.array(rows)


def compare(options: argparse.Namespace, path: pathlib.Path, engine: str, bound: float, tokens: list[int]) -> dict:
    mine, other = ours(options, path, engine, tokens), theirs(path, tokens)
    distance = float(np.sqrt(np.mean((mine - other) ** 2) / np.mean(mine**2)))
    same = float(np.mean(mine.argmax(-1) == other.argmax(-1)))
    return {"engine": engine, "distance": distance, "bound": bound, "same_argmax": same, "ok": distance < bound}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", default="target/debug/harness")
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file of a LLaMA, such as SmolLM2's")
    options = parser.parse_args()
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    answer = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        fields = [part for field in SHAPE for part in ("--set", field)]
        for packing, (engine, bound) in SYNTHETIC.items():
            path = folder / f"synthetic-{packing}.gguf"
            harness(options, "model", "synth", "--model", "125m", "--out", path, "--to", packing, "--embedding", "f32" if packing == "f32" else "keep", *fields)
            answer[f"synthetic {packing}"] = compare(options, path, engine, bound, TOKENS)
        for source, packing in (("tq1_0", "tq2_0"), ("tq2_0", "tq1_0"), ("tq2_0", "f16")):
            path, (engine, bound) = folder / f"{source}-{packing}.gguf", SYNTHETIC[packing]
            harness(options, "model", "convert", folder / f"synthetic-{source}.gguf", path, "--to", packing)
            answer[f"{source} converted to {packing}"] = compare(options, path, engine, bound, TOKENS)
        for packing, (engine, bound) in REAL.items() if options.model else ():
            path = folder / f"real-{packing}.gguf"
            harness(options, "model", "convert", options.model, path, "--to", packing, "--embedding", packing)
            answer[f"{options.model.name} converted to {packing}"] = compare(options, path, engine, bound, TOKENS)
    print(json.dumps({"llama_cpp_python": llama.__version__, "files": answer}, indent=1))
    sys.exit(0 if all(one["ok"] for one in answer.values()) else 1)


if __name__ == "__main__":
    main()
