"""EleutherAI's lm-evaluation-harness held against this project, item by item, on the same weights.

    lm_eval_agreement.py theirs --model data/smollm2-135m-instruct-q4_1.gguf --documents ../shared/data --limit 500 \\
        --out target/lm_eval/theirs.jsonl
    lm_eval_agreement.py ours --harness target/release/harness --model data/smollm2-135m-instruct-q4_1.gguf \\
        --documents ../shared/data --limit 500 --out target/lm_eval
    lm_eval_agreement.py compare target/lm_eval/theirs.jsonl target/lm_eval/arc_easy.jsonl ..

`theirs` evaluates the tasks of `lm_eval_tasks.py` with lm-eval's own `HFLM`: transformers dequantises the GGUF file and runs
in float32 on the CPU, one thread. (The f16 engine holds matrices rounded to f16; `--weights f16` rounds transformers' too.)
`ours` sends lm-eval's own requests through `harness score` and writes a log a task; so do `harness eval TASK` with requests
of its own. `compare` takes either and exits 1 if, on any task, fewer than 99 % of the choices are equal, an accuracy differs
by more than 0.3 points, the right answers are not the same, or fewer than `--least` items are had by both.

The file that `theirs` writes: JSON lines, `{"kind": "header", ..}` with versions and settings, then for each item
`{"kind": "item", "task", "index", "loglikelihoods", "greedy", "tokens", "lengths", "gold", "choice", "choice_norm"}`
(`lengths`: characters of the choices, by which acc_norm divides; `tokens`: of each continuation; `choice_norm` null where the
task has no acc_norm), and for each task `{"kind": "summary", "task", "items", "acc", "acc_stderr", .., "seconds"}`.

A log of ours: JSON lines; a first object with `"kind": "header"` and `"task"` (else the file's name begins with a task's);
every object with `index` and `loglikelihoods` is an item, and of two with one index the later counts (a run that was taken
up again); `gold`, `choice`, `choice_norm` and `tokens` may be absent: choices then follow from the log-likelihoods. Objects
of other kinds are passed over, and so is a last line that was cut off.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import lm_eval_tasks

SAME = 0.99
ACCURACY = 0.003


# Reading and comparing: needs neither lm-eval nor torch.


def argmax(values: list[float]) -> int:
    """The first of the greatest, as numpy's."""
    return max(range(len(values)), key=lambda n: values[n])


def normalised(values: list[float], lengths: list[int]) -> list[float]:
    return [value / length for value, length in zip(values, lengths, strict=True)]


