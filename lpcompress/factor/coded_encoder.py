"""Encoding a matrix with one step size for everything: delta in, bytes and factorization out."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lpcompress.factor.coded_frame import LARGEST, Feedback, Frame
from lpcompress.factor.coded_rounding import ENTROPY, PRICE_OF_BIT, Prices, priced
from lpcompress.factor.linalg import fix_signs, gram_of
from lpcompress.factor.problem import Settings
from lpcompress.factor.whitening import Whitener
from lpcompress.formats.coded import LEVELS, Coded, at_levels
from lpcompress.formats.coded_stream import (
    BYTES_BESIDE_LANE,
    BYTES_PER_LANE,
    MOST_LANES,
    MOST_STEPS,
    Codes,
    classes,
    widened,
)
from lpcompress.progress import Told, stretch, unheard

LIGHTEST = 1e-8  # least row weight as a share of the largest, so that no row's codes are arbitrary
SAMPLE = 1 << 19  # numbers on which prices and sizes are estimated
MOMENTS = 8  # blocks of rows whose Gram matrices are computed apart, whatever the number of processes
ROUNDS = 3  # of rounding and learning prices
CHUNK = 512  # rows that are rounded at a time
TALL = 2  # rows per column from which a basis is tried
VERY_TALL = 16  # rows per column from which a basis takes the place of error feedback: it is small beside the codes
FINEST = 2.0**-30  # least delta, as a share of the largest coordinate
ROW_BITS = 3.0  # a row's scale takes, as a rule
FRAME_BYTES = 60  # header, and tables of the scales
TABLE_BYTES = 12  # of one class
DEFAULTS = Settings()
ROUNDED = 1.0005  # of frequencies
MOMENT, ESTIMATES = 0.25, 0.4  # shares of the work at whose end the moment and the estimates are known, as a rule
SLIGHT = 0.01
"""Share of the squared error that may be added so that all codes fit into a byte. A few rows of large weight would make
those of all others take two: at 90 % removed 16 of 30,522."""

ROUNDING = 0.4  # share of rounding in the work of encoding; the rest is the coder's


@dataclass(frozen=True)
class Estimate:
    """What a step would lead to, estimated on a sample of rows.

    Attributes
    ----------
    n_bytes : float
    loss : float
        Squared error, of rows scaled by the roots of their weights.
    width : int or None
        Vectors of the basis that are worth their bytes; None without a basis.
    """

    n_bytes: float
    loss: float
    width: int | None

    def cost(self, delta: float) -> float:
        """Return loss plus bytes, at the price that the step implies."""
        return self.loss + 8 * self.n_bytes * PRICE_OF_BIT * delta**2


class Encoder:
    """Encodes one matrix at any step size.

    Row i has the step delta w_i^(-1/p), where the largest weight is 1: the weighted l_p error is then the same
    everywhere, as the least error under a budget of bits asks for at high rates, and no bits are allocated. Row steps
    are rounded to quarter octaves.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
        The work is done in float32.
    row_weights : Tensor of shape (n,), optional
    whitener : Whitener, optional
        Minimise the error of products with inputs of this second moment: entries are rounded with error feedback, or,
        in a very tall matrix, coordinates in the principal axes of the products.
    settings : Settings, optional
        `p`; `seed`, which draws the sample; `crew`; and `told`.
    item : int, default=4
        Bytes of a stored floating-point number.

    Examples
    --------
    >>> encoder = Encoder(torch.randn(300, 40, generator=torch.Generator().manual_seed(0)))
    >>> finer, coarser = encoder.encode(0.1), encoder.encode(0.5)
    >>> finer.n_bytes > coarser.n_bytes, abs(encoder.estimate(0.1).n_bytes / finer.n_bytes - 1) < 0.1
    (True, True)
    """

    def __init__(
        self,
        matrix: Tensor,
        row_weights: Tensor | None = None,
        whitener: Whitener | None = None,
        settings: Settings = DEFAULTS,
        item: int = 4,
    ) -> None:
        self.matrix, self.item, self.crew = matrix.detach().float(), item, settings.crew
        rows, device = matrix.shape[0], matrix.device
        self.steps = step_exponents(row_weights, rows, settings.p).to(device)
        self.told = settings.told
        self.whitener = whitener if rows >= VERY_TALL * matrix.shape[1] else None
        self.root = self.whitener.root.to(device, torch.float32) if self.whitener else None
        self.feedback = Feedback.of(whitener, device) if whitener and not self.whitener else None
        self.chunk = rows if self.feedback else CHUNK  # with feedback, a step takes as long for a few rows as for all
        self.squares = torch.empty(rows, device=device)  # of the lengths of scaled rows
        squares = torch.zeros(matrix.shape[1], dtype=torch.float64, device=device)
        for start, part in zip(range(0, rows, self.chunk), self.parts(), strict=True):
            part.square_()
            self.squares[start : start + self.chunk] = part.sum(1)
            squares += part.sum(0, dtype=torch.float64)
        chosen = evenly(self.squares, max(1, SAMPLE // matrix.shape[1]), settings.seed)
        self.share = len(chosen) / rows
        self.sample = self.scaled(chosen)
        self.entries = Frame.of_entries((squares / rows).float(), self.feedback)

    def scaled(self, rows: slice | Tensor, steps: Tensor | None = None) -> Tensor:
        """Return rows of the matrix, or of the products that count, divided by 2^(step / 4), by default their own."""
        steps = self.steps if steps is None else steps
        found = self.matrix[rows] * torch.exp2(steps[rows].float() / -4).unsqueeze(1)
        return found if self.root is None else found @ self.root

    def parts(self, first: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """Yield all rows, or those from `first` up to `stop`, scaled, `chunk` at a time."""
        stop = len(self.matrix) if stop is None else min(stop, len(self.matrix))
        for start in range(first, stop, self.chunk):
            yield self.scaled(slice(start, min(start + self.chunk, stop)))

    @cached_property
    def moment(self) -> Tensor:
        """Gram matrix of the scaled rows, float64 (d, d)."""
        length = -(-len(self.matrix) // MOMENTS)

        def work(number: int) -> tuple[Tensor, ...]:
            self.told(MOMENT * number / MOMENTS)
            rows = self.parts(number * length, (number + 1) * length)
            return (gram_of(rows, self.matrix),)

        total = self.matrix.new_zeros(self.matrix.shape[1], self.matrix.shape[1], dtype=torch.float64)
        for (part,) in self.crew.share([1] * MOMENTS, work):
            total += part
        return total

    @cached_property
    def axes(self) -> Tensor:
        """Principal axes of the scaled rows, float64 (d, d), the largest first."""
        return fix_signs(torch.linalg.eigh(self.moment).eigenvectors.flip(1)).T.contiguous()

    @cached_property
    def turned(self) -> Frame:
        """The frame of the principal axes before they are rounded."""
        squares = ((self.axes @ self.moment) * self.axes).sum(1) / len(self.matrix)
        squares = squares.float()
        return Frame(torch.ones_like(squares), squares, squares, inverse=self.axes.T.float().contiguous())

    @cached_property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest delta that make sense: at the largest, all codes are zero."""
        largest = max(float(self.entries.coordinates(part).abs().max()) for part in self.parts())
        if self.feedback is None:
            largest = max(largest, max(float(part.square().sum(1).max()) for part in self.parts()) ** 0.5)
        largest = largest or 1.0
        return largest * FINEST, largest * 4

    @property
    def may_turn(self) -> bool:
        """Whether a basis is tried."""
        n, d = self.matrix.shape
        return self.feedback is None and n >= TALL * d

    @cached_property
    def usual(self) -> Prices:
        """Prices learned at coarse and fine steps, from which those at any step are learned quickly."""
        frame, prices = self.turned if self.may_turn else self.entries, Prices.at_first(self.matrix.device)
        typical = float(frame.squares.mean().sqrt()) or 1.0
        for share in (0.125, 0.5, 1, 2):
            prices = self._learn(frame, share * typical, prices, ROUNDS)[0]
        return prices

    def estimate(self, delta: float, like: Estimate | None = None) -> Estimate:
        """Estimate bytes and loss at a step size.

        Parameters
        ----------
        delta : float
        like : Estimate, optional
            Keep its frame and width; by default, those that cost least.
        """
        if like is not None:
            return self._estimate(self.entries if like.width is None else self.turned, delta, like.width)
        frames = [self.turned] if self.root is not None else [self.entries, *([self.turned] if self.may_turn else [])]

        def work(number: int) -> tuple[Tensor, ...]:
            found = self._estimate(frames[number], delta)
            return (torch.tensor([found.n_bytes, found.loss, found.width or 0], dtype=torch.float64),)

        found = [part.tolist() for (part,) in self.crew.share([1] * len(frames), work)]
        estimates = [Estimate(n_bytes, loss, int(width) or None) for n_bytes, loss, width in found]
        return min(estimates, key=lambda each: each.cost(delta))

    def _estimate(self, frame: Frame, delta: float, width: int | None = None) -> Estimate:
        prices, numbers, kinds, codes = self._learn(frame.at(delta, self.usual), delta, self.usual)
        n, d = self.matrix.shape
        bits = prices.bits.flatten().index_select(0, priced(codes, kinds).flatten()).view_as(numbers)
        errors = (numbers - at_levels(codes, prices.levels)).square_()
        by_column = [part.sum(0, dtype=torch.float64) / self.share for part in (bits, errors, numbers.square())]
        bits, errors, energies = by_column
        beside = n * ROW_BITS + 8 * (FRAME_BYTES + TABLE_BYTES * len(kinds.unique()))
        if frame.inverse is not None:
            spread = (frame.squares.double() * n / d).sqrt() / delta  # of the integers of a basis vector
            vectors = d * (spread.log2() + ENTROPY).clamp(0.2, 8)
            gains = energies - errors - PRICE_OF_BIT * (bits + vectors)
            width = width or max(1, int(gains.cumsum(0).argmax()) + 1)
            beside += float(vectors[:width].sum())
            errors[width:] = energies[width:]
        kept = bits[:width]
        stream = (float(kept.sum()) + beside) / 8 * ROUNDED
        stream += BYTES_BESIDE_LANE * min(stream / BYTES_PER_LANE, MOST_LANES)
        return Estimate(stream + (len(kept) + LEVELS) * self.item, float(errors.sum()) * delta**2, width)

    def encode(self, delta: float, like: Estimate | None = None, told: Told = unheard) -> Coded:
        """Encode all rows at a step size: the same gives the same bytes.

        Parameters
        ----------
        delta, like
            As for `estimate`.
        told : callable (share), optional
            Takes the share of this that is done.
        """
        width = (like or self.estimate(delta)).width
        frame = self.entries.at(delta, self.usual)
        if width is not None:
            frame = Frame.of_axes(self.axes[:width], self.moment, len(self.matrix), delta, self.whitener)
        prices, numbers, _, sampled = self._learn(frame, delta, self.usual, ROUNDS)
        error = float((numbers - at_levels(sampled, prices.levels)).square_().sum()) / self.share
        steps = self._steps_of_bytes(frame, delta, SLIGHT * error)
        codes, scales = self._integers(frame, prices, delta, steps, stretch(told, 0, ROUNDING))
        held = Codes(
            codes,
            steps.cpu(),
            scales,
            frame.columns.cpu(),
            None if frame.basis is None else frame.basis.cpu(),
            None if frame.vectors is None else frame.vectors.cpu(),
        )
        return Coded.of(held, frame.scales, prices.levels * delta, stretch(told, ROUNDING, 1))

    def _steps_of_bytes(self, frame: Frame, delta: float, most: float) -> Tensor:
        """Return the steps of the rows, coarser for those that would have a code beyond a byte, if that costs little.

        Parameters
        ----------
        most : float
            What it may add to the squared error, in squares of `delta`. If it would be more, the steps stay.
        """
        # a coordinate is at most as long as its row, or little longer in a basis that was rounded
        long = (self.squares > (LARGEST * delta) ** 2 / 2).nonzero().squeeze(1)
        if frame.feedback is not None or not len(long):
            return self.steps
        largest = torch.cat([frame.coordinates(self.scaled(some)).abs().amax(1) / delta for some in long.split(CHUNK)])
        octaves = (4 * (largest / LARGEST).log2()).ceil().clamp_min(0)
        added = float((torch.exp2(octaves / 2) - 1).sum(dtype=torch.float64)) * len(frame.scales) / 12
        coarser = self.steps.index_add(0, long, octaves.to(self.steps.dtype))
        return coarser if added <= most and int(coarser.max()) <= MOST_STEPS else self.steps

    def _integers(self, frame: Frame, prices: Prices, delta: float, steps: Tensor, told: Told) -> tuple[Tensor, Tensor]:
        """Return the codes of all rows, and the scales of the rows, on the CPU.

        Both are written in place: many small tensors between large temporary ones would leave holes in the memory.
        """
        rows, width = len(self.matrix), len(frame.scales)
        codes, scales = torch.empty(rows, width, dtype=torch.int8), torch.empty(rows, dtype=torch.int16)

        def work(number: int) -> tuple[Tensor, ...]:
            told(number / len(starts))
            some = self.scaled(slice(starts[number], starts[number] + self.chunk), steps)
            numbers, kinds, of_rows = self._in_steps(frame, some, delta)
            feedback = frame.feedback
            rounded = feedback.rounded(numbers, kinds, prices) if feedback else prices.rounded(numbers, kinds)
            return rounded.to(widened(codes[:0], rounded).dtype), of_rows

        starts = range(0, rows, self.chunk)
        for start, (rounded, of_rows) in zip(starts, self.crew.share([1] * len(starts), work), strict=True):
            codes = widened(codes, rounded)
            codes[start : start + self.chunk], scales[start : start + self.chunk] = rounded, of_rows
        return codes, scales

    def _in_steps(self, frame: Frame, rows: Tensor, delta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the coordinates of rows in steps, their classes, and the scales of the rows."""
        numbers = frame.coordinates(rows) / delta
        scales = frame.rows(numbers)
        return numbers, classes(frame.columns, scales), scales

    def _learn(
        self, frame: Frame, delta: float, prices: Prices, rounds: int = 1
    ) -> tuple[Prices, Tensor, Tensor, Tensor]:
        """Round the sample and learn from it; return prices, and the rounded numbers with their classes and codes.

        Error feedback is not run: numbers are multiplied to be as large as with it.
        """
        numbers, kinds, _ = self._in_steps(frame, self.sample, delta)
        if frame.feedback is not None:
            numbers = numbers * (frame.spread / frame.squares.clamp_min(torch.finfo(numbers.dtype).tiny)).sqrt()
        for _ in range(rounds):
            codes = prices.rounded(numbers, kinds)
            prices = prices.learned(numbers, kinds, codes)
        return prices, numbers, kinds, codes


def evenly(lengths: Tensor, count: int, seed: int) -> Tensor:
    """Draw at most `count` rows, one of each stratum of equally many rows by length: ascending indices.

    Bytes follow the lengths of rows: rows drawn without strata would be wrong by percents about all rows.
    """
    count = min(count, len(lengths))
    places = torch.arange(count) + torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    places = (places * (len(lengths) / count)).long().clamp_max(len(lengths) - 1)
    return lengths.argsort(stable=True)[places.to(lengths.device)].sort().values


def step_exponents(row_weights: Tensor | None, rows: int, p: float = 2.0) -> Tensor:
    """Return the step of each row in quarter octaves, 0 for the largest weight: int16 (n,)."""
    if row_weights is None:
        return torch.zeros(rows, dtype=torch.int16)
    shares = (row_weights.double().cpu() / float(row_weights.max())).clamp_min(LIGHTEST)
    return (-4 / p * shares.log2()).round_().clamp_max_(MOST_STEPS).to(torch.int16)
