"""What the matrices of layers are multiplied by while a model runs, and how far its output moves with each product."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpcompress.nn import BareWeight
from lpcompress.progress import Progress
from lpcompress.surgery import swapping
from lpcompress.surgery.matrices import inputs_of, outputs_of

See = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Takes the name of a layer, the layer, what it is given and what it returns."""


def statistics_of(
    model: Any, layers: Mapping[str, nn.Module], encoded: Sequence[Any], seed: int, sensitivities: bool, tell: Progress
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Run texts through a model, and backwards too if sensitivities are asked for, and watch its layers.

    The output is the first that the model returns: logits, or the mean hidden state of a text. Its derivatives are
    those of a sum of its numbers with random signs, whose squares have the squared Jacobian's mean.

    A moment takes all products alike. Weighted by those derivatives it made linear layers that are `svd` slightly
    better (logits of an MRPC classifier, half of the model removed: .28 of their variance moved, not .32), but those
    that are rounded to two bits far worse (.41 to .76, not .22): few products count then, and the others go astray.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of name to nn.Module
        Plain layers of the model. Those that do not run are left out.
    encoded : sequence of mapping
        What the model is given: one text at a time, so that none is padded.
    seed : int
        Of the signs.
    sensitivities : bool
        Without them a text takes little more than half the time.
    tell : Progress

    Returns
    -------
    dict of str to Tensor of shape (d, d)
        Moments C = E[x x^T] over the inputs x of every linear layer, convolution and bare weight, float64, in the order
        of the columns of a layer's matrix: E ||(W - W') x||^2 = tr((W - W') C (W - W')^T).
    dict of str to float
        Sensitivities, of embeddings too; empty if not asked for. To first order, and errors of products being
        independent: how far the output moves, squared and in shares of its variance over texts, for each unit of a
        layer's relative squared error.

    References
    ----------
    LeCun, Denker, Solla, "Optimal brain damage", NIPS 1990, for sensitivities from squared derivatives; those by the
    outputs of layers are the second factor of Martens and Grosse, "Optimizing neural networks with Kronecker-factored
    approximate curvature", ICML 2015.
    """
    totals: dict[str, Tensor] = {}
    seen: dict[str, int] = {}
    moved: dict[str, float] = {}

    def see(name: str, layer: nn.Module, given: Tensor, output: Tensor) -> None:
        if not isinstance(layer, nn.Embedding):
            inputs = inputs_of(layer, given).detach().float()
            totals.setdefault(name, inputs.new_zeros(inputs.shape[1], inputs.shape[1])).addmm_(inputs.T, inputs)
            seen[name] = seen.get(name, 0) + len(inputs)
        if not output.requires_grad:
            return
        products, bias = outputs_of(layer, output.detach()).float(), getattr(layer, "bias", None)
        energies = (products if bias is None else products - bias.float()).square().sum(dim=1)

        def feel(gradient: Tensor) -> None:
            slopes = outputs_of(layer, gradient).float().square().mean(dim=1)
            moved[name] = moved.get(name, 0.0) + float(slopes @ energies)

        output.register_hook(feel)

    generator, outputs = torch.Generator().manual_seed(seed), []
    with watched(layers, see), _derivatives_by_outputs(model) if sensitivities else torch.no_grad():
        for done, text in enumerate(encoded):
            tell("calibrating", done, len(encoded))
            output = model(**text.to(model.device))[0].float()
            output = output.mean(dim=1) if output.dim() == 3 else output
            signs = torch.randint(2, output.shape, generator=generator).to(output) * 2 - 1
            outputs.append(output.detach())
            if output.requires_grad:
                (output * signs).sum().backward()
    spread = torch.cat(outputs)
    variance = float((spread - spread.mean(dim=0)).square().sum(dim=1).mean()) or 1.0
    moments = {name: total.double() / seen[name] for name, total in totals.items()}
    return moments, {name: total / len(encoded) / variance for name, total in moved.items()}


@contextmanager
def _derivatives_by_outputs(model: Any) -> Iterator[None]:
    """Have derivatives taken by the outputs of layers, and by no parameter, for a while."""
    with torch.enable_grad(), swapping.trained_as_before(model):
        model.requires_grad_(False)
        yield


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
    """Return an output by which derivatives are taken, if any are, even where nothing before it has one.

    It is no leaf, so that the model may change it in place.
    """
    if output.requires_grad or not torch.is_grad_enabled():
        return output
    return output.detach().requires_grad_().clone()


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