def read_lines(path: pathlib.Path) -> list[dict]:
    lines = [(number, line) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]
    objects = []
    for at, (number, line) in enumerate(lines):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if at == len(lines) - 1:
                break
            raise ValueError(f"{path}:{number}: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"{path}:{number}: expected an object")
        objects.append(value)
    return objects


def read_theirs(path: pathlib.Path) -> dict[str, dict[int, dict]]:
    tasks: dict[str, dict[int, dict]] = {}
    for value in read_lines(path):
        if value.get("kind") == "item":
            tasks.setdefault(value["task"], {})[value["index"]] = value
    return tasks


def read_ours(path: pathlib.Path) -> tuple[str, dict[int, dict]]:
    objects = read_lines(path)
    task = next((value["task"] for value in objects if value.get("kind") == "header" and "task" in value), None)
    if task is None:
        task = max((name for name in lm_eval_tasks.TASKS if path.name.startswith(name)), key=len, default=None)
    if task is None:
        raise ValueError(f"{path}: no header with a task, and no task's name in the file's")
    return task, {value["index"]: value for value in objects if "index" in value and "loglikelihoods" in value}


def compare(theirs: dict[int, dict], ours: dict[int, dict], least: int) -> dict:
    """One task: the items that both have."""
    indices = sorted(theirs.keys() & ours.keys())
    if not indices:
        return {"items": 0, "least": least, "ok": False}
    answer: dict = {"items": len(indices), "least": least, "only_theirs": len(theirs.keys() - ours.keys()), "only_ours": len(ours.keys() - theirs.keys())}
    faults = {"gold": [], "choices": [], "tokens": []}
    differences = []
    for index in indices:
        a, b = theirs[index], ours[index]
        if len(a["loglikelihoods"]) != len(b["loglikelihoods"]):
            faults["choices"].append(index)
            continue
        gold = b.get("gold")
        if gold is not None and sorted(gold if isinstance(gold, list) else [gold]) != sorted(a["gold"]):
            faults["gold"].append(index)
        if a.get("tokens") and b.get("tokens") and a["tokens"] != b["tokens"]:
            faults["tokens"].append(index)
        differences += [(abs(x - y), index, n) for n, (x, y) in enumerate(zip(a["loglikelihoods"], b["loglikelihoods"]))]
    usable = [index for index in indices if index not in faults["choices"]]
    for metric, key in (("acc", "choice"), ("acc_norm", "choice_norm")):
        if all(theirs[index].get(key) is not None for index in usable) and usable:
            answer[metric] = compare_metric(theirs, ours, usable, metric, key)
    # A difference of not a number is the greatest of all.
    value, index, choice = max(differences, key=lambda d: (math.isnan(d[0]), d[0]), default=(0.0, None, None))
    mean = sum(d[0] for d in differences) / max(len(differences), 1)
    answer["loglikelihood_difference"] = {"largest": value, "index": index, "choice": choice, "mean": mean}
    answer["differ"] = {name: {"items": len(found), "first": found[:10]} for name, found in faults.items()}
    metrics = [answer[metric]["ok"] for metric in ("acc", "acc_norm") if metric in answer]
    answer["ok"] = len(indices) >= least and not faults["gold"] and not faults["choices"] and bool(metrics) and all(metrics) and not math.isnan(value)
    return answer


def compare_metric(theirs: dict[int, dict], ours: dict[int, dict], indices: list[int], metric: str, key: str) -> dict:
    disagreeing, right = [], {"theirs": 0, "ours": 0}
    for index in indices:
        a, b = theirs[index], ours[index]
        score = (lambda item: normalised(item["loglikelihoods"], a["lengths"])) if metric == "acc_norm" else (lambda item: item["loglikelihoods"])
        given = b.get(key)
        mine = argmax(score(b)) if given is None else given
        right["theirs"] += a[key] in a["gold"]
        right["ours"] += mine in a["gold"]
        if mine != a[key]:
            lead = {name: score(item)[a[key]] - score(item)[mine] for name, item in (("theirs", a), ("ours", b))}
            disagreeing.append({"index": index, "theirs": a[key], "ours": mine, "gold": a["gold"], "lead_of_theirs": lead})
    count = len(indices)
    same, accuracies = 1 - len(disagreeing) / count, {name: hits / count for name, hits in right.items()}
    difference = abs(right["theirs"] - right["ours"]) / count
    ok = same >= SAME and difference <= ACCURACY
    return {"same": same, **accuracies, "difference": difference, "ok": ok, "disagreeing": disagreeing}


def run_compare(options: argparse.Namespace) -> int:
    theirs, answer = read_theirs(options.theirs), {}
    for path in options.logs:
        task, ours = read_ours(path)
        if task in answer:
            raise ValueError(f"{path}: a second log of {task}")
        answer[task] = compare(theirs.get(task, {}), ours, options.least)
    answer["ok"] = all(one["ok"] for one in answer.values())
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


# Running: both sides take their requests from lm-eval's task objects.


def open_tasks(options: argparse.Namespace, folder: str) -> dict:
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=f"{folder}/cache", TOKENIZERS_PARALLELISM="false")
    from lm_eval.tasks import TaskManager

    lm_eval_tasks.write(pathlib.Path(folder), options.documents, options.tasks)
    return TaskManager(include_path=folder, include_defaults=False).load(options.tasks)["tasks"]


def gold(task: object, document: dict) -> list[int]:
    found = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    return found if isinstance(found, list) else [found]


def item(task: object, name: str, index: int, document: dict, scores: list[tuple[float, bool]], tokens: list[int]) -> dict:
    loglikelihoods, greedy = [list(column) for column in zip(*scores, strict=True)]
    lengths = [len(choice) for choice in task.doc_to_choice(document)]
    norm = argmax(normalised(loglikelihoods, lengths)) if "acc_norm" in task.aggregation() else None
    parts = {"loglikelihoods": loglikelihoods, "greedy": greedy, "tokens": tokens, "lengths": lengths, "gold": gold(task, document)}
    return {"kind": "item", "task": name, "index": index, **parts, "choice": argmax(loglikelihoods), "choice_norm": norm}


