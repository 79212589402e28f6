"""Why attacks cannot run on a model: the sentences that several of them give."""

from mlguard import recipe

NO_IMAGE_METHOD = "the key leaves images alone, and this attacks what it does to them"
NOTHING_KEYED = "the key does nothing in the opened model"
FFX_IN_NO_WEIGHT = "what ffx does is a table and is in no weight"
FFX_IN_A_CHAIN = "chains of ffx with another method are not taken apart"


def ffx_in_a_chain(spec: recipe.Transform) -> str:
    """Why a chain with `ffx` in it is not attacked; empty for `ffx` alone."""
    methods = spec.image_methods
    return FFX_IN_A_CHAIN if "ffx" in methods and len(methods) > 1 else ""
