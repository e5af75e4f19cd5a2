"""The training loop: a plain recipe for plain networks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from erf.errors import InputError
from replication.datasets.dataset import Task
from replication.training.speed import has_bf16

Batch = tuple[torch.Tensor, torch.Tensor]


class Data(Protocol):
    """What the loop needs of a task's data. Labels are int64, (n,) or (n, H, W)."""

    task: Task
    batch_size: int
    steps: int

    def training_batches(self, epoch: int) -> Iterator[Batch]: ...

    def evaluation_batches(self, split: str) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum under a learning rate that rises first."""

    epochs: int
    learning_rate: float  # at the peak
    warmup: float  # share of the training at which the peak is reached, from 0 in a line
    momentum: float
    weight_decay: float
    label_smoothing: float
    schedule: str = "triangle"  # from the peak down to 0 in a line; "constant": it stays at the peak


def bf16_at_first(device: torch.device) -> bool:
    """Whether a training on this device begins in bf16 without being timed: on a GPU that has it."""
    return device.type == "cuda" and has_bf16(device)


def arithmetic(device: torch.device, bf16: bool) -> str:
    """Name of what a training's numbers depend on beside its settings: "cuda-bf16", say. A cluster's nodes may differ
    in it."""
    return f"{device.type}-{'bf16' if bf16 else 'float32'}"


class Trainer:
    """A model in training, one epoch at a time; its logits are (n, classes) or, for each pixel, (n, classes, H, W).

    class_weights : (classes,) what each class counts for in the loss; all the same if None
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        device: torch.device,
        class_weights: torch.Tensor | None = None,
    ):
        self.model = model.to(device, memory_format=torch.channels_last)
        self.data, self.recipe, self.device = data, recipe, device
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.bf16 = bf16_at_first(device)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=0.0,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )

    @property
    def arithmetic(self) -> str:
        return arithmetic(self.device, self.bf16)

    def learning_rate(self, step: int) -> float:
        """Over all steps of the training: from 0 to the peak at `warmup`, and back to 0 or on at the peak."""
        progress = (step + 1) / (self.recipe.epochs * self.data.steps + 1)
        rising, falling = progress / self.recipe.warmup, (1 - progress) / (1 - self.recipe.warmup)
        return self.recipe.learning_rate * min(rising, falling if self.recipe.schedule == "triangle" else 1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(images)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Mean cross-entropy over what is not void. Of label maps, its last bits vary from run to run on CUDA."""
        options = {"weight": self.class_weights, "ignore_index": self.data.task.classes}
        return cross_entropy(logits, labels, label_smoothing=label_smoothing, **options)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train epoch number `epoch` (from 1); mean loss and scores over its augmented batches."""
        self.model.train()
        totals = _Totals(self.data.task, self.device)
        for step, (images, labels) in enumerate(self.data.training_batches(epoch), (epoch - 1) * self.data.steps):
            for group in self.optimiser.param_groups:
                group["lr"] = self.learning_rate(step)
            logits = self.forward(images).float()
            loss = self.loss(logits, labels, self.recipe.label_smoothing)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            totals.add(loss.detach(), logits.detach(), labels)
        metrics = totals.means("train")
        if not metrics["train_loss"] < float("inf"):  # NaN compares false
            raise InputError(f"the loss is {metrics['train_loss']} in epoch {epoch}: lower learning_rate")
        return metrics

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Mean loss and scores over a split, in evaluation mode."""
        self.model.eval()
        totals = _Totals(self.data.task, self.device)
        for images, labels in self.data.evaluation_batches(split):
            logits = self.forward(images).float()
            totals.add(self.loss(logits, labels), logits, labels)
        return totals.means(split)


class _Totals:
    """Sums that stay on the device until the end, so that no batch waits for the one before."""

    def __init__(self, task: Task, device: torch.device):
        self.task, self.loss, self.count = task, 0.0, 0
        self.confusion = torch.zeros((task.classes + 1) * task.classes, dtype=torch.int64, device=device)

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.loss = self.loss + loss.double() * len(labels)
        pair = (labels * self.task.classes + logits.max(1).indices).flatten()  # several times as fast as argmax
        self.confusion.scatter_add_(0, pair, torch.ones_like(pair))
        self.count += len(labels)

    def means(self, split: str) -> dict[str, float]:
        """Loss, share of right answers, and where it is the score, the mean over classes of intersection over union."""
        classes = self.task.classes
        confusion = self.confusion.view(classes + 1, classes)[:classes].cpu().double()  # (label, answer), without void
        scores = {"loss": float(self.loss) / self.count, "accuracy": float(confusion.trace() / confusion.sum())}
        if self.task.score == "mean_iou":
            scores["mean_iou"] = mean_iou(confusion)
        return {f"{split}_{name}": value for name, value in scores.items()}


def mean_iou(confusion: torch.Tensor) -> float:
    """Mean over classes of intersection over union, from counts (label, answer); a class that never occurs is left
    out."""
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return float((confusion.diagonal() / union)[union > 0].mean())