def as_trained(path: pathlib.Path, tokenizer: object) -> str:
    """transformers (5.24) makes GPT-2's pre-tokenizer of every GGUF file with a byte-level vocabulary, whatever
    `tokenizer.ggml.pre` says. SmolLM2 was trained with each digit parted from what is before it, spaces too."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    pre = field.contents() if field else None
    if pre == "smollm":
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return f"pre={pre}"


def open_lm(options: argparse.Namespace) -> tuple[object, dict]:
    import lm_eval
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(options.threads)
    path = options.model
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    if options.weights == "f16":
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.data = parameter.data.half().float()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    repair = "as transformers loads it" if options.tokenizer == "loaded" else as_trained(path, tokenizer)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch, device="cpu")
    bos = bool(lm.tok_encode("a")[:1] == [tokenizer.bos_token_id])
    versions = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    settings = {"model": path.name, "weights": options.weights, "dtype": "float32", "tokenizer": repair, "bos_added": bos, "prefix_token": lm.prefix_token_id, "max_length": lm.max_length, "limit": options.limit, "batch": options.batch}
    return lm, {"kind": "header", **versions, **settings}


def run_theirs(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tasks = open_tasks(options, folder)
        lm, header = open_lm(options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", encoding="utf-8") as out:
            for value in theirs(options, lm, header, tasks):
                out.write(json.dumps(value) + "\n")
                out.flush()
    return 0


def theirs(options: argparse.Namespace, lm: object, header: dict, tasks: dict):
    from lm_eval.evaluator import evaluate

    yield header
    for name, task in tasks.items():
        begin = time.monotonic()
        results = evaluate(lm=lm, task_dict={"tasks": {name: task}, "groups": {}}, limit=options.limit, log_samples=True)
        seconds = time.monotonic() - begin
        # lm-eval gives what it asked for as numbered arguments of each sample.
        for sample in sorted(results["samples"][name], key=lambda sample: sample["doc_id"]):
            scores = [tuple(response) for (response,) in sample["resps"]]
            pairs = [request_args(request) for request in sample["arguments"]]
            tokens = [len(lm._encode_pair(*pair)[1]) for pair in pairs]
            value = item(task, name, sample["doc_id"], sample["doc"], scores, tokens)
            value.update({metric: sample[metric] for metric in ("acc", "acc_norm") if metric in sample})
            for metric, key in (("acc", "choice"), ("acc_norm", "choice_norm")):
                assert metric not in sample or (value[key] in value["gold"]) == bool(sample[metric]), f"{name} {sample['doc_id']}: {metric}"
            yield value
        summary = {key.removesuffix(",none"): value for key, value in results["results"][name].items() if key.endswith(",none")}
        yield {"kind": "summary", "task": name, "items": len(results["samples"][name]), **summary, "seconds": seconds}


def request_args(request: object) -> tuple[str, str]:
    return tuple(request) if not isinstance(request, dict) else (request["arg_0"], request["arg_1"])


def score(options: argparse.Namespace, requests: list[tuple[str, str]], folder: str) -> list[dict]:
    path = pathlib.Path(folder) / "requests.jsonl"
    lines = (json.dumps({"context": context, "continuation": continuation}) + "\n" for context, continuation in requests)
    path.write_text("".join(lines), encoding="utf-8")
    command = [options.harness, "score", "--model", str(options.model), "--engine", options.engine, "--kv", options.kv, "--threads", str(options.threads), "--file", str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]


def run_ours(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, task in open_tasks(options, folder).items():
            task.build_all_requests(limit=options.limit, rank=0, world_size=1)
            begin = time.monotonic()
            results = score(options, [instance.args for instance in task.instances], folder)
            header = {"kind": "header", "task": name, "engine": options.engine, "kv": options.kv, "door": "harness score", "seconds": time.monotonic() - begin}
            items: dict[int, list] = {}
            for instance, result in zip(task.instances, results, strict=True):
                assert instance.idx == len(items.setdefault(instance.doc_id, []))
                items[instance.doc_id].append((instance.doc, result))
            lines = [header]
            for index, choices in items.items():
                scores = [(result["loglikelihood"], result["greedy"]) for _, result in choices]
                lines.append(item(task, name, index, choices[0][0], scores, [result["tokens"] for _, result in choices]))
            (options.out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file")
    shared.add_argument("--documents", type=pathlib.Path, required=True, help="folder of the tasks' JSONL files")
    shared.add_argument("--tasks", nargs="+", choices=lm_eval_tasks.TASKS, default=list(lm_eval_tasks.TASKS))
    shared.add_argument("--limit", type=int, default=500)
    shared.add_argument("--threads", type=int, default=1)
    command = commands.add_parser("theirs", parents=[shared])
    command.add_argument("--weights", choices=["file", "f16"], default="file")
    command.add_argument("--tokenizer", choices=["trained", "loaded"], default="trained")
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--out", type=pathlib.Path, required=True, help="a file")
    command.set_defaults(run=run_theirs)
    command = commands.add_parser("ours", parents=[shared])
    command.add_argument("--harness", default="target/debug/harness")
    command.add_argument("--engine", default="f16")
    command.add_argument("--kv", default="f16")
    command.add_argument("--out", type=pathlib.Path, required=True, help="a folder")
    command.set_defaults(run=run_ours)
    command = commands.add_parser("compare")
    command.add_argument("theirs", type=pathlib.Path)
    command.add_argument("logs", type=pathlib.Path, nargs="+")
    command.add_argument("--least", type=int, default=500, help="items of each task that both must have")
    command.set_defaults(run=run_compare)
    options = parser.parse_args()
    sys.exit(options.run(options))


if __name__ == "__main__":
    main()
