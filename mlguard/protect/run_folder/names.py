"""The names of the files in a run folder, which never holds a key.

recipe.toml         the resolved recipe
protection.json     protection_id and key id; absent in a plain run
proofs.json         proof that the files were made with the key; absent in a plain run
provenance.json     data fingerprint, versions, machine
metrics.jsonl       one line for each epoch
model.safetensors   the weights the recipe's `keep` chose
curves.png          the metrics as a picture
training.secret     the secret that a plain run draws from
checkpoint.kept     the state of an unfinished training
best.kept           the best weights of an unfinished training
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
BUILT_BY = "built_by"  # in provenance.json: the name of the owner's `build`
MAX_JSON_BYTES = 1 << 20  # a page of text; the reader refuses anything larger
