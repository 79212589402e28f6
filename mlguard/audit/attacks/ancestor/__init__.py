"""Attacks with the public weights that stolen ones were fine-tuned from.

maps.py         the map of a layer's columns, estimated from two matrices
sites.py        the two matrices of every keyed place, and undoing a map there
matching.py     attacks that undo an estimated map, whatever the method was
activations.py  an attack that learns the map from feature maps, without labels
repairs.py      attacks that put the ancestor's weights in place of improbable ones
"""
