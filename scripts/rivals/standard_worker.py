"""Encode and decode arrays by ISO/IEC 15938-17; runs in the environment that `standard.py` makes.

    python standard_worker.py ARRAYS.npz QP PLAIN|DEPENDENT DECODED.npz

Writes the decoded arrays and prints the bytes of the bitstream. All settings but the last two arguments are those of
`nncodec.nn.encode`.
"""

import sys
import types

import numpy as np

# only a model of PyTorch or TensorFlow, not a dict of arrays, reaches the frameworks: they need not be installed
frameworks = types.ModuleType("nncodec.framework")
frameworks.tensorflow_model = frameworks.pytorch_model = frameworks.use_case_init = None
sys.modules["nncodec.framework"] = frameworks

from nncodec import nnc  # noqa: E402

if __name__ == "__main__":
    source, qp, quantization, target = sys.argv[1:]
    bitstream = nnc.compress(
        dict(np.load(source)),
        bitstream_path=None,
        qp=int(qp),
        nonweight_qp=-75,
        use_dq=quantization == "dependent",
        param_opt=True,
        row_skipping=True,
        return_bitstream=True,
    )
    np.savez(target, **nnc.decompress(bitstream))
    print(len(bitstream))
