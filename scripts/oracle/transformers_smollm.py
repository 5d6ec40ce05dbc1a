"""SmolLM2's dequantised weights in transformers, held against this project's engines through `harness`, live.

    transformers_smollm.py --harness target/release/harness --model data/smollm2-135m-instruct-q4_1.gguf \\
        --text ../shared/data/wiki.test.raw --windows 16 --window 1024

transformers reads and dequantises the GGUF file itself and evaluates in float32 on the CPU. The f16 engine holds the
file's matrices rounded to f16, so for it transformers' are rounded too; `--engine reference` gets them as they are.
What is compared: the logits of a prompt, 128 greedy tokens, and the perplexity of the first windows of a text on the same
token ids (transformers' own tokenizer's, which must be what `harness generate` says of the prompt). Prints one JSON
object; exits 1 if anything is out of its bound.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import folder as hf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = "The capital of France is"
LOGITS = 1e-4
PERPLEXITY = 1e-3


def harness(options: argparse.Namespace, *arguments: str) -> dict:
    command = [options.harness, *arguments, "--model", str(options.model), "--engine", options.engine, "--kv", "f32"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def load(path: pathlib.Path, engine: str) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    if engine == "f16":
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.data = parameter.data.half().float()
    return model


def compare_logits(options: argparse.Namespace, model: torch.nn.Module, ids: list[int]) -> dict:
    rows = torch.tensor(harness(options, "logits", "--all", "--tokens", ",".join(map(str, ids)))["logits"])
    truth = hf.logits(model, ids)
    scale = truth.square().mean().sqrt()
    distance = float((rows - truth).abs().max() / scale)
    return {"tokens": len(ids), "distance": distance, "bound": LOGITS, "rms_distance": float((rows - truth).square().mean().sqrt() / scale)}


def compare_text(options: argparse.Namespace, model: torch.nn.Module, ids: list[int]) -> dict:
    """transformers' greedy text; ours may differ only from a token on whose lead is within what logits may be off."""
    cache, given, tokens, margins = None, torch.tensor([ids]), [], []
    with torch.no_grad():
        for _ in range(128):
            out = model(given, past_key_values=cache, use_cache=True)
            best, cache = out.logits[0, -1].topk(2), out.past_key_values
            tokens.append(int(best.indices[0]))
            margins.append(float((best.values[0] - best.values[1]) / out.logits[0, -1].square().mean().sqrt()))
            given = torch.tensor([tokens[-1:]])
    ours = harness(options, "generate", "--prompt", PROMPT, "--max-tokens", "128", "--temperature", "0", "--json")
    assert ours["prompt_tokens"] == ids, f"tokenizers differ: {ours['prompt_tokens']}, {ids}"
    pairs = list(zip(ours["tokens"], tokens))
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    ended = len(ours["tokens"]) < 128 and same == len(ours["tokens"])
    fair = same == 128 or ended or margins[same] <= 2 * LOGITS
    return {"tokens": tokens, "margins": [float(f"{m:.3g}") for m in margins], "least_margin": min(margins), "same": same, "stop": ours["stop"], "fair": fair}


def compare_perplexity(options: argparse.Namespace, model: torch.nn.Module, tokenizer: object) -> dict:
    """Windows of the text, one after the other, each after the token that begins documents."""
    text = options.text.read_text(encoding="utf-8")
    start = tokenizer.bos_token_id
    ids = tokenizer(text[: options.windows * options.window * 8], add_special_tokens=False)["input_ids"]
    size = options.window - 1
    windows = [[start, *ids[n * size : (n + 1) * size]] for n in range(options.windows)]
    assert all(len(window) == options.window for window in windows), "the text has fewer windows"
    theirs = 0.0
    for window in windows:
        rows = hf.logits(model, window)[:-1].double().log_softmax(-1)
        theirs += float(rows[torch.arange(size), torch.tensor(window[1:])].sum())
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as requests:
        requests.writelines(json.dumps({"tokens": window, "first": 1}) + "\n" for window in windows)
        requests.flush()
        results = harness(options, "score", "--file", requests.name)["results"]
    ours = sum(result["loglikelihood"] for result in results)
    count = size * len(windows)
    perplexity = lambda sum: math.exp(-sum / count)
    relative = abs(perplexity(ours) / perplexity(theirs) - 1)
    return {"tokens": count, "ours": perplexity(ours), "transformers": perplexity(theirs), "relative": relative, "bound": PERPLEXITY}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", default="target/debug/harness")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--engine", choices=["f16", "reference"], default="f16")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--window", type=int, default=1024)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model.parent, gguf_file=options.model.name)
    model = load(options.model, options.engine)
    ids = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    answer = {"engine": options.engine, "prompt": PROMPT, "prompt_tokens": ids}
    answer["greedy"] = compare_text(options, model, ids)
    answer["logits"] = compare_logits(options, model, ids + answer["greedy"]["tokens"][:12])
    fair = answer["greedy"]["fair"] and answer["logits"]["distance"] < LOGITS
    if options.text:
        answer["perplexity"] = compare_perplexity(options, model, tokenizer)
        fair = fair and answer["perplexity"]["relative"] < PERPLEXITY
    print(json.dumps(answer))
    sys.exit(0 if fair else 1)


if __name__ == "__main__":
    main()
