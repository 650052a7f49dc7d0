"""The transformers quantizer that makes `from_pretrained` rebuild compressed layers from `config.json`.

`registration` imports this module while transformers is being imported, right after `quantizers.auto`, so it must not
import any part of transformers that is loaded later.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lpcompress.checkpoints import conversions, digests, integrity
from lpcompress.checkpoints.files import QUANT_METHOD
from lpcompress.checkpoints.precision import keep_integers, unify_dtypes
from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import FactoredMatrix, build, spec_of
from lpcompress.nn.registry import modules
from lpcompress.nn.resident import ResidentMatrix
from lpcompress.surgery import swapping
from lpcompress.surgery.folding import fold_permutations
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.offloading import in_memory, is_stored
from lpcompress.surgery.resizing import follow_resizing, restore_resizing
from lpcompress.surgery.tying import retie
from lpcompress.version import __version__

FORMAT_VERSION = 2  # the newest that this package reads; each checkpoint has the oldest that holds its layers
ALIGNMENT = 64  # bytes; torch aligns its own allocations to this


@register_quantization_config(QUANT_METHOD)
class LpCompressConfig(QuantizationConfigMixin):
    """The `quantization_config` of a compressed checkpoint.

    Parameters
    ----------
    layers : dict
        Layer name relative to the base model -> specification for `nn.build`, and provenance (method, p).
    format_version : int
        Version of the format; incremented when older packages cannot read what newer ones write. A checkpoint has the
        least version that its stored forms need.
    lpcompress_version : str
        Version of lpcompress that wrote the checkpoint.
    """

    def __init__(
        self,
        layers: dict[str, dict[str, Any]] | None = None,
        format_version: int = 1,
        lpcompress_version: str = __version__,
        **extra: Any,
    ) -> None:
        if type(format_version) is not int or not 1 <= format_version <= FORMAT_VERSION:
            raise CheckpointError(
                f"the checkpoint's format_version must be at most {FORMAT_VERSION} for lpcompress {__version__}. Got"
                f" {format_version!r}, written by lpcompress {lpcompress_version}: pip install --upgrade lpcompress."
            )
        if not isinstance(layers, dict | None):
            raise CheckpointError(f"'layers' of the quantization_config must be a mapping. Got {layers!r}.")
        taken = [key for key in extra if hasattr(type(self), key)]
        if taken:  # it would take the place of the method
            raise CheckpointError(f"the quantization_config must not have the key {taken[0]!r}. Remove it.")
        self.__dict__.update(extra)
        self.quant_method = QUANT_METHOD
        self.format_version = format_version
        self.lpcompress_version = lpcompress_version
        self.layers = layers or {}

    def adopt_parts(self, model: Any) -> None:
        """Take the layers from the configs of the model's parts, if it was put together from compressed models.

        The config of an `EncoderDecoderModel` holds those of its encoder and its decoder, each with its own layers.
        """
        if any(swapping.locate(model, self.layers).values()):
            return
        adopted: dict[str, dict[str, Any]] = {}
        for name, part in model.named_modules():
            settings = getattr(getattr(part, "config", None), "quantization_config", None)
            if name and isinstance(settings, dict) and settings.get("quant_method") == QUANT_METHOD:
                specs = LpCompressConfig.from_dict(settings).layers
                located = swapping.locate(part, specs).items()
                adopted |= {f"{name}.{layer.name}": specs[key] for key, layer in located if layer}
        self.layers = adopted or self.layers

    def refresh(self, model: nn.Module) -> None:
        """Update `layers` to the current sizes in `model`, and remove layers that are dense again."""
        present = {}
        for name, layer in swapping.locate(model, self.layers).items():
            if layer is None:  # belongs to a head that this model does not have
                present[name] = self.layers[name]
            elif layer.is_compressed:
                present[name] = {**self.layers[name], **spec_of(layer.module)}
        self.layers = present
        self.format_version = needed_version(present)


def needed_version(layers: dict[str, dict[str, Any]]) -> int:
    """Return the least version of the format that has the stored forms of `layers`."""
    known = modules()
    return max((known[spec["kind"]].format_version for spec in layers.values()), default=1)


@register_quantizer(QUANT_METHOD)
class LpCompressQuantizer(HfQuantizer):
    """Rebuilds compressed layers and checks the files before the weights are loaded, and checks layers afterwards."""

    quantization_config: LpCompressConfig

    def __init__(self, quantization_config: LpCompressConfig, **kwargs: Any) -> None:
        if not kwargs.get("pre_quantized", True):
            raise LpCompressError(
                "quantization_config=LpCompressConfig(...) cannot compress a dense checkpoint while it loads."
                " Load it without a quantization_config, then call lpcompress.compress(model, ratio=...)."
            )
        super().__init__(quantization_config, **kwargs)
        self.rebuilt: Any = None  # the model, while its weights are loaded
        self.check: integrity.Check | None = None  # of the files, while they load

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> Any:
        self.quantization_config.adopt_parts(model)
        layers = swapping.locate(model, self.quantization_config.layers)
        if layers and not any(layers.values()):
            raise CheckpointError(
                f"the checkpoint's compressed layers {', '.join(layers)} must be layers of the model."
                f" This {type(model).__name__} has none of them. Load the checkpoint with the class in its config.json."
            )
        plains: dict[str, nn.Module] = {}
        for name, layer in layers.items():
            if layer is None:
                continue
            plain = layer.module
            try:
                module = build(self.quantization_config.layers[name], plain)
            except LpCompressError as error:
                raise CheckpointError(f"config.json, quantization_config.layers[{name!r}]: {error}") from None
            layer.replace(module)
            plains[name] = plain
        retie(model)
        keep_integers(model)
        self.rebuilt = model
        self._check_files(checkpoint_files or [], plains)
        return model

    def _check_files(self, files: list[str], plains: Mapping[str, nn.Module]) -> None:
        """Start to compare files and layer map with their digests; `plains` are the layers that were replaced."""
        if not integrity.wanted():
            return
        check = integrity.Check(files, self.quantization_config.layers)
        if check.possible:
            self.check = check
            return
        for name, plain in plains.items():  # without digests, a wrong padding row would go unnoticed
            require_padding(name, self.quantization_config.layers[name], plain)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        if self.check:
            self.check.finish()
            self.check = None
        layers = {name: each for name, each in model.named_modules() if isinstance(each, ResidentMatrix)}
        for layer in layers.values():
            unify_dtypes(layer)
        make_ready(layers)
        self.rebuilt = None
        prepare_methods(model)
        model.is_quantized = False  # the layers are plain torch modules, for which .half() and the like work
        return model

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        swapping.densify(model)
        restore_resizing(model)
        if str(dtype).removeprefix("torch.") not in (str(model.config.dtype).removeprefix("torch."), "None"):
            model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)  # only if the dtype was requested
        return model

    def get_state_dict_and_metadata(self, model: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Update the sizes in the config; return the state and the digests to save; called by `save_pretrained`."""
        model.config.quantization_config.refresh(model)
        state = conversions.state_to_store(model)
        layers = model.config.quantization_config.layers
        return state, digests.metadata(model, model.state_dict() if state is None else state, layers)

    def get_weight_conversions(self) -> list[Any]:
        """Return the renaming that loads codes from the names under which they are stored."""
        return [*super().get_weight_conversions(), conversions.renaming(self.rebuilt)]

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Whether `save_pretrained` works: always."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained: always, because codes and bases are ordinary parameters."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Whether Trainer accepts the model without adapters: always."""
        return True

    @property
    def is_compileable(self) -> bool:
        """Whether `torch.compile` works: always."""
        return True


def require_padding(name: str, spec: Mapping[str, Any], plain: nn.Module) -> None:
    """Raise CheckpointError if a layer's spec stores the padding row of another token than the plain layer has."""
    expected = getattr(plain, "padding_idx", None)
    if spec.get("padding_idx") != expected:
        raise CheckpointError(
            f"config.json, quantization_config.layers[{name!r}]: 'padding_idx' must be that of the model's layer,"
            f" {expected}. Got {spec.get('padding_idx')!r}. Restore the config (was its pad_token_id edited?), or"
            " compress the model again."
        )


