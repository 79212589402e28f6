"""Compare a provider's transform with the digest that the key's owner recorded.

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
    """Refuse a provider that computes the key's transform wrongly.

    Args:
        graph: The loaded graph, with its key slots filled.
        values: Its output with the transformed integers.
        image: The image section of the bundle's manifest.
        digest: The function that digests the transformed test image.
        expected: The digest that it must return.
        name: The name of the bundle in a refusal.

    Raises:
        MalformedBundle: The CPU computes another one, so the file was changed.
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
