"""Export one transformer encoder block, as PyTorch writes it, to the files beside this script.

``nn.TransformerEncoderLayer`` in evaluation mode with seeded weights: layer normalisation first,
four heads of attention over 16 tokens of width 64, GELU between layers of width 128, residuals.
Every combination of exporter and float type is written, and one sample input. Needs torch and
onnxscript; the files are kept in the repository, so that nobody needs them to run the example:

    python examples/encoder_block.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

WIDTH, HEADS, TOKENS, HIDDEN = 64, 4, 16, 128
DTYPES = {"float32": torch.float32, "float16": torch.float16}
EXPORTERS = {"dynamo": True, "torchscript": False}


def encoder_block(seed: int) -> nn.Module:
    """The block in float32, its normalisations scaled and shifted as training leaves them."""
    torch.manual_seed(seed)
    block = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, activation="gelu", batch_first=True, norm_first=True
    )
    with torch.no_grad():
        for norm in (block.norm1, block.norm2):
            norm.weight.add_(0.1 * torch.randn(WIDTH))
            norm.bias.add_(0.1 * torch.randn(WIDTH))
    return nn.Sequential(block).eval()  # hides the block's optional arguments from the tracer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "encoder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # PyTorch has a fused kernel, which is no ONNX operator; without it every step is exported.
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(args.seed + 1)
    sample = torch.randn(1, TOKENS, WIDTH).half()
    np.save(args.out / "sample.npy", sample.float().numpy())
    for dtype_name, dtype in DTYPES.items():
        block = encoder_block(args.seed).to(dtype)
        for exporter, dynamo in EXPORTERS.items():
            torch.onnx.export(
                block,
                (sample.to(dtype),),
                args.out / f"{exporter}-{dtype_name}.onnx",
                dynamo=dynamo,
                input_names=["x"],
                output_names=["y"],
                **({"external_data": False} if dynamo else {"opset_version": 17}),
            )


if __name__ == "__main__":
    main()