def make_ready(layers: Mapping[str, ResidentMatrix]) -> None:
    """Check the loaded layers, decode them, and make what they keep in memory in their resident form.

    Threads decode some layers ahead while those before them are multiplied out, in order, so that the numbers do not
    depend on the threads. Layers kept on disk wait for each other: each is read into memory for its check.

    Raises
    ------
    CheckpointError
        If a tensor of a layer is missing or damaged.
    """
    for module in layers.values():
        align(module)
    on_disk = any(module.is_on_disk for module in layers.values())
    with ThreadPoolExecutor(1 if on_disk else torch.get_num_threads()) as pool:
        for module, _ in zip(layers.values(), pool.map(require_loaded, layers, layers.values()), strict=True):
            module.settle()


@torch.no_grad()  # of the threads' own: they do not inherit inference mode, whose tensors allow nothing else
def require_loaded(name: str, module: Any) -> None:
    """Raise CheckpointError unless the checkpoint held every tensor of a compressed layer, undamaged.

    transformers only warns about missing tensors and leaves random values in them.
    """
    tensors = module.state_dict(keep_vars=True)
    if hasattr(module, "_hf_hook"):  # accelerate has replaced the tensors, so that they have lost the mark below
        missing = [leaf for leaf, tensor in tensors.items() if tensor.is_meta and not is_stored(module, leaf)]
    else:
        missing = [leaf for leaf, tensor in tensors.items() if not getattr(tensor, "_is_hf_initialized", False)]
    if missing:
        names = ", ".join(module.stored_name(name, leaf) for leaf in missing)
        raise CheckpointError(
            f"the checkpoint must hold {names}, which it lacks (or has in another shape). It is incomplete: copy it"
            " again, or compress the model again."
        )
    with in_memory(module):
        module.check(name)


