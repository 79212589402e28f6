"""What the files of a run folder are called. It never holds a key.

recipe.toml         the resolved recipe
protection.json     protection_id and key id; absent in a plain run
proofs.json         that the holder of the key made what is here; absent in a plain run
provenance.json     data fingerprint, versions, machine
metrics.jsonl       one line for each epoch
model.safetensors   the weights the recipe's `keep` chose
curves.png          the metrics as a picture
training.secret     what a plain run draws from
checkpoint.kept     while training is unfinished: where it stands
best.kept           the same: the best weights so far
baseline/           the plain twin, a run folder of its own
"""

RECIPE = "recipe.toml"
PROTECTION = "protection.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.kept"
BEST = "best.kept"
OLD_CHECKPOINT = "checkpoint.safetensors"  # of version 0.1
PROOFS = "proofs.json"
CURVES = "curves.png"
BASELINE = "baseline"
BOUND = "bound"  # in provenance.json: what binding did
BUILT_BY = "built_by"  # in provenance.json: what its owner's `build` is called
MAX_JSON_BYTES = 1 << 20  # a page of text; the reader takes nothing larger
