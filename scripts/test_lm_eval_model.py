"""Tests of oracle/lm_eval_model.py without lm-eval, whose few names are stood in for, and with a script for the program.

Run: python3 -m unittest discover -s scripts
"""

import importlib
import json
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

ORACLE = str(Path(__file__).resolve().parent / "oracle")

# Notes what it was asked, answers each request with its number (or, of text, its prompt), and fails where told to.
PROGRAM = """#!/usr/bin/env python3
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
name, *options = sys.argv[1:]
if (folder / "fail").exists():
    sys.exit("error: no such model")
if name == "model":
    print(json.dumps({"tokenizer": {"bos": 7, "eos": 8, "add_bos": True}}))
    sys.exit()
path = options[-1].split("=", 1)[1]
lines = [json.loads(line) for line in open(path)]
with open(folder / "asked", "a") as asked:
    asked.write(json.dumps([name, options[:-1], lines]) + "\\n")
if name == "score":
    print(json.dumps({"results": [{"loglikelihood": -float(n), "greedy": n == 0, "tokens": 1, "truncated": 0} for n in range(len(lines))]}))
else:
    for line in lines:
        print(json.dumps({"text": line["prompt"].upper()}))
"""


class LM:
    def __init__(self):
        self.cache_hook = mock.Mock()


def rolling(tokens, prefix, longest, _context):
    """lm-eval's rule, as `lm_eval.utils` states it, for texts of one or two windows."""
    yield [prefix, *tokens[: longest - 1]][: len(tokens)], tokens[:longest]
    if len(tokens) > longest:
        yield tokens[-longest - 1 : -1], tokens[longest:]


def modules():
    utils = types.SimpleNamespace(get_rolling_token_windows=rolling, make_disjoint_window=lambda pair: (pair[0][: len(pair[0]) - len(pair[1]) + 1], pair[1]))
    names = {"lm_eval": {"utils": utils}, "lm_eval.api": {}, "lm_eval.api.instance": {"Instance": object}, "lm_eval.api.model": {"LM": LM}, "lm_eval.api.registry": {"register_model": lambda _name: lambda given: given}}
    made = {}
    for name, content in names.items():
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(content)
    return made


def request(*arguments):
    return types.SimpleNamespace(args=arguments)


class Model(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.program = self.folder / "harness"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        self.enterContext(mock.patch.dict(sys.modules, modules()))
        self.enterContext(mock.patch.object(sys, "path", [ORACLE, *sys.path]))
        sys.modules.pop("lm_eval_model", None)
        self.module = importlib.import_module("lm_eval_model")

    def model(self, **options):
        return self.module.Tritmark(model="m.gguf", harness=str(self.program), **options)

    def asked(self):
        return [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]

    def test_loglikelihoods_come_in_order_from_one_run(self):
        model = self.model(engine="f16", threads=1)
        answers = model.loglikelihood([request("a", " b"), request("", "c")])
        self.assertEqual(answers, [(0.0, True), (-1.0, False)])
        lines = [{"context": "a", "continuation": " b"}, {"context": "", "continuation": "c"}]
        self.assertEqual(self.asked(), [["score", ["--model=m.gguf", "--engine=f16", "--threads=1"], lines]])
        self.assertEqual(model.loglikelihood([]), [])

    def test_texts_are_scored_whole_or_in_windows(self):
        self.assertEqual(self.model().loglikelihood_rolling([request("text"), request("")]), [0.0, 0])
        model = self.model()
        ids = [11, 12, 13, 14, 15]
        model.ids, model.longest = mock.Mock(), 4
        model.ids.encode.return_value = types.SimpleNamespace(ids=ids)
        # BOS is of the text, as its tokenizer adds it, and the prefix stands before it.
        self.assertEqual(model.loglikelihood_rolling([request("text")]), [-1.0])
        windows = [{"tokens": [7, 7, 11, 12, 13], "first": 1}, {"tokens": [11, 12, 13, 14, 15], "first": 3}]
        self.assertEqual([line for _, _, lines in self.asked() for line in lines], [{"context": "", "continuation": "text"}, *windows])

    def test_texts_are_made_by_groups_of_equal_options(self):
        short, long = {"until": ["\n", "-x"], "max_gen_toks": 5}, {"until": "Q:", "do_sample": True, "temperature": 0.5, "top_p": 0.9}
        answers = self.model().generate_until([request("a", short), request("b", long), request("c", dict(short))])
        self.assertEqual(answers, ["A", "B", "C"])
        (_, first, lines), (_, second, _) = self.asked()
        self.assertEqual(first, ["--model=m.gguf", "--json", "--max-tokens=5", "--temperature=0", "--stop=\n", "--stop=-x"])
        self.assertEqual(lines, [{"prompt": "a"}, {"prompt": "c"}])
        self.assertEqual(second, ["--model=m.gguf", "--json", "--max-tokens=256", "--temperature=0.5", "--top-p=0.9", "--stop=Q:"])

    def test_greedy_leaves_sampling_out_and_unknown_arguments_are_refused(self):
        self.assertEqual(self.module.sampling({"do_sample": False, "temperature": 0.7, "top_k": 3}), ["--max-tokens=256", "--temperature=0"])
        self.assertEqual(self.module.sampling({"do_sample": True, "max_tokens": 2}), ["--max-tokens=2", "--temperature=1.0"])
        with self.assertRaisesRegex(ValueError, "num_beams"):
            self.module.sampling({"num_beams": 4})
        with self.assertRaisesRegex(ValueError, "colour"):
            self.model(colour="red")
        with self.assertRaisesRegex(ValueError, "go together"):
            self.model(max_length=128)

    def test_the_programs_error_is_told(self):
        (self.folder / "fail").touch()
        with self.assertRaisesRegex(RuntimeError, "harness score: error: no such model"):
            self.model().loglikelihood([request("a", "b")])


if __name__ == "__main__":
    unittest.main()
