"""What coded layers would take and lose, estimated without encoding them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from scipy.optimize import brentq
from torch import no_grad

from lpcompress.compression.model_size import too_small
from lpcompress.compression.one_step import unit_of
from lpcompress.compression.priors import RowWeights
from lpcompress.factor.coded_encoder import Encoder
from lpcompress.factor.preparation import prepare
from lpcompress.surgery.layer import Layer

SPAN = 14.0  # of the search for a step, in natural logarithms, on either side of the numbers' own size
TOLERANCE = 0.02  # of the logarithm of the step: estimates are no better


@dataclass(frozen=True)
class Foresight:
    """Estimate for some layers.

    Attributes
    ----------
    bytes : float
        Of everything stored.
    decoded : float
        Bytes that are in memory besides, by default: an integer of a byte for each code of an embedding, the matrix of
        any other layer.
    error : float
        Root of the mean squared relative error of the layers, by their numbers.
    """

    bytes: float
    decoded: float
    error: float


@dataclass(frozen=True)
class Sort:
    """Layers of one shape, of which one stands for all.

    Attributes
    ----------
    encoder : Encoder
    unit : float
        See `one_step.unit_of`; for the matrix that the encoder has.
    energy : float
        Squared norm of that matrix.
    beside : int
        Bytes of a bias or padding row.
    count : int
        Number of layers.
    looked_up : bool
        Whether they are embeddings.
    """

    encoder: Encoder
    unit: float
    energy: float
    beside: int
    count: int
    looked_up: bool

    @classmethod
    def of(cls, layer: Layer, weights: RowWeights, count: int) -> "Sort":
        """Prepare the estimates for `count` layers like this one."""
        with layer.lend():
            matrix, unit = layer.matrix_to_fit(), unit_of(layer, weights, None)
            plain, scale = prepare(matrix)
        encoder = Encoder(plain, weights.values, item=matrix.element_size())
        energy = float(encoder.entries.squares.sum()) * len(matrix) or 1.0
        return cls(encoder, unit * 4.0**scale.exponent, energy, layer.bytes_beside(), count, layer.role == "embedding")

    def at(self, step: float) -> Foresight:
        """Estimate for all of the layers at the logarithm of a step size in units of the model's output."""
        found = self.encoder.estimate(exp(step) / self.unit**0.5)
        rows, columns = self.encoder.matrix.shape
        decoded = rows * columns * self.encoder.item
        if self.looked_up:
            decoded = rows * columns if found.width is None else (rows + columns) * found.width
        squared = found.loss / self.energy
        return Foresight(self.count * (found.n_bytes + self.beside), float(self.count * decoded), squared**0.5)


@no_grad()
def foresee(sorts: Sequence[Sort], n_bytes: float) -> Foresight:
    """Estimate what layers lose if all of them together take `n_bytes`, with one step size as in `one_step`.

    Raises
    ------
    BudgetError
        If their smallest forms take more.
    """

    def total(step: float) -> float:
        return sum(sort.at(step).bytes for sort in sorts)

    middle = sum(log(sort.unit * sort.energy / sort.encoder.matrix.numel()) for sort in sorts) / len(sorts) / 2
    least = total(middle + SPAN)
    if least > n_bytes:
        raise too_small(int(least), int(n_bytes))
    step = brentq(lambda step: log(total(step) / n_bytes), middle - SPAN, middle + SPAN, xtol=TOLERANCE)
    found = [sort.at(step) for sort in sorts]
    numbers = [sort.count * sort.encoder.matrix.numel() for sort in sorts]
    squared = sum(each.error**2 * n for each, n in zip(found, numbers, strict=True)) / sum(numbers)
    return Foresight(sum(each.bytes for each in found), sum(each.decoded for each in found), squared**0.5)
