"""SmolLM2's dequantised weights in transformers, held against this project's engines through `harness`, live.

    transformers_smollm.py --harness target/release/harness --model data/smollm2-135m-instruct-q4_1.gguf \\
        --text ../shared/data/wiki.test.raw --windows 16 --window 1024
    transformers_smollm.py --model data/smollm2-135m-instruct-q4_1.gguf --text ../shared/data/wiki.test.raw \\
        --windows 2 --window 128 --golden > engine/tests/golden/smollm2-transformers.json

transformers reads and dequantises the GGUF file itself and evaluates in float32 on the CPU. The f16 engine holds the
file's matrices rounded to f16, so for it transformers' are rounded too; `--engine reference` gets them as they are.
What is compared: the logits of a prompt, 128 greedy tokens, and the perplexity of the first windows of a text on the same
token ids (transformers' own tokenizer's, which must be what `harness generate` says of the prompt). Prints one JSON
object; exits 1 if anything is out of its bound. `--golden` prints what transformers says alone, for the engine's tests.
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


def greedy(model: torch.nn.Module, ids: list[int]) -> tuple[list[int], list[float]]:
    """128 tokens, and the lead of each over the second best, relative to the root mean square of the logits."""
    cache, given, tokens, margins = None, torch.tensor([ids]), [], []
    with torch.no_grad():
        for _ in range(128):
            out = model(given, past_key_values=cache, use_cache=True)
            best, cache = out.logits[0, -1].topk(2), out.past_key_values
            tokens.append(int(best.indices[0]))
            margins.append(float(f"{(best.values[0] - best.values[1]) / out.logits[0, -1].square().mean().sqrt():.3g}"))
            given = torch.tensor([tokens[-1:]])
    return tokens, margins


def windows(options: argparse.Namespace, tokenizer: object) -> list[list[int]]:
    """The text after the token that begins documents, cut as `harness perplexity` cuts it: each window begins with the last
    token of the one before and scores the rest."""
    text, size = options.text.read_text(encoding="utf-8"), options.window
    ids = [tokenizer.bos_token_id, *tokenizer(text[: options.windows * size * 8], add_special_tokens=False)["input_ids"]]
    cut = [ids[n * size : (n + 1) * size + 1] for n in range(options.windows)]
    assert all(len(window) == size + 1 for window in cut), "the text has fewer windows"
    return cut


def loglikelihood(model: torch.nn.Module, window: list[int]) -> float:
    rows = hf.logits(model, window)[:-1].double().log_softmax(-1)
    return float(rows[torch.arange(len(window) - 1), torch.tensor(window[1:])].sum())


def compare_logits(options: argparse.Namespace, model: torch.nn.Module, ids: list[int]) -> dict:
    rows, truth = torch.tensor(harness(options, "logits", "--all", "--tokens", ",".join(map(str, ids)))["logits"]), hf.logits(model, ids)
    distance = float((rows - truth).abs().max() / truth.square().mean().sqrt())
    return {"tokens": len(ids), "distance": distance, "bound": LOGITS, "ok": distance < LOGITS}


def compare_text(options: argparse.Namespace, tokens: list[int], margins: list[float], ids: list[int]) -> dict:
    """Our greedy text may leave transformers' only at a token whose lead is within what two logits may be off."""
    ours = harness(options, "generate", "--prompt", PROMPT, "--max-tokens", "128", "--temperature", "0", "--json")
    assert ours["prompt_tokens"] == ids, f"tokenizers differ: {ours['prompt_tokens']}, {ids}"
    same = next((n for n, (a, b) in enumerate(zip(ours["tokens"], tokens)) if a != b), len(ours["tokens"]))
    ended = same == len(ours["tokens"]) and ours["stop"] == "eos"
    ok = same == 128 or ended or margins[same] <= 2 * LOGITS
    return {"same": same, "stop": ours["stop"], "least_margin": min(margins), "ok": ok}


def compare_perplexity(options: argparse.Namespace, model: torch.nn.Module, cut: list[list[int]]) -> dict:
    theirs = sum(loglikelihood(model, window) for window in cut)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(cut[0] + [token for window in cut[1:] for token in window[1:]], file)
        file.flush()
        arguments = ["--tokens-file", file.name, "--context", str(options.window), "--json"]
        ours = -harness(options, "perplexity", *arguments)["nll"]
    count = sum(len(window) - 1 for window in cut)
    ours, theirs = math.exp(-ours / count), math.exp(-theirs / count)
    relative = abs(ours / theirs - 1)
    return {"windows": len(cut), "tokens": count, "ours": ours, "transformers": theirs, "relative": relative, "bound": PERPLEXITY, "ok": relative < PERPLEXITY}


def golden(options: argparse.Namespace, model: torch.nn.Module, tokenizer: object, ids: list[int]) -> dict:
    """Every 211th logit after the first and the last tokens of prompt and text; windows and their log-likelihoods."""
    tokens, margins = greedy(model, ids)
    all_ids = ids + tokens
    rows = hf.logits(model, all_ids)
    kept = {str(at): hf.digits(rows[at, ::211]) for at in (0, len(ids) - 1, len(all_ids) - 1)}
    texts = [{"tokens": window, "loglikelihood": loglikelihood(model, window)} for window in windows(options, tokenizer)]
    return {"prompt": PROMPT, "prompt_tokens": ids, "tokens": tokens, "margins": margins, "rms": float(rows.square().mean().sqrt()), "logit_step": 211, "logits": kept, "windows": texts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", default="target/debug/harness")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--engine", choices=["f16", "reference"], default="f16")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--window", type=int, default=1024)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model.parent, gguf_file=options.model.name)
    model = load(options.model, options.engine)
    ids = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    if options.golden:
        print(json.dumps(golden(options, model, tokenizer, ids), separators=(",", ":")))
        return
    tokens, margins = greedy(model, ids)
    answer = {"engine": options.engine, "greedy": compare_text(options, tokens, margins, ids)}
    answer["logits"] = compare_logits(options, model, ids + tokens[:12])
    if options.text:
        answer["perplexity"] = compare_perplexity(options, model, windows(options, tokenizer))
    print(json.dumps(answer))
    sys.exit(0 if all(one["ok"] for one in answer.values() if isinstance(one, dict)) else 1)


if __name__ == "__main__":
    main()
