"""This project's engines as a model of EleutherAI's lm-evaluation-harness, whose own command line then drives them.

    lm_eval_tasks.py target/lm_eval/tasks --documents ../shared/data
    lm_eval_model.py run --model tritmark --tasks arc_easy --include_path target/lm_eval/tasks --limit 100 \\
        --model_args harness=target/release/harness,model=data/smollm2-135m-instruct-q4_1.gguf,engine=f16

The arguments are those of `lm-eval`; this script only makes the model's name known to it. Each batch of requests is one run
of our program: `harness score --file` for log-likelihoods, `harness generate --prompts` for text. Model arguments: `model`,
`harness`, `engine`, `kv`, `isa`, `threads`, `head`, `data` as the program has them; `tokenizer` (a tokenizer.json) and
`max_length` (tokens of a rolling window, such as the model's context), which only tasks with texts longer than the context
need, as no command of the program tells the token ids of those. Chat templates are not applied; prompts longer than the
context are refused, where lm-eval's own models cut them off from the left.
"""

import json
import logging
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

MAX_TOKENS = 256  # HFLM's, where a task does not say.
SAMPLING = {"temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "min_p": "--min-p", "repetition_penalty": "--repetition-penalty", "seed": "--seed"}
LENGTH = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def sampling(given: dict) -> list[str]:
    """Options of `harness generate` for lm-eval's generation arguments; greedy unless sampling is asked for."""
    rest = {key: value for key, value in given.items() if key not in ("until", "do_sample", *LENGTH)}
    if not given.get("do_sample", float(rest.get("temperature", 0) or 0) > 0):
        rest = {key: value for key, value in rest.items() if key == "repetition_penalty" or key not in SAMPLING}
        rest["temperature"] = 0
    elif "temperature" not in rest:
        rest["temperature"] = 1.0
    unknown = sorted(rest.keys() - SAMPLING.keys())
    if unknown:
        raise ValueError(f"generation arguments that harness has none of: {', '.join(unknown)}")
    stops = given.get("until") or []
    stops = [stops] if isinstance(stops, str) else stops
    length = next((int(given[key]) for key in LENGTH if given.get(key) is not None), MAX_TOKENS)
    # `--stop=` and not `--stop `, as a stop may begin with a dash.
    options = [f"{SAMPLING[key]}={value}" for key, value in sorted(rest.items())] + [f"--stop={stop}" for stop in stops if stop]
    return [f"--max-tokens={length}", *options]


def windows(tokens: list[int], prefix: int, longest: int) -> Iterator[dict]:
    """lm-eval's rolling windows as requests of `harness score`."""
    for pair in utils.get_rolling_token_windows(tokens, prefix, longest, 1):
        context, scored = utils.make_disjoint_window(pair)
        yield {"tokens": context + scored, "first": len(context)}


@register_model("tritmark")
class Tritmark(LM):
    def __init__(self, model: str, harness: str = "target/debug/harness", tokenizer: str | None = None, max_length: int | None = None, batch_size: object = None, max_batch_size: object = None, device: object = None, **options: object) -> None:
        super().__init__()
        unknown = sorted(options.keys() - {"engine", "kv", "isa", "threads", "head", "data"})
        if unknown:
            raise ValueError(f"unknown model arguments: {', '.join(unknown)}")
        if (tokenizer is None) != (max_length is None):
            raise ValueError("tokenizer and max_length go together: the windows of texts longer than the context")
        self.harness, self.model = harness, model
        self.options = [f"--{key}={value}" for key, value in options.items()]
        self.data = [option for option in self.options if option.startswith("--data=")]
        self.longest, self.ids, self.known = max_length and int(max_length), None, None
        if tokenizer:
            from tokenizers import Tokenizer

            self.ids = Tokenizer.from_file(tokenizer)

    def run(self, *arguments: str) -> str:
        run = subprocess.run([self.harness, *arguments], capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(f"harness {arguments[0]}: {run.stderr.strip()}")
        return run.stdout

    def over_file(self, name: str, flag: str, lines: list[dict], *arguments: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "requests.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            return self.run(name, f"--model={self.model}", *self.options, *arguments, f"{flag}={path}")

    def score(self, requests: list[dict]) -> list[dict]:
        return json.loads(self.over_file("score", "--file", requests))["results"] if requests else []

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        pairs = [request.args for request in requests]
        results = self.score([{"context": context, "continuation": continuation} for context, continuation in pairs])
        cut = sum(result["truncated"] > 0 for result in results)
        if cut:
            logging.getLogger(__name__).warning("%d of %d requests were cut off from the left", cut, len(results))
        answers = [(result["loglikelihood"], result["greedy"]) for result in results]
        for pair, answer in zip(pairs, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        texts = [request.args[0] for request in requests]
        asked = [self.rolling(text) for text in texts]
        results = iter(self.score([request for parts in asked for request in parts]))
        sums = [sum(next(results)["loglikelihood"] for _ in parts) for parts in asked]
        for text, answer in zip(texts, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answer)
        return sums

    def rolling(self, text: str) -> list[dict]:
        """A text in one piece after the token that begins documents; with a tokenizer, in windows of its ids."""
        if not text:
            return []
        if self.ids is None:
            return [{"context": "", "continuation": text}]
        facts = self.facts()
        prefix = facts["eos"] if facts["bos"] is None else facts["bos"]
        # As HFLM: what the tokenizer puts before a text is scored too, after the prefix.
        tokens = [facts["bos"]] * facts["add_bos"] + self.ids.encode(text, add_special_tokens=False).ids
        return list(windows(tokens, prefix, self.longest))

    def facts(self) -> dict:
        """What the model's file says of its tokenizer."""
        if self.known is None:
            self.known = json.loads(self.run("model", "inspect", self.model, "--json", *self.data))["tokenizer"]
        return self.known

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        groups: dict[tuple[str, ...], list[int]] = {}
        for at, request in enumerate(requests):
            groups.setdefault(tuple(sampling(request.args[1])), []).append(at)
        answers = [""] * len(requests)
        for options, members in groups.items():
            lines = self.over_file("generate", "--prompts", [{"prompt": requests[at].args[0]} for at in members], "--json", *options)
            for at, line in zip(members, lines.splitlines(), strict=True):
                answers[at] = json.loads(line)["text"]
                self.cache_hook.add_partial("generate_until", requests[at].args, answers[at])
        return answers


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help"):
        print(__doc__)
    cli_evaluate()


if __name__ == "__main__":
    main()
