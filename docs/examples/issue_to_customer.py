"""Issue a file to one customer, and open it as he does.

    python docs/examples/issue_to_customer.py

The owner has a bundle, a model key and a signing key; the customer an identity.
"""

from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from keystore import Identity, Recipient
from mlguard.bundle import glimpse_bundle
from mlguard.errors import WrongKey
from mlguard.grants import Terms
from mlguard.issuing import Conditions, issue
from mlguard.keys import ModelKey
from mlguard.protect import Answer, Pixels, bind
from mlguard.runtime import Session
from mlguard.signing import SigningKey

# The owner's, made once.
key, owner = ModelKey.generate(), SigningKey.generate()
bind(
    nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 1)),
    key,
    Path("acme.mlgb"),
    example=torch.rand(1, 3, 32, 32),
    pixels=Pixels(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    answer=Answer("segmentation", ("background", "cell", "border")),
)

# The customer makes an identity and sends its public line.
identity = Identity.generate()
line = identity.recipient

issued = issue(
    glimpse_bundle(Path("acme.mlgb")),
    key,
    owner,
    Recipient.parse(line),
    Terms("Hospital A", not_after=date(2099, 12, 31), text="Not for resale."),
    Path("hospital.mlgb"),
)
print(f"{issued.path} for {issued.grant.licensee}, until {issued.grant.not_after}")

# He opens it: only with his identity, and only if the owner whom he trusts signed it.
trusted = Conditions(signers=[owner.public])
session = Session.open(issued.path, identity, conditions=trusted)
mask = session.predict(np.zeros((1, 3, 32, 32), np.uint8))
print(f"a mask of {mask.shape[1]} x {mask.shape[2]} pixels")

try:
    Session.open(issued.path, Identity.generate(), conditions=trusted)
except WrongKey as refusal:
    print(f"somebody else: {refusal}")
