"""Names and layouts of tensors in a checkpoint, where they differ from those in the model.

transformers renames tensors between file and model, and for some architectures joins or splits them: NomicBert's file
has the three projections of attention as one tensor. Codes of compressed layers must be renamed, but never joined.
"""

from typing import Any

from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming

from lpcompress.nn import FactoredMatrix
from lpcompress.surgery.offloading import stored_tensor


def stored_names(model: nn.Module) -> dict[str, str]:
    """Return the name in the model of the codes of each compressed layer -> their name in a checkpoint.

    Codes are stored under the name of the weight that they replace, so that loading without this package fails on a
    size mismatch.
    """
    return {
        f"{name}.{module.weight_name}": module.stored_name(name, module.weight_name)
        for name, module in model.named_modules()
        if isinstance(module, FactoredMatrix)
    }


def names_in_model(model: nn.Module) -> dict[str, str]:
    """Return the name in a checkpoint of the codes of each compressed layer -> their name in the model."""
    return {stored: key for key, stored in stored_names(model).items()}


def state_to_store(model: nn.Module) -> dict[str, Tensor] | None:
    """Return the state of `model` by names in a checkpoint; None if it has no compressed layer.

    Codes that are kept on disk are memory-mapped, because transformers could not find them under these names.
    """
    names = stored_names(model)
    if not names:
        return None
    state = model.state_dict()
    return {names.get(key, key): codes_of(model, key) if key in names else tensor for key, tensor in state.items()}


def codes_of(model: nn.Module, key: str) -> Tensor:
    """Return the codes of a compressed layer by their name in the model, memory-mapped if they are kept on disk."""
    layer, _, leaf = key.rpartition(".")
    return stored_tensor(model.get_submodule(layer), leaf)


def name_as_stored_in_composites(model: nn.Module) -> None:
    """Make the state of a model that contains `model` have the names of a checkpoint.

    Such a model, an `EncoderDecoderModel` for example, is saved without this package's help. With these names, loading
    fails on a size mismatch where the layers are not rebuilt.
    """
    if _names_in_composite not in model._state_dict_hooks.values():
        model.register_state_dict_post_hook(_names_in_composite)


def _names_in_composite(model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    if prefix:
        for key, stored in stored_names(model).items():
            state[prefix + stored] = state.pop(prefix + key)


class CodesRenaming(WeightRenaming):
    """Renames the codes of compressed layers from their names in a checkpoint to those in the model.

    transformers has a rename for each pattern; this one looks all names up at once.
    """

    __slots__ = ("names", "prefix")

    def __init__(self, names: dict[str, str], prefix: str) -> None:
        super().__init__("^$", "^$")  # never matches
        self.names, self.prefix = names, prefix

    def rename_source_key(self, source_key: str) -> tuple[str, str | None]:
        """Return the new name of a tensor, and None: no pattern is involved."""
        for key in (source_key, f"{self.prefix}.{source_key}", source_key.removeprefix(f"{self.prefix}.")):
            if key in self.names:
                return self.names[key], None
        return source_key, None

    def reverse_transform(self) -> WeightRenaming:
        """Return a renaming that does nothing: `state_to_store` already has the names of a checkpoint."""
        return CodesRenaming({}, self.prefix)


def renaming(model: Any) -> CodesRenaming:
    """Return the renaming with which transformers loads the tensors of the compressed layers of `model`."""
    return CodesRenaming(names_in_model(model) | misnamed(model), model.base_model_prefix)


def misnamed(model: Any) -> dict[str, str]:
    """Return the names that transformers gives to tensors of compressed layers in vain -> their names in the model.

    Its renamings know the tensors of plain layers. Inkling's file calls `weight_proj.weight` just `weight_proj`, so
    that `weight_proj.basis` would be loaded as `weight_proj.weight.basis`.
    """
    saving = [each.reverse_transform() for each in reversed(default_conversions(model))]
    if not saving:
        return {}  # tensors are stored under the names that they have in the model
    loading = get_model_conversion_mapping(model)
    stored = stored_names(model)
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, FactoredMatrix):
            continue
        for key in (f"{name}.{leaf}" for leaf in module.state_dict()):
            meant = stored.get(key, key)
            loaded = renamed(renamed(meant, saving), loading)
            if loaded != meant:
                found[loaded] = key
    return found


def renamed(name: str, conversions: list[Any]) -> str:
    """Return the name that `conversions` give to a tensor, those that join or split tensors left out."""
    for each in conversions:
        if isinstance(each, WeightRenaming):
            name, _ = each.rename_source_key(name)
    return name


def keep_layout(model: Any) -> None:
    """Keep transformers from joining or splitting the tensors of compressed layers when it saves `model`."""
    conversions = conversions_of(model)
    names = stored_names(model).values()
    kept = [each for each in conversions if not (isinstance(each, WeightConverter) and _touches(each, names))]
    if len(kept) < len(conversions):
        model._weight_conversions = kept


def _touches(converter: WeightConverter, names: Any) -> bool:
    """Return whether a converter would change tensors of these names when they are saved."""
    back = converter.reverse_transform()
    return any(back.rename_source_key(name)[1] is not None for name in names)


def conversions_of(model: Any) -> list[Any]:
    """Return the conversions with which transformers saves `model`."""
    found = getattr(model, "_weight_conversions", None)
    return default_conversions(model) if found is None else found


def default_conversions(model: Any) -> list[Any]:
    """Return the conversions with which transformers saves a model that was not loaded from a checkpoint."""
    found = get_model_conversion_mapping(model, add_legacy=False)
    return [each for each in found if type(each).__name__ != "PrefixChange"]  # as transformers does; absent in 5.0


def converts(model: Any) -> bool:
    """Return whether transformers joins or splits tensors of `model` when it saves it."""
    return any(isinstance(each, WeightConverter) for each in getattr(model, "_weight_conversions", None) or ())
