"""Token ids of the `tokenizers` package for thousands of seeded texts of many scripts, as digests, in JSON on stdout.

The engine's test makes the same texts from the same seed and encodes them itself, from GGUF metadata and from tokenizer.json.
Each digest is FNV-1a (64 bits) over the ids of 100 texts, each with its count before it, as little-endian u32.
"""

import argparse
import json
import struct

from gguf import GGUFReader
from llama import smollm
from tokenizers import Tokenizer

TEXTS = 4000
BLOCK = 100
MASK = (1 << 64) - 1
RANGES = [
    (0x20, 0x7E), (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x9, 0xD), (0xA0, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA),
    (0x620, 0x64A), (0x904, 0x939), (0xE01, 0xE30), (0x2000, 0x206F), (0x2190, 0x21FF), (0x300, 0x36F), (0x3041, 0x3096), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF), (0x660, 0x669), (0xB2, 0xBE), (0x1D400, 0x1D433), (0xFF01, 0xFF5E),
]
SNIPPETS = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s", "'S", "'ll", "'LL", "'re", "don't", "I'VE", "the", " The", "ing", "1234567", "3.14",
    "e\u0301", "A\u030a", "\u1100\u1161", "...", "!!", "://", "_", "{}", "--", "\u00a0", "\u3000", "👩‍👩‍👧", "<|endoftext|>", "<|im_end|>", "<s>", "</s>", "<0x0A>",
]


class Stream:
    """splitmix64, as in the engine's tests."""

    def __init__(self, seed: int):
        self.state = seed

    def below(self, bound: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % bound


def texts() -> list[str]:
    stream = Stream(2025)
    made = []
    for _ in range(TEXTS):
        text = ""
        for _ in range(1 + stream.below(12)):
            if stream.below(3) == 0:
                text += SNIPPETS[stream.below(len(SNIPPETS))]
            else:
                first, last = RANGES[stream.below(len(RANGES))]
                for _ in range(1 + stream.below(8)):
                    text += chr(first + stream.below(last - first + 1))
        made.append(text)
    return made


def digest(lists: list[list[int]]) -> str:
    value = 0xCBF29CE484222325
    for ids in lists:
        for byte in struct.pack(f"<{len(ids) + 1}I", len(ids), *ids):
            value = ((value ^ byte) * 0x100000001B3) & MASK
    return f"{value:016x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smollm", required=True, help="SmolLM2 as GGUF")
    parser.add_argument("json", nargs="+", help="NAME=tokenizer.json")
    options = parser.parse_args()
    fields = GGUFReader(options.smollm).fields
    keys = ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"]
    tokenizers = {"smollm": smollm({key: fields[key].contents() for key in keys})}
    for pair in options.json:
        name, path = pair.split("=", 1)
        tokenizers[name] = Tokenizer.from_file(path)
    made = texts()
    answer = {"texts": digest([list(text.encode()) for text in made]), "digests": {}, "tokens": {}}
    for name, tokenizer in tokenizers.items():
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in made]
        answer["digests"][name] = [digest(ids[start : start + BLOCK]) for start in range(0, TEXTS, BLOCK)]
        answer["tokens"][name] = sum(map(len, ids))
    print(json.dumps(answer, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
