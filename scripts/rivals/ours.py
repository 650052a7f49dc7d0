"""Methods of lpcompress."""

from typing import Any

import lpcompress
from lpcompress.surgery.sizes import tensor_bytes
from rivals.rival import Fit, Subject

TEXT_OF_THE_TASK = "glue:TASK"


def fit(method: str, calibration: str, subject: Subject, share: float | None) -> Fit:
    """Compress the classifier by a method; see `Rival.fit`.

    Parameters
    ----------
    method : str
    calibration : str
        As for `--calibration`; `TEXT_OF_THE_TASK` names the subject's task.
    subject, share
    """
    scope, share = subject.scope, share or 1.0
    text = calibration.replace("TASK", subject.task)
    size: dict[str, Any] = {"target_size": share} if scope.whole else {"ratio": 1 - share}
    report = lpcompress.compress(
        subject.model,
        **size,
        layers=[scope.layers],
        method=method,
        calibration=text,
        row_weights=scope.row_weights,
        tokenizer=subject.tokenizer,
        data=subject.data,
    )
    option = f"--target-size {share:g}" if scope.whole else f"--ratio {1 - share:g}"
    words = f"--layers {scope.layers} --method {method} {option} --calibration {calibration}"
    if scope.row_weights == "uniform":
        words += " --row-weights uniform"
    n_bytes = tensor_bytes(subject.model) if scope.whole else sum(layer.bytes_after for layer in report.layers)
    return Fit(n_bytes, words)