def align(module: nn.Module) -> None:
    """Copy tensors whose memory is not aligned, as in a memory-mapped file, to aligned memory.

    Some matrix products round differently depending on the alignment of their operands. With aligned tensors, a loaded
    model gives the same outputs to the bit as the model that was saved.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()


def prepare_methods(model: Any) -> None:
    """Make transformers' own methods, which save and resize `model`, fit its compressed layers."""
    conversions.keep_layout(model)
    conversions.name_as_stored_in_composites(model)
    follow_resizing(model)


def replace_layers(model: Any, replacements: Mapping[Layer, tuple[FactoredMatrix, dict[str, Any]]]) -> None:
    """Replace layers of `model` in place, so that `model.save_pretrained` writes a compressed checkpoint.

    Parameters
    ----------
    model : PreTrainedModel
    replacements : mapping of Layer to (FactoredMatrix, dict)
        Layer of `model` -> its module from `nn.from_factorization`, and its provenance (method, p), which is written to
        `config.json`.

    Raises
    ------
    LpCompressError
        If the model is quantized by another method. The model is unchanged then.
    """
    config = getattr(model.config, "quantization_config", None) or LpCompressConfig()
    if not isinstance(config, LpCompressConfig):
        raise LpCompressError(
            f"the model must not be quantized by another method. Got a {type(config).__name__}. Start from the dense"
            " model."
        )
    for layer, (module, _) in replacements.items():
        layer.replace(module)
    fold_permutations(model)
    for layer, (module, provenance) in replacements.items():
        config.layers[swapping.relative_name(model, layer.name)] = {**provenance, **spec_of(module)}
    config.format_version = needed_version(config.layers)
    retie(model)
    prepare_methods(model)
    model.tie_weights()
    model.config.quantization_config = config
    model.hf_quantizer = LpCompressQuantizer(config, pre_quantized=True)
