"""Checks the expectations of the judge's fixtures with lm-evaluation-harness's own code.

    judge.py harness/tests/fixtures/judge

Needs the package `lm-eval` (made with 0.4.13). Of GSM8K it takes regexes and metric settings from the task's own YAML; of MATH
the functions of `hendrycks_math`. Prints each disagreement and the counts; exits 1 if there is any disagreement.
"""

import argparse
import contextlib
import io
import pathlib
import sys

import lm_eval
import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
from lm_eval.tasks.hendrycks_math import utils as math

TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"


def rows(path: pathlib.Path) -> list[list[str]]:
    """The fields of a fixture's lines."""
    lines = path.read_text(encoding="utf-8").split("\n")
    kept = [line for line in lines if line and not line.startswith("//")]
    return [[field.replace("⏎", "\n") for field in line.split(" | ")] for line in kept]


def gsm8k(path: pathlib.Path) -> tuple[int, list[str]]:
    task = yaml.safe_load((TASKS / "gsm8k/gsm8k.yaml").read_text())
    filters = {}
    for entry in task["filter_list"]:
        options = dict(entry["filter"][0])
        assert options.pop("function") == "regex"
        filters[entry["name"]] = RegexFilter(**options)
    metric = {k: task["metric_list"][0][k] for k in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    wrong = []
    table = rows(path)
    for output, target, strict, flexible, right in table:
        found = [filters[name].apply([[output]], [{}])[0][0] for name in ("strict-match", "flexible-extract")]
        scores = [exact_match_hf_evaluate([one], [target], **metric)["exact_match"] for one in found]
        verdict = "".join("y" if score == 1 else "n" for score in scores)
        if (found, verdict) != ([strict, flexible], right):
            wrong.append(f"{output!r} against {target!r}: {found} {verdict}, the fixture has {[strict, flexible]} {right}")
    return len(table), wrong


def equal(path: pathlib.Path) -> tuple[int, list[str]]:
    table = rows(path)
    verdicts = [(row, "y" if math.is_equiv(row[0], row[1]) else "n") for row in table]
    return len(table), [f"{row}: the reference says {verdict}" for row, verdict in verdicts if verdict != row[2]]


def boxed(path: pathlib.Path) -> tuple[int, list[str]]:
    wrong = []
    table = rows(path)
    for output, taken in table:
        fails = output.startswith("!")
        try:
            found = math.last_boxed_only_string(output.removeprefix("!"))
            found = "[none]" if found is None else math.remove_boxed(found)
        except AssertionError:
            found = None
        if (found is None) != fails or (not fails and found != taken):
            wrong.append(f"{output!r}: {found!r}, the fixture has {taken!r}")
    return len(table), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    failed = 0
    for name, check in (("gsm8k", gsm8k), ("math_equal", equal), ("math_boxed", boxed)):
        with contextlib.redirect_stdout(io.StringIO()):
            count, wrong = check(folder / f"{name}.txt")
        print(f"{name}: {count - len(wrong)} of {count} as the reference")
        for line in wrong:
            print(f"  {line}")
        failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
