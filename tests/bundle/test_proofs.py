"""What the key proves: a wrong key is named, and no edit goes unseen by its holder."""

import hashlib
import hmac
import json

import numpy as np
import pytest

from mlguard.bundle import TransformFacts, check_key, selftest_image
from mlguard.bundle.manifest import Manifest
from mlguard.errors import TamperedBundle, WrongKey
from tests.bundles import KEY, OTHER_KEY, PROTECTION_ID, small_bundle

MANIFEST = small_bundle().manifest


def changed(**fields: object) -> Manifest:
    return MANIFEST.model_copy(update=fields)


def test_the_right_key_gives_its_subkeys() -> None:
    subkeys = check_key(MANIFEST, KEY, name="small")
    assert (subkeys.key_id, subkeys.protection_id) == (KEY.key_id, PROTECTION_ID)


def test_a_wrong_key_is_refused_naming_both_ids() -> None:
    words = f"made for key {KEY.key_id}, got key {OTHER_KEY.key_id}"
    with pytest.raises(WrongKey, match=words):
        check_key(MANIFEST, OTHER_KEY, name="small")


def test_a_key_with_the_same_id_but_another_secret_is_refused() -> None:
    forged = changed(key_id=OTHER_KEY.key_id)
    with pytest.raises(TamperedBundle, match="key commitment does not match"):
        check_key(forged, OTHER_KEY, name="small")


def test_another_model_under_the_same_key_is_refused() -> None:
    model = MANIFEST.files["model.onnx"].model_copy(update={"sha256": "00" * 32})
    files = MANIFEST.files | {"model.onnx": model}
    with pytest.raises(TamperedBundle, match="key commitment does not match"):
        check_key(changed(files=files), KEY, name="small")


@pytest.mark.parametrize(
    "edit",
    [
        {"licence": "free for all"},
        {"class_names": ("a", "b", "c", "d")},
        {"transform": TransformFacts(methods=("np",), block_size=4)},
        {"selftest": "00" * 32},
        {"mac": "00" * 32},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edited_manifest_is_refused(edit: dict[str, object]) -> None:
    with pytest.raises(TamperedBundle, match=r"manifest\.json was changed"):
        check_key(changed(**edit), KEY, name="small")


def test_the_proofs_follow_the_specification() -> None:
    """Written out from docs/spec/bundle-v1.md, section 3, with hashlib alone."""

    def proof(use: str, message: bytes) -> str:
        extracted = hmac.digest(PROTECTION_ID, bytes(range(32)), "sha256")
        info = b"mlguard/v1/" + use.encode()
        subkey = hmac.digest(extracted, info + b"\x01", "sha256")
        return hmac.new(subkey, message, "sha256").hexdigest()

    bundle = small_bundle()
    fields = json.loads(MANIFEST.to_bytes())
    options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    unsigned = json.dumps({k: fields[k] for k in fields if k != "mac"}, **options)
    digest = hashlib.sha256(bundle.model).digest()
    assert fields["key_commitment"] == proof("bundle/commitment", digest)
    assert fields["mac"] == proof("bundle/manifest", unsigned.encode())


def test_the_selftest_image_follows_the_specification() -> None:
    noise = hashlib.shake_256(b"mlguard/v1/selftest-image").digest(18 * 4**2)
    image = selftest_image(4)
    assert image.shape == (1, 3, 8, 12)
    assert image.tobytes() == noise


def test_no_digest_of_the_transformed_image_is_in_the_file() -> None:
    """A plain digest would let anyone try all masks; see the specification."""
    from mlguard.transforms import derive_transform

    transform = derive_transform(("shf",), KEY.for_model(PROTECTION_ID), 4)
    values = transform.values(selftest_image(4))
    content = small_bundle().to_bytes()
    for message in (values.astype("<i4"), values.astype(np.uint8)):
        for kind in ("sha256", "sha512", "sha1", "md5", "blake2b"):
            assert (
                hashlib.new(kind, message.tobytes()).hexdigest().encode() not in content
            )


def test_a_bundle_holds_nothing_of_its_key() -> None:
    from mlguard.transforms import derive_transform

    for methods in (("shf",), ("np",), ("ffx",), ("np", "shf", "ffx")):
        facts = TransformFacts(methods=methods, block_size=4)
        content = small_bundle(transform=facts).to_bytes()
        subkeys = KEY.for_model(PROTECTION_ID)
        secrets = [KEY.reveal()]
        uses = ("bundle/commitment", "bundle/manifest", "bundle/selftest")
        secrets += [subkeys.derive(use) for use in uses]
        for tensor in derive_transform(methods, subkeys, 4).slots().values():
            kinds = ("<i8", "<i4", "<i2", "u1", "<f4", "<f8")
            secrets += [tensor.astype(kind).tobytes() for kind in kinds]
            secrets.append(np.packbits(tensor.astype(bool)).tobytes())
        for secret in secrets:
            assert secret not in content
            assert secret.hex().encode() not in content
