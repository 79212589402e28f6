"""A SoftHSM2 token of the test's own, in a folder of its own."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from keystore import Token, TokenUri

PIN = "canary-pin-4711"
LABEL = "mlguard-test"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class SoftToken:
    """A token that is ready for use, with no key on it yet."""

    module: str
    folder: Path

    def uri(self, key: str = "team") -> str:
        return f"pkcs11:token={LABEL};object={key}?module-path={self.module}"

    def key(self, name: str = "team", **options: str) -> Token:
        return Token(TokenUri.parse(self.uri(name)), PIN, **options)

    def holding(self, key_id: bytes, key: bytes) -> Token:
        """A key that was made elsewhere, put on the token as one that never leaves."""
        import pkcs11
        from pkcs11 import Attribute, KeyType, ObjectClass

        label = f"kit-{key_id.hex()}-{key[:4].hex()}"
        uses = (
            *(Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP),
            *(Attribute.TOKEN, Attribute.PRIVATE, Attribute.SENSITIVE),
        )
        template = dict.fromkeys(uses, True) | {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.EXTRACTABLE: False,
            Attribute.ID: key_id,
            Attribute.LABEL: label,
            Attribute.VALUE: key,
        }
        token = pkcs11.lib(self.module).get_token(token_label=LABEL)
        with token.open(rw=True, user_pin=PIN) as session:
            if not list(session.get_objects({Attribute.LABEL: label})):
                session.create_object(template)
        return self.key(label)

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}


def new_token(folder: Path) -> SoftToken:
    """Set up a token, or skip."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    program = shutil.which("softhsm2-util")
    if module is None or program is None:
        _skip("no SoftHSM2: install the Debian package softhsm2")
    _require_pkcs11()
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n"
    )
    token = SoftToken(str(module), folder)
    words = ["--init-token", "--free", "--label", LABEL, "--pin", PIN]
    subprocess.run(
        [str(program), *words, "--so-pin", "security-officer"],
        env=os.environ | token.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return token


def _require_pkcs11() -> None:
    try:
        import pkcs11  # noqa: F401
    except ModuleNotFoundError:
        _skip("python-pkcs11 is not installed")


def _skip(reason: str) -> None:
    if os.environ.get("MLGUARD_REQUIRE_PKCS11") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
