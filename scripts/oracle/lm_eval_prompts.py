"""Writes the requests that lm-evaluation-harness builds for a task's documents, against which the `suites` crate's are held.

    python3 scripts/oracle/lm_eval_prompts.py FOLDER [TASK=SHOTS[:LIMIT] ..] > suites/tests/golden/lm_eval_prompts.jsonl

FOLDER holds documents in the form of data/tasks/ under the names in CASES. One line a case: task, shots, and for each document
its requests (context and continuation, prompt alone, or text alone) with the right choice where there is one. The harness's own
code loads its own task files; only the place of the documents is changed, and their form into that of the published data sets.
Needs `pip install lm-eval==0.4.13`, whose task files for these tasks are those of commit 4e7e0d47; no network.
"""

import contextlib
import gzip
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

import datasets  # noqa: E402
import evaluate  # noqa: E402
import lm_eval  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.tasks._yaml_loader import load_yaml  # noqa: E402

TASKS = Path(lm_eval.__file__).parent / "tasks"
SEED = 1234


def lettered(doc, text="question"):
    labels = "ABCDEFGH"[: len(doc["choices"])]
    return {text: doc[text], "choices": {"text": doc["choices"], "label": list(labels)}, "answerKey": labels[doc["answer"]]}


def same(doc):
    return doc


# Task: its file, our files of test and few-shot documents, and how a document of ours is one of the published data set.
CASES = {
    "arc_challenge": ("arc/arc_challenge.yaml", "arc_challenge_test.jsonl", "arc_challenge_train.jsonl", lettered),
    "arc_easy": ("arc/arc_easy.yaml", "arc_easy_test.jsonl", "arc_easy_train.jsonl", lettered),
    "boolq": ("super_glue/boolq/default.yaml", "boolq_validation.jsonl", "boolq_train.jsonl",
              lambda doc: {"passage": doc["passage"], "question": doc["question"], "label": doc["answer"]}),
    "winogrande": ("winogrande/default.yaml", "winogrande_xl_validation.jsonl", "winogrande_xl_train.jsonl",
                   lambda doc: {**doc, "answer": str(doc["answer"] + 1)}),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag_validation.jsonl", "hellaswag_train.jsonl",
                  lambda doc: {**doc, "label": str(doc["label"])}),
    "piqa": ("piqa/piqa.yaml", "piqa_validation.jsonl", "piqa_train.jsonl", same),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa_test.jsonl", "openbookqa_train.jsonl",
                   lambda doc: lettered(doc, "question_stem")),
    "commonsense_qa": ("commonsense_qa/default.yaml", "commonsense_qa_validation.jsonl", "commonsense_qa_train.jsonl",
                       lettered),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", "truthfulqa_validation.jsonl", None, same),
    "mmlu": ("mmlu/default/mmlu_{group}.yaml", "mmlu_test.jsonl", "mmlu_dev.jsonl", same),
    "gsm8k": ("gsm8k/gsm8k.yaml", "gsm8k_test.jsonl", "gsm8k_train.jsonl", same),
    "math500": ("hendrycks_math/hendrycks_math500.yaml", "math500_test.jsonl", None,
                lambda doc: {"problem": doc["problem"], "solution": f"\\boxed{{{doc['answer']}}}"}),
    "humaneval": ("humaneval/humaneval.yaml", "humaneval_test.jsonl", None, same),
    "humaneval_plus": ("humaneval/humaneval_plus.yaml", "humaneval_plus_test.jsonl", None, same),
    "wikitext": ("wikitext/wikitext.yaml", "wikitext_test.jsonl", None, same),
    "lambada_openai": ("lambada/lambada_openai.yaml", "lambada_openai_test.jsonl", None, same),
}


def documents(path):
    """Documents of a plain or packed file, None where there is none."""
    for found, opener in ((path, open), (path.with_name(path.name + ".gz"), gzip.open)):
        if found.is_file():
            with opener(found, "rt", encoding="utf-8") as file:
                return [json.loads(line) for line in file]
    return None


def groups(docs):
    """MMLU's subjects, each a task of its own; else one group."""
    return list(dict.fromkeys(doc.get("subject", "") for doc in docs))


class Local(ConfigurableTask):
    """The harness's task on documents that lie here."""

    def download(self, dataset_kwargs=None, **kwargs):
        splits = {name: datasets.Dataset.from_list(rows) for name, rows in self.config.metadata["splits"].items()}
        self.dataset = datasets.DatasetDict(splits)


def task(file, test, few, shots):
    config = load_yaml(TASKS / file, resolve_func=True, recursive=True)
    config.pop("tag", None)
    config.pop("task_alias", None)
    split = config.get("test_split") or config["validation_split"]
    train = config.get("fewshot_split") or config.get("training_split")
    splits = {split: test} | ({train: few} if few and train else {})
    # What is not there is asked for by nobody.
    config |= {key: None for key in ("training_split", "validation_split", "test_split") if config.get(key) not in splits}
    config |= {"num_fewshot": shots, "metadata": {"splits": splits}}
    made = Local(config=config)
    made.set_fewshot_seed(SEED)
    return made


def requests(made, limit):
    """Each document's requests in order, with the right choice."""
    made.build_all_requests(limit=limit, rank=0, world_size=1)
    found = {}
    for instance in made.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    return [{"requests": [[part for part in request.args if isinstance(part, str)] for request in of],
             "gold": gold(made, of[0].doc)} for of in (found[i] for i in sorted(found))]


def gold(made, doc):
    if made.OUTPUT_TYPE != "multiple_choice":
        return made.doc_to_target(doc) if made.OUTPUT_TYPE == "generate_until" else None
    if "mc2_targets" in doc:
        return [i for i, label in enumerate(doc["mc2_targets"]["labels"]) if label == 1]
    right = made.doc_to_text(doc) if made.multiple_input else made.doc_to_target(doc)
    return [made.doc_to_choice(doc).index(right) if isinstance(right, str) else int(right)]


def case(folder, name, shots, limit):
    file, test, few, form = CASES[name]
    test, few = documents(folder / test), few and documents(folder / few)
    items = []
    for group in groups(test):
        mine = [form(doc) for doc in test if doc.get("subject", "") == group]
        examples = [form(doc) for doc in few or [] if doc.get("subject", "") == group]
        items += requests(task(file.format(group=group), mine, examples, shots), limit)
    return {"task": name, "shots": shots, "limit": limit, "items": items}


def main():
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    # HumanEval's file loads the code that runs programs, which is not needed to write prompts.
    evaluate.load = lambda *_: type("Nothing", (), {"compute": lambda *_, **__: None})()
    folder = Path(sys.argv[1])
    asked = [argument.partition("=") for argument in sys.argv[2:]]
    for name, _, how in asked or [(name, "=", "0") for name in CASES]:
        shots, _, limit = how.partition(":")
        with contextlib.redirect_stdout(sys.stderr):
            made = case(folder, name, int(shots), int(limit) if limit else None)
        print(json.dumps(made, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        main()
