"""What somebody who did not write the code broke, once more, and refused now."""

import json
import os
import socketserver
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from keystore import IdentityError
from keystore.textform import looks_secret
from mlguard.bundle.graph_limits import check_graph
from mlguard.bundle.manifest2 import parse_manifest2
from mlguard.cli import trust
from mlguard.cli.parties import Customer
from mlguard.errors import (
    KeySourceError,
    MalformedBundle,
    OptionError,
    SignatureNotTrusted,
)
from mlguard.grants import Revocations
from mlguard.serving import Served, key_sources, open_key, write_repository
from mlguard.signing import SigningKey, sign_files, verify_files
from tests.bundles2 import shuffled, small2_bytes

OWNER = SigningKey(bytes(range(1, 33)))


def sparse_graph(*, outside: bool) -> bytes:
    """A graph whose sparse initializer has its values in a file, or in itself."""
    values = numpy_helper.from_array(np.ones(2, np.float32), "s")
    if outside:
        set_external_data(values, location="secret.bin")
        values.ClearField("raw_data")
    indices = numpy_helper.from_array(np.arange(2, dtype=np.int64), "i")
    sparse = helper.make_sparse_tensor(values, indices, [4])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    node = helper.make_node("Add", ["x", "s"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], sparse_initializer=[sparse])
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def test_a_sparse_tensor_reads_no_file_beside_the_bundle() -> None:
    check_graph(sparse_graph(outside=False), name="it", foreign=True)
    with pytest.raises(MalformedBundle, match="sparse tensor points outside"):
        check_graph(sparse_graph(outside=True), name="it", foreign=True)


def test_a_crowded_text_costs_nothing() -> None:
    crowded = b'{"inputs":[' + b"{}," * 1_000_000 + b"{}]}"
    with pytest.raises(MalformedBundle, match="holds more than"):
        parse_manifest2(crowded, name="it")
    with pytest.raises(SignatureNotTrusted, match="holds more than"):
        Revocations.from_bytes(crowded, name="it")


@pytest.mark.parametrize("source", ["MLGUARD-KEY-1-ABCD", "mlguard identity 1 abcd"])
def test_a_key_given_for_its_place_is_not_shown(source: str) -> None:
    with pytest.raises(KeySourceError) as refusal:
        open_key(source)
    assert "ABCD" not in str(refusal.value).upper()
    assert looks_secret(f"file:{source}")


@pytest.mark.parametrize("given", ["MLGUARD-IDENTITY-1-ABCD", "mlguard identity2abcd"])
def test_an_identity_given_for_its_recipient_is_not_shown(given: str) -> None:
    with pytest.raises(IdentityError, match="neither a recipient") as refusal:
        Customer.read(given)
    assert "ABCD" not in str(refusal.value).upper()


def test_a_folder_of_signers_that_cannot_be_read_trusts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "folder", lambda: tmp_path / "signers")
    assert trust.trusted_signers(None) == []
    os.symlink(tmp_path / "nowhere", tmp_path / "signers")
    with pytest.raises(SignatureNotTrusted):
        trust.trusted_signers(None)
    (tmp_path / "signers").unlink()
    (tmp_path / "signers").write_text("a file")
    with pytest.raises(
        SignatureNotTrusted, match=r"cannot read .*signers: Not a directory"
    ):
        trust.trusted_signers(None)
    (tmp_path / "signers").unlink()
    (tmp_path / "signers").mkdir()
    (tmp_path / "signers" / "OWNER.PUB").write_bytes(b"no key")
    with pytest.raises(SignatureNotTrusted, match="not a P-256 public key"):
        trust.trusted_signers(None)


def test_a_service_that_drips_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drips(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for _ in range(20):
                self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.1)

    monkeypatch.setattr(key_sources, "TIMEOUT_S", 0.5)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/key"
        with pytest.raises(KeySourceError, match="did not answer within"):
            open_key(address)
        server.shutdown()


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.update(more="text"),
        lambda value: value["dsseEnvelope"].update(more="text"),
        lambda value: value["dsseEnvelope"]["signatures"][0].update(keyid="text"),
        lambda value: value["verificationMaterial"]["publicKey"].update(hint="0" * 64),
    ],
)
def test_nothing_is_smuggled_beside_a_signature(edit) -> None:
    files = {"manifest.json": "ab" * 32}
    signed = sign_files(files, OWNER, model="acme", signature="model.sig")
    verify_files(signed, files, [OWNER.public], name="it")
    value = json.loads(signed)
    edit(value)
    with pytest.raises(SignatureNotTrusted):
        verify_files(json.dumps(value).encode(), files, [OWNER.public], name="it")


def test_two_versions_share_one_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.mlgb").write_bytes(small2_bytes(image=shuffled()))
    write_repository(tmp_path / "a.mlgb", tmp_path / "m", Served("a", "file:/one"))
    second = Served("a", "file:/two", version=2)
    with pytest.raises(OptionError, match="does not match this version"):
        write_repository(tmp_path / "a.mlgb", tmp_path / "m", second)
