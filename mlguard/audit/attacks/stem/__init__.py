"""The stem: the layer that reads whole blocks, where a key can be folded in."""
