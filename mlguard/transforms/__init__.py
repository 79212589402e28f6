"""Step 2: keyed transforms of images, in numpy: the reference implementation.

A transform is a pure value: the same key, protection id and block size always give the
same one, on every machine and in every release. Training (torch) and the bundle (ONNX)
have back-ends of their own that are compared with this one bit for bit. This room knows
no model and no file. The specification is docs/spec/transforms-v1.md.
"""

from mlguard.rules import BLOCK_SIZES, block_sizes_of
from mlguard.transforms.base import Inverse, Transform
from mlguard.transforms.blocks import pad_to_blocks
from mlguard.transforms.channels import ChannelPermutation, channels_key_space
from mlguard.transforms.compose import Compose
from mlguard.transforms.format_preserving import FormatPreserving
from mlguard.transforms.key_space import MIN_KEY_SPACE_BITS, SECRET_BITS, said_bits
from mlguard.transforms.keyed import KeyedLayer, KeyedTransforms, derive_channels
from mlguard.transforms.methods import (
    METHODS,
    derive_transform,
    key_space_bits,
)
from mlguard.transforms.negative_positive import NegativePositive
from mlguard.transforms.orthogonal import Orthogonal
from mlguard.transforms.passports import KeyedNorm, Passport
from mlguard.transforms.pixel_shuffle import PixelShuffle
from mlguard.transforms.transform_set import TransformSet

__all__ = [
    "BLOCK_SIZES",
    "METHODS",
    "MIN_KEY_SPACE_BITS",
    "SECRET_BITS",
    "ChannelPermutation",
    "Compose",
    "FormatPreserving",
    "Inverse",
    "KeyedLayer",
    "KeyedNorm",
    "KeyedTransforms",
    "NegativePositive",
    "Orthogonal",
    "Passport",
    "PixelShuffle",
    "Transform",
    "TransformSet",
    "block_sizes_of",
    "channels_key_space",
    "derive_channels",
    "derive_transform",
    "key_space_bits",
    "pad_to_blocks",
    "said_bits",
]
