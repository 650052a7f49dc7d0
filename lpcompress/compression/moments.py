"""Second moments of layer inputs, and derivatives of the model's output by what layers return."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpcompress.checkpoints.load_errors import in_one_line
from lpcompress.errors import LpCompressError
from lpcompress.nn import scale_of
from lpcompress.progress import Progress
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.swapping import trained_as_before

Observer = Callable[[Layer, Tensor, Tensor], None]
"""Callback type: takes a layer, its input and its output."""


def moments_of(
    model: Any, layers: Mapping[str, Layer], encoded: Sequence[Any], tell: Progress
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Measure second moments of layer inputs on text.

    A moment weights all products equally. Weighting them by derivatives of the output made `svd` fits slightly better
    (logits of an MRPC classifier with half of the model removed moved by .28 of their variance instead of .32) but
    layers rounded to two bits far worse (.41 to .76 instead of .22): the fit then ignores most inputs.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of str to Layer
        Plain layers of the model, by name. Layers that do not run are left out of the results.
    encoded : sequence of mapping
        Model inputs: one text each, or several of equal length, so that no text is padded.
    tell : Progress

    Returns
    -------
    moments : dict of str to Tensor of shape (d, d)
        Second moments C = E[x x^T] over the inputs x of every linear layer, convolution and bare weight, float64, in
        the order of the columns of the layer's matrix W. The expected squared error of the outputs of a replacement W'
        is E ||(W - W') x||^2 = tr((W - W') C (W - W')^T).
    outputs : list of Tensor of shape (texts, k)
        What `run` returns for each of `encoded`.
    """
    totals: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()

    def observe(layer: Layer, given: Tensor, output: Tensor) -> None:
        if layer.role != "embedding":
            inputs = layer.inputs_of(given).float()
            totals.setdefault(layer.name, inputs.new_zeros(inputs.shape[1], inputs.shape[1])).addmm_(inputs.T, inputs)
            counts[layer.name] += len(inputs)

    outputs = []
    with observed(layers, observe), torch.no_grad():
        for done, text in enumerate(encoded):
            tell("calibrating", done, len(encoded))
            outputs.append(run(model, text))
    moments = {name: total.double() / counts[name] for name, total in totals.items()}
    refuse_not_finite(moments)
    return moments, outputs


@dataclass(frozen=True)
class Derivatives:
    """Squared derivatives of a model's output by the outputs of its layers, added up over texts.

    The output is that of `run`. Derivatives are those of the sum of its entries with random signs; their squares equal,
    on average, the squared entries of the Jacobian.

    Attributes
    ----------
    by_output : dict of str to Tensor of shape (n,)
        By the outputs of a linear layer, convolution or bare weight, summed over its products, float64.
    directions : dict of str to Tensor of shape (d, d)
        Sums g g^T of the derivatives g by the rows of an embedding: an error e of the rows of all tokens changes the
        output by e^T G e, to first order.
    deviations : callable () -> float
        Sum of squared deviations of the outputs from their mean; raises LpCompressError if they cannot be compared.
    """

    by_output: dict[str, Tensor]
    directions: dict[str, Tensor]
    deviations: Callable[[], float]

    def slopes(self, layers: Mapping[str, Layer]) -> dict[str, float]:
        """Return the slopes of the model's output by errors of each layer.

        Returns
        -------
        dict of str to float
            Squared change of the output, as a share of its variance over texts, per squared error of a layer's products
            on a text, mean over its outputs: to first order, and for independent errors of the products. An error E of
            the matrix of a layer with a moment C changes the output by about slope tr(E C E^T); an error e of the rows
            of all tokens of an embedding by about slope ||e||^2.

        Raises
        ------
        LpCompressError
            If the outputs cannot be compared.

        References
        ----------
        LeCun, Denker, Solla, "Optimal brain damage", NIPS 1990, for what squared derivatives say. Derivatives by layer
        outputs are the second factor in Martens and Grosse, "Optimizing neural networks with Kronecker-factored
        approximate curvature", ICML 2015.
        """
        scale = 1 / (self.deviations() or 1.0)
        totals = self.by_output | {name: total.diagonal() for name, total in self.directions.items()}
        return {name: float(total.mean()) * scale * _gain(layers[name]) for name, total in totals.items()}


