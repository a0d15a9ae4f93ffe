"""Networks as people export them: PyTorch by both of its exporters, scikit-learn by skl2onnx.

It runs in the environment of `toolchain_environment.sh`, and imports nothing of this project:

    /tmp/venv-tools/bin/python benchmarks/toolchain_exports.py FOLDER

Writes each model as NAME.onnx, the middle of a domain as NAME.npz, an array per input, and
`exports.json`: of each model `name`, `radius`, and `moved`, the inputs that the ball is of.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional

RADIUS = 1e-3
SURE = {"svc": "decision_function", "svc_linear": "decision_function"}


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cells = kind(8, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x)[0][:, -1])


class Classifier(nn.Module):
    """PyTorch's own encoder layers, a mean and a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean(dim=1))


class Decoder(nn.Module):
    """One step of a decoder: a token, keys and values of those before it, both grown by one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(32, 16), nn.Embedding(16, 16)
        self.norm, self.norm2, self.last = nn.LayerNorm(16), nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 32, bias=False)

    def forward(
        self, token: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.words(token) + self.places(torch.tensor([[keys.shape[2]]]))
        q, k, v = (
            y.reshape(1, 1, 2, 8).transpose(1, 2) for y in self.qkv(self.norm(x)).chunk(3, dim=-1)
        )
        keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        seen = functional.scaled_dot_product_attention(q, keys, values)
        x = x + self.out(seen.transpose(1, 2).reshape(1, 1, 16))
        x = x + self.down(functional.silu(self.up(self.norm2(x))))
        return self.head(self.last(x)), keys, values


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) / 4)
        self.place = nn.Parameter(torch.randn(1, 17, 16) / 4)
        layer = nn.TransformerEncoderLayer(
            16, 4, 32, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], dim=1) + self.place
        return self.head(self.norm(self.layers(x))[:, 0])


def convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.low = (
            convolutions(a, b) for a, b in ((1, 4), (4, 8), (8, 8))
        )
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
        self.third, self.fourth = convolutions(16, 8), convolutions(8, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first(x)
        b = self.second(functional.max_pool2d(a, 2))
        c = self.up(self.low(functional.max_pool2d(b, 2)))
        d = self.third(torch.cat([b, c], dim=1))
        return self.last(self.fourth(torch.cat([a, self.up2(d)], dim=1)))


class Diffusion(nn.Module):
    """x at step t to x at the step before: noise by a small net with a sinusoidal embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.first = nn.Linear(16, 8), nn.Conv2d(1, 8, 3, padding=1)
        self.norm, self.last = nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 3, padding=1)
        self.register_buffer("kept", torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rates = torch.exp(torch.arange(8) * (-np.log(1e4) / 8))
        angles = t.float()[:, None] * rates[None]
        time = functional.silu(self.time(torch.cat([angles.sin(), angles.cos()], dim=-1)))
        hidden = functional.silu(self.norm(self.first(x)) + time[:, :, None, None])
        noise = self.last(hidden)
        kept = self.kept[t][:, None, None, None]
        return (x - (1 - kept).sqrt() * noise) / kept.sqrt()


def networks() -> dict[str, tuple[nn.Module, dict[str, torch.Tensor], tuple[str, ...]]]:
    """By name: a network, its inputs, and those that the ball is of."""
    image, wide = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 16, 16)
    sequence = torch.randn(1, 6, 8) / 2
    cnn = nn.Sequential(
        convolutions(1, 4), nn.MaxPool2d(2), convolutions(4, 8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4), nn.Softmax(dim=-1),
    )  # fmt: skip
    mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    cache = {"keys": torch.randn(1, 2, 5, 8), "values": torch.randn(1, 2, 5, 8)}
    token = torch.tensor([[7]])
    return {
        "mlp": (mlp, {"x": torch.rand(1, 8)}, ("x",)),
        "cnn": (cnn, {"x": image}, ("x",)),
        "lstm": (Recurrent(nn.LSTM), {"x": sequence}, ("x",)),
        "gru": (Recurrent(nn.GRU), {"x": sequence}, ("x",)),
        "encoder": (Classifier(), {"x": torch.randn(1, 5, 16) / 2}, ("x",)),
        "decoder": (Decoder(), {"token": token, **cache}, ("keys", "values")),
        "vit": (Vision(), {"x": wide}, ("x",)),
        "unet": (UNet(), {"x": torch.rand(1, 1, 16, 16)}, ("x",)),
        "diffusion": (Diffusion(), {"x": torch.randn(1, 1, 8, 8), "t": torch.tensor([40])}, ("x",)),
    }


def exported(folder: Path) -> list[dict[str, object]]:
    """Every network by both exporters; a network trained on nothing, its averages moved."""
    rows: list[dict[str, object]] = []
    for name, (network, inputs, moved) in networks().items():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        network.eval()
        for dynamo in (True, False):
            written = f"{name}_{'dynamo' if dynamo else 'script'}"
            torch.onnx.export(
                network,
                tuple(inputs.values()),
                folder / f"{written}.onnx",
                input_names=list(inputs),
                dynamo=dynamo,
                external_data=False,
            )
            np.savez(folder / f"{written}.npz", **{k: x.numpy() for k, x in inputs.items()})
            rows.append({"name": written, "radius": RADIUS, "moved": moved})
    return rows


def learned(folder: Path) -> list[dict[str, object]]:
    """Models of scikit-learn, fitted; the ball is around a point next to a border of classes."""
    x, y = load_iris(return_X_y=True)
    wide, benign = load_breast_cancer(return_X_y=True)
    models = {
        "pipeline": make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=500)),
        "forest": RandomForestClassifier(10, max_depth=4, random_state=0),
        "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
        "svc": SVC(random_state=0),
        "svc_linear": SVC(kernel="linear", random_state=0),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "logistic_wide": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    rows: list[dict[str, object]] = []
    for name, model in models.items():
        data, labels = (wide, benign) if name.endswith("wide") else (x, y)
        model.fit(data, labels)
        options = {"zipmap": False} if name != "logistic" else None
        onx = to_onnx(model, data[:1].astype(np.float32), options=options, target_opset=17)
        (folder / f"sk_{name}.onnx").write_bytes(onx.SerializeToString())
        sure = np.sort(getattr(model, SURE.get(name, "predict_proba"))(data), axis=1)
        near = int(np.argmin(sure[:, -1] - sure[:, -2]))
        middle = data[near : near + 1].astype(np.float32)
        np.savez(folder / f"sk_{name}.npz", X=middle)
        rows.append({"name": f"sk_{name}", "radius": 0.1, "moved": ("X",)})
    return rows


def main(arguments: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    np.random.seed(0)
    rows = [*exported(folder), *learned(folder)]
    (folder / "exports.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
