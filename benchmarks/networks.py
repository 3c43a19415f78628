"""ResNet-50-, ViT-B/16- and BERT-base-shaped networks with random weights, in plain torch, as TorchScript and ONNX.

The weights are random: time does not depend on them. Images arrive as UINT8 and are normalised inside, as served
models do it: half the bytes of FP16 on the wire.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, OutputSpec, Signature


@dataclass(frozen=True, kw_only=True)
class Network:
    """A shape of network.

    Attributes:
        build: Makes the module; weights in FP32.
        shape: Of one row of its input.
        datatype: Of its input.
        vocabulary: Exclusive upper bound of input values.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    datatype: Datatype
    vocabulary: int

    @property
    def signature(self) -> Signature:
        """One input `x` (batch, ...), one output `logits` (batch, 1000), FP32."""
        return Signature(
            inputs=(InputSpec(name="x", datatype=self.datatype, shape=(-1, *self.shape)),),
            outputs=(OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 1000)),),
        )

    def rows(self, count: int, seed: int = 0) -> npt.NDArray[Any]:
        """Random input, (count, ...)."""
        rng = np.random.default_rng(seed)
        return rng.integers(0, self.vocabulary, (count, *self.shape)).astype(self.datatype.numpy)


class _Images(nn.Module):
    """UINT8 images to normalised floats of the body's precision, then the body, then FP32 logits."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, 1000)
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.0171, 0.0175, 0.0174]).reshape(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x.to(self.mean.dtype) - self.mean) * self.scale  # (batch, 3, side, side)
        return self.head(self.body(x)).float()  # type: ignore[no-any-return] # torch's modules return Any


class _Bottleneck(nn.Module):
    """He et al. 2016, figure 5 right, with the stride in the 3x3 convolution as everybody has it."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.path = nn.Sequential(
            nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        short: list[nn.Module] = []
        if stride != 1 or inside != out:
            short = [nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out)]
        self.short = nn.Sequential(*short)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.path(x) + self.short(x))


def resnet(blocks: tuple[int, ...], width: int) -> nn.Module:
    """He et al. 2016, table 1: 50 layers are blocks (3, 4, 6, 3) at width 64."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    inside = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers.append(_Bottleneck(inside, width << stage, stride))
            inside = 4 * (width << stage)
    return _Images(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), inside)


class _Layer(nn.Module):
    """A transformer's encoder layer, normalised before (ViT) or after (BERT) its parts."""

    def __init__(self, dim: int, heads: int, *, first: bool) -> None:
        super().__init__()
        self.heads, self.first = heads, first
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            x = x + self.attend(self.norm1(x))
            return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))  # type: ignore[no-any-return]
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.narrow(functional.gelu(self.wide(x))))  # type: ignore[no-any-return]

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Self-attention, (batch, token, dim) to the same."""
        q, k, v = (
            t.unflatten(-1, (self.heads, t.shape[-1] // self.heads)).transpose(1, 2)  # (batch, head, token, dim)
            for t in self.qkv(x).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Vit(nn.Module):
    """Dosovitskiy et al. 2021: patches, a class token, positions, layers."""

    def __init__(self, side: int, dim: int, heads: int, layers: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, (side // 16) ** 2 + 1, dim) * 0.02)
        self.layers = nn.Sequential(*(_Layer(dim, heads, first=True) for _ in range(layers)), nn.LayerNorm(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (batch, token, dim)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        return self.layers(tokens)[:, 0]  # type: ignore[no-any-return]


class _Bert(nn.Module):
    """Devlin et al. 2019: word and position embeddings, layers, the first token's output."""

    def __init__(self, vocabulary: int, tokens: int, dim: int, heads: int, layers: int) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(vocabulary, dim), nn.LayerNorm(dim)
        self.positions = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.layers = nn.Sequential(*(_Layer(dim, heads, first=False) for _ in range(layers)))
        self.head = nn.Linear(dim, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.norm(self.words(x) + self.positions))[:, 0]).float()  # type: ignore[no-any-return]


def networks(*, small: bool) -> list[Network]:
    """The three, or the same in miniature, which a CPU runs in milliseconds."""
    side, tokens, words = (64, 32, 1000) if small else (224, 128, 30522)
    image = {"shape": (3, side, side), "datatype": Datatype.UINT8, "vocabulary": 256}
    if small:
        made = {
            "resnet50": lambda: resnet((1, 1, 1, 1), 8),
            "vit-b16": lambda: _Images(_Vit(side, 64, 4, 2), 64),
            "bert-base": lambda: _Bert(words, tokens, 64, 4, 2),
        }
    else:
        made = {
            "resnet50": lambda: resnet((3, 4, 6, 3), 64),
            "vit-b16": lambda: _Images(_Vit(side, 768, 12, 12), 768),
            "bert-base": lambda: _Bert(words, tokens, 768, 12, 12),
        }
    text = {"shape": (tokens,), "datatype": Datatype.INT64, "vocabulary": words}
    return [
        Network(name=name, build=build, **(text if name == "bert-base" else image))  # type: ignore[arg-type]
        for name, build in made.items()
    ]


def make_module(network: Network, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The network in evaluation mode, random weights by a fixed seed, in this precision on this device."""
    torch.manual_seed(20)
    return network.build().eval().to(device=device, dtype=dtype)


def write_torchscript(network: Network, module: nn.Module, device: torch.device, path: Path) -> None:
    """Trace and freeze, as `hardcase export` does."""
    example = torch.from_numpy(network.rows(2)).to(device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.freeze(traced).save(str(path))


def write_onnx(network: Network, module: nn.Module, device: torch.device, path: Path) -> None:
    """Export with an open batch axis. Needs onnx and onnxscript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(network.rows(2)).to(device),),
            str(path),
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=22 if any(p.dtype is torch.bfloat16 for p in module.parameters()) else 20,  # Conv in BF16
            external_data=False,
            verbose=False,
        )
