"""Protect a model of your own: any nn.Module becomes one sealed file.

    python docs/examples/own_model.py

Writes acme.mlgb into the folder you are in, opens it again with the key, and compares.
"""

from pathlib import Path

import torch
from torch import nn

from mlguard.errors import WrongKey
from mlguard.keys import ModelKey
from mlguard.protect import Answer, Pixels, bind
from mlguard.runtime import Session

key = ModelKey.generate()  # keep yours in a keystore: docs/keystore/
module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1))
pixels = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
done = bind(
    module.eval(),
    key,
    Path("acme.mlgb"),
    example=torch.rand(1, 3, 64, 96),
    pixels=pixels,
    answer=Answer("segmentation", ("background", "road", "tree", "sky")),
)
print(f"{done.path}: {done.share:.0%} of the weights under the key")

images = torch.randint(0, 256, (1, 3, 33, 47), dtype=torch.uint8)
mask = Session.open(done.path, key).predict(images.numpy())

mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (pixels.mean, pixels.std))
with torch.no_grad():
    plain = module((images / 255 - mean) / std).argmax(1)
print(f"{(torch.from_numpy(mask) == plain).double().mean():.2%} of the pixels agree")

try:
    Session.open(done.path, ModelKey.generate())
except WrongKey as refusal:
    print(f"another key: {refusal}")
