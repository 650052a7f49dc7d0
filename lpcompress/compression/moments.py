"""Second moments of layer inputs, and sensitivity of the model's output to each layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.swapping import trained_as_before

See = Callable[[Layer, Tensor, Tensor], None]
"""Takes a layer, what it is given and what it returns."""


def statistics_of(
    model: Any, layers: Mapping[str, Layer], encoded: Sequence[Any], seed: int, sensitivities: bool, tell: Progress
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Run texts through a model and watch its layers; run it backwards too if sensitivities are asked for.

    The output is the first thing the model returns: logits, or hidden states, of which the mean over a text is taken.
    Derivatives are those of the sum of its numbers with random signs; their squares are on average those of the
    Jacobian.

    A moment weights all products equally. Weighting them by those derivatives made `svd` fits slightly better (logits
    of an MRPC classifier with half of the model removed moved by .28 of their variance instead of .32) but layers
    rounded to two bits far worse (.41 to .76 instead of .22): the fit then ignores most inputs.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of name to Layer
        Plain layers of the model. Those that do not run are left out of the result.
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

    def see(layer: Layer, given: Tensor, output: Tensor) -> None:
        name = layer.name
        if layer.role != "embedding":
            inputs = layer.inputs_of(given).detach().float()
            totals.setdefault(name, inputs.new_zeros(inputs.shape[1], inputs.shape[1])).addmm_(inputs.T, inputs)
            seen[name] = seen.get(name, 0) + len(inputs)
        if not output.requires_grad:
            return
        products, bias = layer.outputs_of(output.detach()).float(), getattr(layer.module, "bias", None)
        energies = (products if bias is None else products - bias.float()).square().sum(dim=1)

        def feel(gradient: Tensor) -> None:
            slopes = layer.outputs_of(gradient).float().square().mean(dim=1)
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
    """Have derivatives taken with respect to the outputs of layers, and to no parameter, for a while."""
    with torch.enable_grad(), trained_as_before(model):
        model.requires_grad_(False)
        yield


@contextmanager
def watched(layers: Mapping[str, Layer], see: See) -> Iterator[None]:
    """Call `see` for every product with the matrix of one of `layers`, for a while."""
    bare: dict[Tensor, Layer] = {}  # by identity
    with ExitStack() as hooks:
        for layer in layers.values():
            if layer.equation:
                bare[layer.module.weight] = layer
            else:
                hooks.callback(layer.module.register_forward_hook(_telling(see, layer)).remove)
        with _BareProducts(bare, see):
            yield


def _telling(see: See, layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = _differentiable(output)
        see(layer, inputs[0], output)
        return output

    return hook


def _differentiable(output: Tensor) -> Tensor:
    """Return an output with respect to which derivatives can be taken, even where nothing before it has one.

    It is not a leaf, so the model may change it in place.
    """
    if output.requires_grad or not torch.is_grad_enabled():
        return output
    return output.detach().requires_grad_().clone()


class _BareProducts(TorchFunctionMode):
    """Calls `see` for the products with bare weights, for which there is no module to hook."""

    def __init__(self, weights: Mapping[Tensor, Layer], see: See) -> None:
        super().__init__()
        self.weights, self.see = weights, see

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        match args:
            case (str(equation), Tensor() as hidden, nn.Parameter() as weight) if weight in self.weights:
                layer = self.weights[weight]
                if function is torch.einsum and equation == layer.equation:
                    output = _differentiable(output)
                    self.see(layer, hidden, output)
        return output
