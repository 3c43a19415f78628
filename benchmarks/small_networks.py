"""Seven small architectures that read (batch, channels, side, side) images: what the failure ranking is tried on.

Each answers (logits, embedding), the embedding being what its last linear layer reads; the linear network's is its
input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width


class _Headed(nn.Module):
    """A body that makes (batch, width) embeddings, and a linear head over them."""

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(image)  # (batch, width)
        return self.head(embedding), embedding


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class _Tokens(nn.Module):
    """Images as (batch, tokens, width): one token a patch, with a learned place."""

    def __init__(self, shape: Shape, width: int, patch: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(shape[0], width, patch, stride=patch)
        self.count = (shape[1] // patch) * (shape[2] // patch)
        self.place = nn.Parameter(torch.randn(1, self.count, width) * 0.02)

    def forward(self, image: Tensor) -> Tensor:
        return self.cut(image).flatten(2).transpose(1, 2) + self.place


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, heads, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.look(y, y, y, need_weights=False)[0]
        return x + self.think(self.norm_after(x))


class _Mixing(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.within = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm_after(x))


class _Mean(nn.Module):
    """(batch, tokens, width) → (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).mean(dim=1)


def linear(shape: Shape, classes: int) -> nn.Module:
    """Softmax regression on pixels."""
    return _Headed(nn.Flatten(), shape[0] * shape[1] * shape[2], classes)


def mlp(shape: Shape, classes: int) -> nn.Module:
    """Two hidden layers."""
    inputs = shape[0] * shape[1] * shape[2]
    body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    return _Headed(body, 64, classes)


def cnn(shape: Shape, classes: int) -> nn.Module:
    """Two convolutions and the maximum over places: the demo's network."""
    body = nn.Sequential(
        nn.Conv2d(shape[0], 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return _Headed(body, 64, classes)


def resnet(shape: Shape, classes: int) -> nn.Module:
    """A stem, two residual blocks with batch norm, and the mean over places."""
    body = nn.Sequential(
        nn.Conv2d(shape[0], 32, 3, padding=1), _Residual(32), nn.MaxPool2d(2), _Residual(32),
        nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return _Headed(body, 32, classes)


def vit(shape: Shape, classes: int) -> nn.Module:
    """Patches of two by two or more, two blocks of self-attention."""
    tokens = _Tokens(shape, 48, max(2, shape[1] // 5))
    return _Headed(nn.Sequential(tokens, _Attention(48, 4), _Attention(48, 4), _Mean(48)), 48, classes)


def mixer(shape: Shape, classes: int) -> nn.Module:
    """The same patches, mixed by linear layers across and within tokens."""
    tokens = _Tokens(shape, 48, max(2, shape[1] // 5))
    return _Headed(nn.Sequential(tokens, _Mixing(tokens.count, 48), _Mixing(tokens.count, 48), _Mean(48)), 48, classes)


def depthwise(shape: Shape, classes: int) -> nn.Module:
    """Depthwise-separable convolutions with wide features (256): a MobileNet's shape."""
    body = nn.Sequential(
        nn.Conv2d(shape[0], 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU6(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6(), nn.Conv2d(32, 64, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU6(), nn.Conv2d(64, 256, 1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return _Headed(body, 256, classes)


NETWORKS: dict[str, Callable[[Shape, int], nn.Module]] = {
    make.__name__: make for make in (linear, mlp, cnn, resnet, vit, mixer, depthwise)
}
