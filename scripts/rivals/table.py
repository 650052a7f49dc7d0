"""The table of rivals: a row for each line of the report."""

from functools import partial

from lpcompress.compression.drawn import LENGTHS, TEXTS
from lpcompress.config.plan import DRAWN, NONE
from rivals import gobo, ours, rounding
from rivals.ours import TEXT_OF_THE_TASK
from rivals.rival import Rival
from rivals.standard import Standard

SCORED = ("embedding", "model")

ROUNDING = tuple(
    Rival(
        f"int{bits}",
        "rounding",
        f"rounding to the nearest of {2**bits} levels, groups of {rounding.GROUP}, asymmetric",
        partial(rounding.fit, bits),
        sized=False,
    )
    for bits in (8, 4, 3, 2)
)
GOBO = tuple(
    Rival(
        f"GOBO, {bits} bits",
        "gobo",
        f"{2**bits} levels found by the paper's L1 procedure, outliers in float32 (MICRO 2020)",
        partial(gobo.fit, bits),
        sized=False,
    )
    for bits in (4, 3, 2)
)
STANDARD = tuple(
    Rival(name, "standard", f"ISO/IEC 15938-17, nncodec 2.1.3, {about}", Standard(quantization).fit)
    for name, quantization, about in (
        ("nncodec", "plain", "plain rounding (`use_dq=False`)"),
        ("nncodec DQ", "dependent", "dependent quantization (`use_dq=True`, its default)"),
    )
)
FACTORED = tuple(
    Rival(method, "factored", f"`--method {method} --calibration none`", partial(ours.fit, method, NONE))
    for method in ("svd", "messi", "adaptive")
)
OURS = (
    Rival("coded, no calibration", "ours", "`coded --calibration none`", partial(ours.fit, "coded", NONE)),
    Rival(
        "coded, drawn text",
        "ours",
        f"`coded --calibration drawn`: {TEXTS} drawn texts of {LENGTHS[0]} to {LENGTHS[-1]} tokens, no data",
        partial(ours.fit, "coded", DRAWN),
        scopes=SCORED,
    ),
    Rival(
        "coded, text of the task",
        "ours",
        "`coded --calibration glue:TASK`: unlabelled training texts",
        partial(ours.fit, "coded", TEXT_OF_THE_TASK),
        scopes=SCORED,
    ),
)
RIVALS = (*OURS, *STANDARD, *ROUNDING, *GOBO, *FACTORED)
FAMILIES = tuple(dict.fromkeys(rival.family for rival in RIVALS))
