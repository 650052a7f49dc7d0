"""`import lpcompress` is light and works before and after `import transformers`."""

import pytest
from interpreters import Interpreters

KNOWN = "assert 'lpcompress' in transformers.quantizers.auto.AUTO_QUANTIZER_MAPPING"


def test_the_import_is_light(fresh_python):
    done = fresh_python(
        "import lpcompress, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])", cold=True
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def without_transformers(interpreters):
    """Interpreters that have imported torch, but not transformers."""
    made = Interpreters(interpreters.environment["PYTHONPATH"], imports="import torch")
    yield made
    made.stop()


@pytest.mark.parametrize(
    "imports",
    [
        "import lpcompress, transformers; transformers.PreTrainedModel",
        "import transformers; transformers.PreTrainedModel; import lpcompress",
        "import transformers, lpcompress; transformers.AutoModel; import transformers.quantizers.auto",
        "import lpcompress; import lpcompress.checkpoints.quantizer; import transformers.quantizers.auto",
        "import lpcompress.nn; import transformers.quantizers.auto",
    ],
)
def test_any_order(without_transformers, imports):
    check = (
        f"{imports}\n{KNOWN}\nimport sys\n"
        "assert not [f for f in sys.meta_path if type(f).__name__ == 'AfterImport']\n"
        "lpcompress.checkpoints.registration.register()"
    )
    script = f"import lpcompress\n{check}" if "import lpcompress.nn" in imports else check
    done = without_transformers.run("-c", f"import sys\nassert 'transformers' not in sys.modules\n{script}")
    assert done.returncode == 0, done.stderr


def test_public_names():
    import lpcompress.nn

    assert lpcompress.nn.FactoredEmbedding.__name__ == "FactoredEmbedding"
    assert lpcompress.LpCompressError.__name__ == "LpCompressError"
    assert lpcompress.eval_glue.__module__ == "lpcompress.evaluation.benchmark"
    assert lpcompress.Plan(ratio=0.5).ratio == 0.5
    assert {"compress", "eval_glue", "factorize", "nn"} <= set(dir(lpcompress))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = lpcompress.nonsense
