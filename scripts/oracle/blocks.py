"""Random blocks of GGUF's quantised types, decoded by the `gguf` package, as JSON: type id, bytes, f32 bit patterns."""

import json

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

SHAPES = {Type.F16: (1, 2), Type.BF16: (1, 2), Type.Q8_0: (32, 34), Type.Q4_0: (32, 18), Type.Q4_1: (32, 20), Type.Q6_K: (256, 210), Type.Q5_0: (32, 22), Type.Q4_K: (256, 144), Type.TQ1_0: (256, 54), Type.TQ2_0: (256, 66)}
# Where the f16 scales lie in a block: random bits there would be NaN or infinite now and then.
SCALES = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q6_K: [208], Type.Q5_0: [0], Type.Q4_K: [0, 2], Type.TQ1_0: [52], Type.TQ2_0: [64]}


def main() -> None:
    rng = np.random.default_rng(20261123)
    cases = []
    for kind, (values, size) in SHAPES.items():
        blocks = 2 if values > 1 else 40
        data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        for at in SCALES.get(kind, []):
            data[:, at : at + 2] = rng.normal(0, 0.05, blocks).astype(np.float16).view(np.uint8).reshape(blocks, 2)
        if values == 1:
            numbers = rng.normal(0, 3, blocks).astype(np.float32)
            numbers[:4] = [0.0, -0.0, 2.0**-24, 65504.0]
            data = numbers.astype(np.float16).view(np.uint8) if kind == Type.F16 else (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            decoded = numbers.astype(np.float16).astype(np.float32) if kind == Type.F16 else (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
        else:
            decoded = dequantize(data.reshape(-1), kind)
        bits = np.ascontiguousarray(decoded, dtype=np.float32).reshape(-1).view(np.uint32)
        cases.append({"type": int(kind), "bytes": data.reshape(-1).tolist(), "bits": bits.tolist()})
    print(json.dumps(cases, separators=(",", ":")))


if __name__ == "__main__":
    main()
