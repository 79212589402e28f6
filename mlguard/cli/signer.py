"""`mlguard signer`: the key that signs issued files, and the signers to trust."""

from pathlib import Path
from typing import Annotated

import typer

from keystore import Keystore
from mlguard.cli.answers import Json, answer
from mlguard.cli.panels import Commands
from mlguard.cli.parties import PURPOSE, SIGNER, read_public_signer, signer_of
from mlguard.cli.trust import keep, trusted_signers
from mlguard.cli.with_store import with_store
from mlguard.files import refuse_existing, write_new
from mlguard.signing import SigningKey

signer_app = Commands(
    no_args_is_help=True, help="Signing keys: your own, and those that you trust."
)
Name = Annotated[str, typer.Argument(help="Its name in the keystore.")]


@signer_app.command()
@with_store
def new(store: Keystore, name: Name = SIGNER, json: Json = False) -> None:
    """Draw a signing key, and store it under NAME in the keystore."""
    key = SigningKey.generate()
    store.add(name, key.reveal(), purpose=PURPOSE)
    value = {"name": name, "signer": key.public.signer_id}
    answer(value, f"{name}  signer {key.public.shown}", as_json=json)


@signer_app.command(examples=("mlguard signer show --out owner.pub",))
@with_store
def show(
    store: Keystore,
    name: Name = SIGNER,
    out: Annotated[Path | None, typer.Option(help="Write it to a new file.")] = None,
    json: Json = False,
) -> None:
    """Print the public half, with which customers check their files."""
    if out is not None:
        refuse_existing(out)
    public = signer_of(store, name).public
    pem = public.pem.decode()
    if out is not None:
        write_new(out, public.pem)
    value = {"name": name, "signer": public.signer_id, "pem": pem}
    text = pem if out is None else f"{out}  signer {public.shown}"
    answer(value, text, as_json=json)


@signer_app.command(examples=("mlguard signer trust owner.pub",))
def trust(
    file: Annotated[Path, typer.Argument(help="The signer's public key.")],
    json: Json = False,
) -> None:
    """Trust a signer: from now on, issued files must be signed by a trusted one."""
    signer = read_public_signer(file)
    kept = keep(signer)
    value = {"file": str(kept), "signer": signer.signer_id}
    answer(value, f"{kept}  signer {signer.shown}", as_json=json)


@signer_app.command("list")
def list_(json: Json = False) -> None:
    """Print the signers that this user trusts."""
    ids = [signer.signer_id for signer in trusted_signers(None)]
    answer({"signers": ids}, "\n".join(ids) or "none", as_json=json)
