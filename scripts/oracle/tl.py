"""TL1 and TL2 tensors as bitnet.cpp's converter packs them, as JSON.

`tl.py BITNET_CHECKOUT`: runs the packing functions of the checkout's `utils/convert-hf-to-gguf-bitnet.py` (taken out of it by name, so
that none of what it imports has to be there) on trits of a splitmix64 stream, which the test makes again.
"""

import ast
import json
import os
import pathlib
import sys
import tempfile
import typing

import numpy as np

MASK = (1 << 64) - 1
# kind, M (rows), K (columns), and the kernel config's bm, bk, bmm.
CASES = [("tl1", 128, 128, 64, 64, 32), ("tl1", 128, 64, 128, 32, 64), ("tl2", 64, 320, 32, 96, 32), ("tl2", 32, 544, 32, 192, 32), ("tl2", 64, 288, 64, 96, 32)]


def trits(seed: int, count: int) -> np.ndarray:
    out = np.empty(count, dtype=np.float32)
    state = seed
    for i in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out[i] = (z ^ (z >> 31)) % 3
    return out - 1


def packers(checkout: pathlib.Path) -> dict:
    source = checkout / "utils" / "convert-hf-to-gguf-bitnet.py"
    tree = ast.parse(source.read_text())
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and ("tl1" in node.name or "tl2" in node.name)]
    names: dict = {"np": np, "Tuple": typing.Tuple}
    exec(compile(ast.Module(wanted, []), str(source), "exec"), names)
    return {"tl1": names["transform_to_tl1"], "tl2": names["transform_to_tl2"]}


def main() -> None:
    pack = packers(pathlib.Path(sys.argv[1]).resolve())
    out = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.mkdir("include")
        for seed, (kind, m, k, bm, bk, bmm) in enumerate(CASES, 1):
            config = f"[Kernels_0]\nm = {m}\nk = {k}\nbm = {bm}\nbk = {bk}\nbmm = {bmm}\n"
            pathlib.Path("include/kernel_config.ini").write_text(config)
            scale = np.float32(0.03125 * seed + 0.001)
            data, found = pack[kind](trits(seed, m * k).reshape(m, k) * scale)
            out.append({"kind": kind, "m": m, "k": k, "seed": seed, "config": config, "scale_bits": int(np.float32(found).view(np.uint32)), "bytes": np.ascontiguousarray(data).tobytes().hex()})
        os.chdir("/")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
