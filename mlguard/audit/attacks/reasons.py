"""Reasons why attacks cannot run on a model, shared by several of them."""

from mlguard import recipe

NO_IMAGE_METHOD = (
    "the key does not act on images, and this attack needs a transform of images"
)
NOTHING_KEYED = "the key does nothing in the opened model"
FFX_IN_NO_WEIGHT = "ffx is a table, which is not in the weights"
FFX_IN_A_CHAIN = "chains of ffx with another method are not supported"
NORMS_KEYED = "the key gives scale and bias of batch norms, and moves no channel"


def nothing_moved(spec: recipe.Transform) -> str:
    """Return why no place of a model shows an order; empty if one may."""
    if spec.image_methods or spec.layers:
        return ""
    return NORMS_KEYED if spec.keys_norms else NOTHING_KEYED


def ffx_in_a_chain(spec: recipe.Transform) -> str:
    """Return why a chain with `ffx` is not attacked; empty for `ffx` alone."""
    methods = spec.image_methods
    return FFX_IN_A_CHAIN if "ffx" in methods and len(methods) > 1 else ""
