"""Rewrite a model into the form that its recipe names, so that a key can be folded in.

The form depends on the architecture and the recipe alone, so that weights of a bound
model load into a model built from its recipe. The module knows no key.
"""

from torch import nn

from mlguard import recipe
from mlguard.models.binding.batch_norm import fold_batch_norms
from mlguard.models.binding.stem import prepare_stem


def rewrite(model: nn.Module, spec: recipe.Model, block_size: int) -> nn.Module:
    """Rewrite a model in place, without changing what it computes.

    Args:
        model: The model as its architecture builds it.
        spec: The recipe's [model] section.
        block_size: M of the recipe's [transform] section, in pixels.

    Returns:
        The model.

    Raises:
        BindingError: The model cannot take this form.
    """
    if spec.batch_norm == "folded":
        fold_batch_norms(model)
    if spec.stem == "blocks":
        prepare_stem(model, block_size)
    return model
