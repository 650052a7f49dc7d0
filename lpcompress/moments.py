"""What the matrices of layers are multiplied by while a model runs, and how far its output moves with each product."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpcompress.layers import inputs_of, matrix_of, outputs_of
from lpcompress.nn import BareWeight
from lpcompress.progress import Progress

UNFELT = 0.1  # weight of all products alike beside those that the output feels: a text says little of other texts

See = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Takes the name of a layer, the layer, what it is given and what it returns."""


@dataclass(frozen=True)
class Moments:
    """Second moments of the inputs x of one layer, float64 (d, d).

    Attributes
    ----------
    plain : Tensor
        E[x x^T] over all products.
    felt : Tensor
        Of each text the sum of w x x^T over its products, the mean over texts; w is the mean squared derivative of the
        model's output by the numbers of a product. To first order, and products being taken for independent,
        tr(D felt D^T) is how far the output moves, squared, when the layer's matrix changes by D. With plain = E[x x^T]
        and felt = E[w x x^T] only the latter knows that the last layer of a classifier matters at one token alone.
    """

    plain: Tensor
    felt: Tensor

    def together(self) -> Tensor:
        """Return what a fit should make small: the felt moment with a share of the plain one, each of trace 1."""
        plain, felt = self.plain.trace(), self.felt.trace()
        return self.plain / plain if felt == 0 else self.felt / felt + UNFELT * self.plain / plain


def second_moments(
    model: Any, layers: Mapping[str, nn.Module], encoded: Sequence[Any], seed: int, tell: Progress
) -> tuple[dict[str, Moments], dict[str, float]]:
    """Run texts through a model, forwards and backwards, and watch its layers.

    The output is the first that the model returns: logits, or the mean hidden state of a text. Its derivatives are
    those of a sum of its numbers with random signs, whose squares have the squared Jacobian's mean.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of name to nn.Module
        Plain layers of the model. Those that do not run are left out.
    encoded : sequence of mapping
        What the model is given: one text at a time, so that none is padded.
    seed : int
        Of the signs.
    tell : Progress

    Returns
    -------
    dict of str to Moments
        Of linear layers, convolutions and bare weights, in the order of the columns of their matrices.
    dict of str to float
        Of embeddings too: how far the output moves, squared and in shares of its variance over texts, for each unit of
        relative squared error of a layer.

    References
    ----------
    Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature", ICML 2015: products
    and derivatives taken for independent; here derivatives weigh the products instead.
    """
    plain: dict[str, Tensor] = {}
    felt: dict[str, Tensor] = {}
    seen: dict[str, int] = {}
    moved: dict[str, float] = {}

    def see(name: str, layer: nn.Module, given: Tensor, output: Tensor) -> None:
        if isinstance(layer, nn.Embedding):
            energies = layer.weight[given.flatten()].float().square().sum(1)
            output.register_hook(lambda gradient: feel_rows(name, energies, gradient.flatten(0, -2)))
            return
        rows = inputs_of(layer, given).detach().float()
        _add(plain, name, rows, rows)
        seen[name] = seen.get(name, 0) + len(rows)
        output.register_hook(lambda gradient: feel(name, rows, outputs_of(layer, gradient)))

    def feel(name: str, rows: Tensor, gradient: Tensor) -> None:
        _add(felt, name, rows * _influence(gradient).unsqueeze(1), rows)

    def feel_rows(name: str, energies: Tensor, gradient: Tensor) -> None:
        moved[name] = moved.get(name, 0.0) + float(_influence(gradient) @ energies)

    generator, outputs = torch.Generator().manual_seed(seed), []
    with watched(layers, see), _frozen(model):
        for done, text in enumerate(encoded):
            tell("calibrating", done, len(encoded))
            output = model(**text.to(model.device))[0].float()
            output = output.mean(dim=1) if output.dim() == 3 else output
            signs = torch.randint(2, output.shape, generator=generator).to(output) * 2 - 1
            outputs.append(output.detach())
            if output.requires_grad:
                (output * signs).sum().backward()
    found = {
        name: Moments(total.double() / seen[name], felt.get(name, torch.zeros_like(total)).double() / len(encoded))
        for name, total in plain.items()
    }
    spread = torch.cat(outputs)
    variance = float((spread - spread.mean(dim=0)).square().sum(dim=1).mean()) or 1.0
    energies = {name: _moved_by(matrix_of(layers[name]), each.felt) for name, each in found.items()}
    energies |= {name: total / len(encoded) for name, total in moved.items()}
    return found, {name: value / variance for name, value in energies.items()}


def _add(totals: dict[str, Tensor], name: str, left: Tensor, right: Tensor) -> None:
    """Add left^T right to a total, in single precision: a sum of some hundred texts, damped before it is inverted."""
    if name not in totals:
        totals[name] = right.new_zeros(left.shape[1], right.shape[1])
    totals[name].addmm_(left.T, right)


def _influence(gradient: Tensor) -> Tensor:
    """Return the mean square of the derivatives by each product, float32; `gradient` is (products, outputs)."""
    return gradient.float().square().mean(dim=1)


def _moved_by(change: Tensor, felt: Tensor) -> float:
    change = change.double()
    return float((change @ felt).mul(change).sum())


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Have derivatives taken by activations alone, which `watched` begins with, for a while."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        with torch.enable_grad():
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield
    finally:
        for parameter, trained in wanted.items():
            parameter.requires_grad_(trained)


@contextmanager
def watched(layers: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """Tell of every product by the matrix of one of `layers`, for a while."""
    bare: dict[Tensor, tuple[str, BareWeight]] = {}  # by identity
    with ExitStack() as hooks:
        for name, layer in layers.items():
            if isinstance(layer, BareWeight):
                bare[layer.weight] = name, layer
            else:
                hooks.callback(layer.register_forward_hook(_telling(see, name)).remove)
        with _BareProducts(bare, see):
            yield


def _telling(see: See, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = _differentiable(output)
        see(name, layer, inputs[0], output)
        return output

    return hook


def _differentiable(output: Tensor) -> Tensor:
    """Return an output by which derivatives are taken, even where nothing before it has any; it may be changed."""
    return output if output.requires_grad else output.detach().requires_grad_().clone()


class _BareProducts(TorchFunctionMode):
    """Tells of the products by bare weights, which no hook of a module sees."""

    def __init__(self, weights: Mapping[Tensor, tuple[str, BareWeight]], see: See) -> None:
        super().__init__()
        self.weights, self.see = weights, see

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        match args:
            case (str(equation), Tensor() as hidden, nn.Parameter() as weight) if weight in self.weights:
                name, layer = self.weights[weight]
                if function is torch.einsum and equation == layer.equation:
                    output = _differentiable(output)
                    self.see(name, layer, hidden, output)
        return output