def derivatives_of(
    model: Any, layers: Mapping[str, Layer], encoded: Sequence[Any], seed: int, tell: Progress
) -> Derivatives:
    """Take derivatives of the model's output on texts.

    Parameters
    ----------
    model, layers, encoded, tell
        As for `moments_of`.
    seed : int
        Seed of the random signs.
    """
    by_output: dict[str, Tensor] = {}
    directions: dict[str, Tensor] = {}

    def observe(layer: Layer, given: Tensor, output: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            by_product = layer.outputs_of(gradient).double()
            d = by_product.shape[1]
            if layer.role == "embedding":
                directions.setdefault(layer.name, by_product.new_zeros(d, d)).addmm_(by_product.T, by_product)
            else:
                by_output.setdefault(layer.name, by_product.new_zeros(d)).add_(by_product.square().sum(dim=0))

        if output.requires_grad:
            output.register_hook(add)

    generator, outputs = torch.Generator().manual_seed(seed), []
    with observed(layers, observe), _derivatives_by_outputs(model):
        for done, text in enumerate(encoded):
            tell("taking derivatives", done, len(encoded))
            output = run(model, text)
            outputs.append(output.detach())
            signs = torch.randint(2, output.shape, generator=generator).to(output) * 2 - 1
            if output.requires_grad:
                (output * signs).sum().backward()
    refuse_not_finite(by_output | directions)
    return Derivatives(by_output, directions, partial(_squared_deviations, model, outputs))


def _gain(layer: Layer) -> float:
    """Return the squared error of a layer's output per squared error of its products or rows."""
    multiplier = scale_of(layer.module) if layer.role == "embedding" else None
    return 1.0 if multiplier is None else multiplier.factor**2


def run(model: Any, text: Any) -> Tensor:
    """Return the first output of a model for encoded texts, in float32; that of each token is averaged over the text.

    Raises
    ------
    LpCompressError
        If the model cannot be run on text alone; many need decoder inputs or pixels besides.
    """
    try:
        output: Tensor = model(**text.to(model.device))[0].float()
    except Exception as error:  # model code raises anything for an input that it lacks
        raise LpCompressError(
            f"calibration runs texts through the model, which a {type(model).__name__} does not take alone. Set"
            f" calibration to none. ({in_one_line(error)})"
        ) from error
    return output.mean(dim=1) if output.dim() == 3 else output


def refuse_not_finite(moments: Mapping[str, Tensor]) -> None:
    """Raise LpCompressError if a moment is not finite."""
    for name, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise LpCompressError(
                f"{name}: its inputs or derivatives on the calibration text are not finite, or too large. Convert the"
                " model to bfloat16 or float32, or set calibration to none."
            )


def _squared_deviations(model: Any, outputs: Sequence[Tensor]) -> float:
    """Return the sum of squared deviations of outputs from the mean of those of their shape, for all texts.

    Raises
    ------
    LpCompressError
        If each output has a shape of its own.
    """
    shapes: dict[torch.Size, list[Tensor]] = {}
    for output in outputs:
        shapes.setdefault(output.shape[1:], []).append(output)
    alike = [torch.cat(each) for each in shapes.values()]
    if len(alike) > 1 and all(len(each) == 1 for each in alike):
        raise LpCompressError(
            f"a model size is shared out by how much each text changes the output, but that of a"
            f" {type(model).__name__} has another shape for every text. Give ratio, or set calibration to none."
        )
    return float(sum((each - each.mean(dim=0)).square().sum() for each in alike))


@contextmanager
def _derivatives_by_outputs(model: Any) -> Iterator[None]:
    """While the block runs, take derivatives with respect to layer outputs only, and not to parameters."""
    with torch.enable_grad(), trained_as_before(model):
        model.requires_grad_(False)
        yield


@contextmanager
def observed(layers: Mapping[str, Layer], observe: Observer) -> Iterator[None]:
    """Call `observe` for every product with the matrix of one of `layers` while the block runs."""
    bare: dict[Tensor, Layer] = {}  # by identity
    with ExitStack() as hooks:
        for layer in layers.values():
            if layer.equation:
                bare[layer.module.weight] = layer
            else:
                hooks.callback(layer.module.register_forward_hook(_observing_hook(observe, layer)).remove)
        with _BareProducts(bare, observe):
            yield


def _observing_hook(observe: Observer, layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = _differentiable(output)
        observe(layer, inputs[0], output)
        return output

    return hook


def _differentiable(output: Tensor) -> Tensor:
    """Return `output` such that derivatives with respect to it can be taken, even if nothing before it requires them.

    The result is not a leaf, so the model may change it in place.
    """
    if output.requires_grad or not torch.is_grad_enabled():
        return output
    return output.detach().requires_grad_().clone()


class _BareProducts(TorchFunctionMode):
    """Calls `observe` for the products with bare weights, for which there is no module to hook."""

    def __init__(self, weights: Mapping[Tensor, Layer], observe: Observer) -> None:
        super().__init__()
        self.weights, self.observe = weights, observe

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        match args:
            case (str(equation), Tensor() as hidden, nn.Parameter() as weight) if weight in self.weights:
                layer = self.weights[weight]
                if function is torch.einsum and equation == layer.equation:
                    output = _differentiable(output)
                    self.observe(layer, hidden, output)
        return output
