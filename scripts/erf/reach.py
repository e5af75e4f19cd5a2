"""The reach task: how far can a unit *use* what lies in its receptive field?

Images of noise, in which one coloured spot at distance d from the middle, in a random direction, decides the class.
All of it lies inside the theoretical receptive field of the one unit that classifies.
"""

from collections.abc import Iterator

import torch

from erf.seeds import torch_generator

SPOT = 3  # side of the spot, pixels
CONTRAST = 3.0  # of the spot's colour, in standard deviations of the noise


class ReachData:
    """Procedural batches ((n, 3, side, side) float32, channels last; (n,) labels 0 or 1), drawn anew at every step."""

    def __init__(self, side: int, distance: float, batch_size: int, steps: int, seed: int, device: torch.device):
        self.side, self.distance, self.batch_size, self.steps = side, distance, batch_size, steps
        self.seed, self.device = seed, device

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` images and labels. Class 0 has a red spot, class 1 a blue one, of the same contrast."""
        images = torch.randn(count, 3, self.side, self.side, generator=generator)
        labels = torch.randint(2, (count,), generator=generator)
        angle = 2 * torch.pi * torch.rand(count, generator=generator)
        middle = (self.side - 1) // 2
        centre = torch.stack([torch.sin(angle), torch.cos(angle)], 1) * self.distance + middle  # (n, 2) row, column
        offset = torch.arange(SPOT) - SPOT // 2
        rows, columns = (centre.round().long()[:, axis, None] + offset for axis in (0, 1))  # (n, SPOT)
        sample = torch.arange(count)[:, None, None]
        images[sample, (2 * labels)[:, None, None], rows[:, :, None], columns[:, None, :]] += CONTRAST
        return images.contiguous(memory_format=torch.channels_last), labels

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch_generator(self.seed, "reach", epoch)
        for _ in range(self.steps):
            images, labels = self.draw(self.batch_size, generator)
            yield images.to(self.device), labels.to(self.device)

    def evaluation_batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Two thousand images that depend on the split's name and the seed alone."""
        generator = torch_generator(self.seed, "reach", split)
        for _ in range(4):
            images, labels = self.draw(500, generator)
            yield images.to(self.device), labels.to(self.device)
