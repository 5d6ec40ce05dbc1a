"""Random small Hugging Face folders, and what transformers' model in float32 on the CPU answers to them."""

import json
import os
import pathlib
import sys

# Eager kernels: what is compiled may fold divisions differently from one release to the next.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)


def noise(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator)


def norm(generator: torch.Generator, width: int) -> torch.Tensor:
    """Norm weights about 1 and far enough from it that a norm left out shows; bf16 values."""
    return (0.4 + 1.2 * torch.rand(width, generator=generator)).to(torch.bfloat16)


def write(folder: pathlib.Path, config: dict, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def load(folder: pathlib.Path) -> torch.nn.Module:
    """The model in float32. Of a packed checkpoint transformers leaves embeddings, norms and scales in bf16 under
    dtype=float32 and then fails on the mixture: they are widened here."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for module in model.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if value.is_floating_point() and value.dtype != torch.float32:
                setattr(module, name, type(value)(value.float()) if isinstance(value, torch.nn.Parameter) else value.float())
    return model


def logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """[tokens, vocabulary]; no cache, so nothing of one is in it."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def prompt(model: torch.nn.Module, ids: list[int], rows: list[int], **more: object) -> dict:
    values = logits(model, ids)
    assert torch.isfinite(values).all()
    return {"tokens": ids, "rows": rows, "logits": [digits(values[row]) for row in rows], **more}


def digits(row: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in row.tolist()]


def random_ids(generator: torch.Generator, count: int, vocab: int) -> list[int]:
    return torch.randint(vocab, (count,), generator=generator).tolist()


def greedy(model: torch.nn.Module, ids: list[int], count: int) -> dict:
    """A greedy continuation and, at each step, the best logit's lead over the second best."""
    tokens, margins = list(ids), []
    for _ in range(count):
        best = logits(model, tokens)[-1].topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(f"{float(best.values[0] - best.values[1]):.4g}"))
    return {"prompt": ids, "tokens": tokens[len(ids):], "margins": margins}


def answer(folder: pathlib.Path, **parts: object) -> None:
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], **parts}
    (folder / "expected.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")


def target() -> pathlib.Path:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER (such as engine/tests/golden/hf)")
    return pathlib.Path(sys.argv[1])
