"""The section [transform] of a recipe: the methods of the key."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlguard.recipe.fields import Layer, Section
from mlguard.rules import (
    CHANNELS_METHOD,
    PASSPORT_METHOD,
    SPLIT_METHOD,
    WEIGHTS_METHOD,
    ImageMethod,
    block_sizes_of,
    check_methods,
)

MAX_LAYERS = 256

Method = Literal[ImageMethod, "channels", "passport", "weights", "split"]


class Transform(Section):
    """The key's transforms of images, and of feature maps inside the model."""

    method: Method | tuple[Method, ...]  # one name, or a list applied in its order
    block_size: int = 1  # M, pixels; of the methods that work on images
    layers: Annotated[tuple[Layer, ...], Field(max_length=MAX_LAYERS)] = ()
    signs: bool = False  # whether `channels` flips signs too

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods in the order they are applied."""
        return (self.method,) if isinstance(self.method, str) else self.method

    @property
    def image_methods(self) -> tuple[ImageMethod, ...]:
        """The methods that work on images, in the order they are applied."""
        return tuple(
            method
            for method in self.methods
            if method != CHANNELS_METHOD
            and method != PASSPORT_METHOD
            and method != WEIGHTS_METHOD
            and method != SPLIT_METHOD
        )

    @property
    def seals(self) -> bool:
        """Whether every private weight is sealed under the key, in every file."""
        return WEIGHTS_METHOD in self.methods or self.splits

    @property
    def splits(self) -> bool:
        """Whether the model is in two halves, a public one and a private one."""
        return SPLIT_METHOD in self.methods

    @property
    def keys_norms(self) -> bool:
        """Whether the key gives the batch norms their scale and bias."""
        return PASSPORT_METHOD in self.methods

    @property
    def image_block_size(self) -> int:
        """M, in pixels; 1 if no method works on images."""
        return self.block_size if self.image_methods else 1

    @model_validator(mode="after")
    def _composable(self) -> Self:
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError("method: expected one or more different methods")
        if self.splits and len(self.methods) > 1:
            raise ValueError(
                "method: split leaves nothing of the owner's where other methods act, "
                "and seals the rest, so it stands alone"
            )
        if self.keys_norms and len(self.methods) > 1:
            raise ValueError(
                "method: passport is a baseline to compare with, so it stands alone"
            )
        if WEIGHTS_METHOD in self.methods[:-1]:
            raise ValueError(
                "method: weights seals the result of the other methods, so it must "
                "come last"
            )
        if self.image_methods:
            try:
                check_methods(self.image_methods)
            except ValueError as error:
                raise ValueError(f"method: {error}") from None
        sizes = block_sizes_of(self.image_methods)
        if self.block_size not in sizes:
            raise ValueError(
                f"block_size: expected one of {', '.join(map(str, sizes))}"
            )
        if self.image_methods and "block_size" not in self.model_fields_set:
            raise ValueError("block_size: Field required")
        return self

    @model_validator(mode="after")
    def _layers_of_channels(self) -> Self:
        if len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: one of them is named twice")
        if CHANNELS_METHOD in self.methods and not self.layers:
            raise ValueError(
                "layers: the method channels permutes the layers named here, but none "
                "is named; `mlguard layers RECIPE` lists them"
            )
        if CHANNELS_METHOD not in self.methods and (self.layers or self.signs):
            raise ValueError("layers and signs need the method channels")
        return self
