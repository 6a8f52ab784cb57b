"""Times an epoch of the lab preset, ours against the notebook's own loop, side by side: medians over rounds.

    python -m tests.benchmarks.bench_training [ROUNDS]

Both train the same network on the same 60,000 images with SGD 0.01 in batches of 128, on the CPU. The notebook's loop,
as its course wrote it: each image goes alone through ToTensor and Normalize inside a DataLoader, pooling rolls and
indexes, and the host reads the loss after every step. Rounds alternate, so that a busy machine slows both.
"""

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from models.cnn import CNNSpec, PooledCNN
from models.pooling import lab_average_pool
from pipeline.check import DataSummary, check
from pipeline.config import load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, load_split
from pipeline.fetch import fetch
from pipeline.train import train
from pipeline.training.device import describe_device
from tests.pipeline.presets import with_training

CPU = torch.device("cpu")


class NotebookImages(TorchDataset[tuple[Tensor, int]]):
    """What torchvision's MNIST is: an image is wrapped and transformed each time that it is asked for."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.split.images[index].numpy())
        return self.transform(image), int(self.split.labels[index])


class NotebookNetwork(nn.Module):
    """Task 4 as the notebook has it: pooling by rolling and indexing, and a readout drawn from N(0, 1)."""

    def __init__(self, spec: CNNSpec) -> None:
        super().__init__()
        self.layers = PooledCNN(spec.taps, spec.features, spec.sizes, pool=lab_average_pool)
        self.readout = nn.Parameter(torch.randn(spec.readout_inputs, spec.classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (batch, 1, 28, 28) to logits (batch, 10)."""
        features: Tensor = self.layers(images)
        return features.flatten(start_dim=1) @ self.readout


def notebook_epoch(images: NotebookImages, device: torch.device = CPU) -> float:
    """Train one epoch as the notebook does, and return its seconds."""
    network = NotebookNetwork(CNNSpec()).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    cross_entropy = nn.CrossEntropyLoss()
    losses = []
    start = time.perf_counter()
    for batch, labels in DataLoader(images, batch_size=128, shuffle=True):
        network.zero_grad()
        loss = cross_entropy(network(batch.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return time.perf_counter() - start


def our_epoch(dataset: Dataset, summary: DataSummary) -> float:
    """Train one epoch of the lab preset, and return its seconds."""
    preset = with_training(load_preset("lab"), epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lab.pt"
        result = train(dataset, summary, preset, device=CPU, checkpoint=path, on_progress=lambda _: None)
    return result.duration_s


def measure(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Let the contestants take turns, once to warm up and then `rounds` times, and return their medians."""
    durations_s: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds + 1):
        for name, run in contestants.items():
            duration_s = run()
            if index:
                durations_s[name].append(duration_s)
    return {name: statistics.median(values) for name, values in durations_s.items()}


def main(rounds: int = 5) -> None:
    """Print the medians, their ratio, and where they were measured."""
    dataset = fetch(None, download=False, cache=Path(tempfile.gettempdir()))
    summary = check(dataset, classes=10, size=28)
    images = NotebookImages(load_split(dataset, "train", CPU))
    contestants = {"notebook": lambda: notebook_epoch(images), "ours": lambda: our_epoch(dataset, summary)}
    medians_s = measure(contestants, rounds)
    for name, median_s in medians_s.items():
        print(f"{name:9}{median_s:6.2f} s an epoch, median of {rounds}")
    print(f"ours is {medians_s['notebook'] / medians_s['ours']:.1f} times faster")
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}, "
        f"{describe_device(CPU)}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
