"""Bind a trained model to a key without training."""

from mlguard.protect.binding.bind import Bound, bind_model, rebind_run
from mlguard.protect.binding.fold import bound_recipe, fold

__all__ = ["Bound", "bind_model", "bound_recipe", "fold", "rebind_run"]
