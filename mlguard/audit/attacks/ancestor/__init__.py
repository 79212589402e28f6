"""Attacks by who has the public weights that stolen ones were fine-tuned from.

maps.py       what was done to the columns of a layer, estimated from two matrices
sites.py      the two matrices of every place where the key acts, and undoing a map
matching.py   attacks that undo an estimated map, whatever the method was
repairs.py    attacks that put the ancestor's weights in place of improbable ones
"""
