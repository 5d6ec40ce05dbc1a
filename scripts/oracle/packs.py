"""Rows quantised by the `gguf` package to the types that the engine writes, as JSON: type id, f32 bit patterns, bytes."""

import json

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize


def rows() -> dict:
    rng = np.random.default_rng(20261124)
    ternary = rng.integers(-1, 2, 1024).astype(np.float32) * np.float32(0.0371)
    ternary[256:512] = 0.0  # a block of zeros
    floats = (rng.normal(0, 1, 512) * np.exp(rng.normal(0, 3, 512))).astype(np.float32)
    floats[32:64] = 0.0
    floats[64:96] = np.arange(-16, 16) / 2  # halves: ties
    floats[79] = 127.0
    floats[96:100] = [0.0, -0.0, 2.0**-24, 3.0e4]
    ties = np.array([1.00390625, 1.01171875, -1.00390625, 65504.0], dtype=np.float32)  # halfway between two bf16
    return {Type.TQ1_0: ternary, Type.TQ2_0: ternary, Type.Q8_0: floats, Type.BF16: np.concatenate([floats, ties]), Type.F16: floats}


def main() -> None:
    cases = []
    for kind, values in rows().items():
        data = quantize(values.reshape(1, -1), kind)
        cases.append({"type": int(kind), "bits": values.view(np.uint32).tolist(), "bytes": np.ascontiguousarray(data).view(np.uint8).reshape(-1).tolist()})
    print(json.dumps(cases, separators=(",", ":")))


if __name__ == "__main__":
    main()
