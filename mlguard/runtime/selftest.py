"""Compare the transform that a provider computes with what the key's owner wrote down.

docs/spec/bundle-v1.md, section 3.
"""

import hmac
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import ImageFacts, selftest_image
from mlguard.engine import onnxruntime
from mlguard.errors import MalformedBundle, ProviderError
from mlguard.runtime.providers import CPU, run_graph

Digest = Callable[[NDArray[np.int32]], str]


def check_selftest(
    graph: onnxruntime.InferenceSession,
    values: str,
    image: ImageFacts,
    digest: Digest,
    expected: str,
    *,
    name: str,
) -> None:
    """Refuse a provider that computes another transform than the key's.

    Args:
        graph: Loaded, its key slots filled.
        values: Its output with the transformed integers.
        image: Of the bundle.
        digest: What the transformed test image is compared by.
        expected: What that must be.
        name: What to call the bundle in a refusal.

    Raises:
        MalformedBundle: The CPU computes another one, so the file is not as it was.
        ProviderError: Another provider does.
    """
    block = 1 if image.transform is None else image.transform.block_size
    found: NDArray[Any] = run_graph(graph, values, selftest_image(block))
    if hmac.compare_digest(digest(found.astype(np.int32)), expected):
        return
    provider = graph.get_providers()[0]
    message = f"{name}: the self-test of preprocess.onnx failed on {provider}"
    if provider == CPU:
        raise MalformedBundle(message)
    raise ProviderError(message, hint="try `--provider cpu`")
