"""Attacks by who has the public weights that stolen ones were fine-tuned from.

maps.py         what was done to the columns of a layer, estimated from two matrices
sites.py        the two matrices of every keyed place, and undoing a map there
matching.py     attacks that undo an estimated map, whatever the method was
activations.py  an attack that learns the map from feature maps, without labels
repairs.py      attacks that put the ancestor's weights in place of improbable ones
"""
