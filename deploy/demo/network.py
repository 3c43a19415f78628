"""The demo's network: two convolutions, a 64-d embedding, ten logits; trained in seconds on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploy.demo.digits import Part


class DigitNet(nn.Module):
    """(batch, 1, 8, 8) images to (logits (batch, 10), embedding (batch, 64))."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),  # (batch, 32, 8, 8)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, 32, 4, 4)
            nn.Conv2d(32, 64, 3, padding=1),  # (batch, 64, 4, 4)
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),  # (batch, 64, 1, 1)
            nn.Flatten(),  # (batch, 64)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the embedding that they are computed from."""
        embedding = self.features(image)
        return self.head(embedding), embedding


def train_network(part: Part, *, seed: int, epochs: int = 30, batch: int = 64) -> DigitNet:
    """A trained network in eval mode; deterministic for a seed on one machine.

    Args:
        part: Training images and labels.
        seed: Of the initial weights and the order of the batches.
        epochs: Passes over the data.
        batch: Images a step.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigitNet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small lose more to waiting for each other than two cores give
    try:
        return _fit(network, part, generator, epochs, batch)
    finally:
        torch.set_num_threads(threads)


def _fit(network: DigitNet, part: Part, generator: torch.Generator, epochs: int, batch: int) -> DigitNet:
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    steps = epochs * -(-len(labels) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss()
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            optimiser.zero_grad()
            loss = loss_of(network(images[chosen])[0], labels[chosen])
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
