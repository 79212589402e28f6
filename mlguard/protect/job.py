"""The whole job of protecting a model: data, weights, key, training, run folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from mlguard.data import LabelledSet, TrainingSet, name_classes, open_split
from mlguard.errors import (
    DatasetError,
    MalformedRun,
    OutputExists,
    RunError,
    WeightsError,
)
from mlguard.files import prepare_output_folder, refuse_filled_folder
from mlguard.keys import (
    ModelKey,
    ModelSubkeys,
    TrainingSecret,
    new_protection_id,
)
from mlguard.models import (
    NO_KEY,
    Condition,
    keyed,
    normalization_of,
)
from mlguard.models.binding import fold_permutations
from mlguard.protect import run as folder
from mlguard.protect.device import new_accelerator
from mlguard.protect.key_work import (
    Build,
    channels_of,
    keyed_transforms,
    new_model,
)
from mlguard.protect.lock import Derive, Lock
from mlguard.protect.loop import check_batch, train
from mlguard.protect.proofs import check_setup
from mlguard.protect.provenance import machine, versions
from mlguard.protect.randomness import SecretWeights
from mlguard.protect.run import Protection, Run, read_model, read_run, read_setup
from mlguard.protect.run_secret import (
    DIGEST,
    begun_secret,
    decisive,
    training_digest,
    write_secret,
)
from mlguard.protect.training import Watcher
from mlguard.recipe import Recipe, recipe_sha256

CheckProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Source:
    """Where the data is, and whether torchvision may fetch it."""

    root: Path | None
    download: bool = False


@dataclass(frozen=True)
class Job:
    """Train one model into one run folder.

    Nothing is written before the data and the starting weights were found fit.

    Attributes:
        path: The run folder: new or empty, or with `resume` one that was begun.
        recipe: What to train, on what, how.
        source: The data.
        recipe_name: What the recipe is called, for the report.
        device: "auto", "cpu" or "cuda".
        resume: Go on with an unfinished run, or begin it. A finished one is left as
            it is.
        watch: Told about steps and epochs.
        check: Told how the check of the data goes.
        build: Makes the model, instead of the architecture that the recipe names.
            Takes normalized pixels, gives logits.
        begun: Told, by one process, which key the model needs, when training begins
            or goes on.
    """

    path: Path
    recipe: Recipe
    source: Source
    recipe_name: str = ""
    device: str = "auto"
    resume: bool = False
    watch: Watcher = field(default=lambda event: None)
    check: CheckProgress | None = None
    build: Build | None = None
    begun: Callable[[Protection], None] = field(default=lambda protection: None)

    def protect(self, key: ModelKey, *, key_name: str) -> Run:
        """Train a model that needs the key.

        Args:
            key: The model key.
            key_name: What the owner's keystore calls it; written into the run.

        Raises:
            OutputExists: The folder holds something, and `resume` was not asked for.
            MalformedRun: The run was begun with another recipe, or is damaged.
            DatasetError: The run was begun with other images, or they are unfit.
            WrongKey: The run was begun with another key.
            TamperedRun: The holder of the key did not begin this run.
            MlguardError: As `train`, `open_split` and `build_model`.
        """
        if (named := self._named()) is not self:
            return named.protect(key, key_name=key_name)
        begun = self._begun()
        protection = begun[1] if begun else self._new_protection(key, key_name)
        if protection is None:
            raise MalformedRun(f"{self.path} is a baseline run, which needs no key")
        subkeys = protection.subkeys(key)
        if begun:
            check_setup(self.path, subkeys, recipe=self.path / folder.RECIPE)
        channels = channels_of(self.recipe, self.build)
        derive = keyed_transforms(self.recipe.transform, channels).derive

        def prove() -> None:
            folder.write_proofs(self.path, protection, key)

        transforms = derive(subkeys)
        return self._train(
            keyed(transforms, self._accelerator.device),
            protection,
            prove,
            key,
            begun=begun is not None,
            prepare=lambda model: fold_permutations(model, transforms.channels),
            lock=self._lock(subkeys, derive),
        )

    def train_baseline(self, key: ModelKey | None = None) -> Run:
        """Train a plain model, or with a key the plain twin of a protected one.

        Args:
            key: The key of the protected model: its twin starts from the same weights
                and sees the same images in the same order. It needs no key to be used,
                and is as good as a public ancestor to whoever gets it.

        Raises:
            MlguardError: As `protect`.
        """
        if (named := self._named()) is not self:
            return named.train_baseline(key)
        begun = self._begun()
        if begun and begun[1] is not None:
            raise MalformedRun(f"{self.path} is a protected run, not a baseline")
        return self._train(NO_KEY, None, lambda: None, key, begun=begun is not None)

    def _named(self) -> "Job":
        """The same job, its classes named, where the recipe leaves that to the data."""
        data = name_classes(self.recipe.data, self.source.root)
        if data == self.recipe.data:
            return self
        return replace(self, recipe=self.recipe.model_copy(update={"data": data}))

    @cached_property
    def _accelerator(self) -> Accelerator:
        return new_accelerator(self.device, self.recipe.train.precision)

    def _begun(self) -> tuple[Recipe, Protection | None] | None:
        """The setup of the run to resume; None if there is none to resume."""
        if self.resume and (self.path / folder.RECIPE).exists():
            setup = read_setup(self.path)
            self._accelerator.wait_for_everyone()
            if decisive(setup[0]) != decisive(self.recipe):
                raise MalformedRun(
                    f"{self.path} was begun with another recipe",
                    hint="give the recipe and the --set values it was begun with, "
                    f"or --recipe {self.path / folder.RECIPE}",
                )
            return setup
        try:
            refuse_filled_folder(self.path)
        except OutputExists as refusal:
            if (self.path / folder.RECIPE).exists():
                refusal.hint += ", or --resume to go on with an unfinished run"
            raise
        self._accelerator.wait_for_everyone()  # all have looked before one writes
        return None

    def _new_protection(self, key: ModelKey, key_name: str) -> Protection:
        """A fresh protection, the same in every process."""
        shared = self._from_the_first(new_protection_id())
        return Protection(shared, key.key_id, key_name)

    def _new_secret(self, key: ModelKey | None) -> TrainingSecret:
        """What a new run draws from, the same in every process."""
        if key is not None:
            return key.for_training(training_digest(self.recipe))
        drawn = TrainingSecret.generate().reveal()
        return TrainingSecret(self._from_the_first(drawn))

    def _from_the_first(self, drawn: bytes) -> bytes:
        """What the first process drew, in every process."""
        tensor = torch.tensor(list(drawn), dtype=torch.uint8)
        return bytes(broadcast(tensor.to(self._accelerator.device)).cpu().tolist())

    def _train(
        self,
        condition: Condition,
        protection: Protection | None,
        prove: Callable[[], None],
        key: ModelKey | None,
        *,
        begun: bool,
        prepare: Callable[[nn.Module], object] = lambda model: None,
        lock: Lock | None = None,
    ) -> Run:
        if begun and _is_finished(self.path):
            return read_run(self.path, build=self.build)
        training_set = self._open("train")
        validation_set = self._open("validation")
        check_batch(
            self.recipe.train.batch,
            images=len(training_set),
            processes=self._accelerator.num_processes,
        )
        if begun:
            facts = folder.read_provenance(self.path)
            secret = begun_secret(self.path, facts, key)
        else:
            secret = self._new_secret(key)
        with SecretWeights(secret):
            model = new_model(self.recipe, self.build)
        prepare(model)
        if self._accelerator.is_main_process:
            data = self._data_facts(training_set, validation_set)
            if begun:
                self._add_to_provenance(data)
            else:
                self._write_setup(protection, data, secret if key is None else None)
                prove()
            if protection is not None:
                self.begun(protection)
        self._accelerator.wait_for_everyone()
        train(
            self.path,
            model,
            TrainingSet(training_set, self.recipe.data, secret.word("crops")),
            validation_set,
            spec=self.recipe.train,
            condition=condition,
            normalization=normalization_of(self.recipe.model),
            accelerator=self._accelerator,
            watch=self.watch,
            secret=secret,
            workers=self.recipe.data.workers,
            lock=lock,
        )
        if self._accelerator.is_main_process:
            prove()
            (self.path / folder.CHECKPOINT).unlink()
        self._accelerator.wait_for_everyone()
        return read_run(self.path, build=self.build)

    def _open(self, split: Literal["train", "validation"]) -> LabelledSet:
        with self._accelerator.local_main_process_first():  # it downloads for all
            opened = open_split(
                self.recipe.data,
                self.source.root,
                split,
                seed=self.recipe.train.seed,
                download=self.source.download,
            )
        opened.check(self.check)
        return opened

    def _lock(self, subkeys: ModelSubkeys, derive: Derive) -> Lock | None:
        """What lock training needs, if the recipe asks for it."""
        spec = self.recipe.lock
        if not spec.weight and not spec.distill:
            return None
        if self._accelerator.num_processes > 1:
            raise RunError("lock training runs in one process; torchrun started more")
        teacher = self._teacher() if spec.distill else None
        normalization = normalization_of(self.recipe.model)
        device = self._accelerator.device
        return Lock(spec, subkeys, derive, normalization, device, teacher)

    def _teacher(self) -> nn.Module:
        """The plain model whose answers are kept; all of it is in its file.

        Raises:
            WeightsError: The file is missing, damaged or of another model.
        """
        try:
            taught = read_model(Path(self.recipe.lock.teacher), self.recipe, self.build)
        except MalformedRun as refused:
            raise WeightsError(
                f"lock.teacher: {refused}",
                hint="give model.safetensors of a plain run of the same recipe, as "
                "`mlguard train` or `mlguard protect --baseline` writes it",
            ) from None
        return taught.to(self._accelerator.device).requires_grad_(False)

    def _data_facts(
        self, training_set: LabelledSet, validation_set: LabelledSet
    ) -> dict[str, Any]:
        return {
            "kind": self.recipe.data.kind,
            "train_images": len(training_set),
            "train_fingerprint": training_set.fingerprint,
            "validation_images": len(validation_set),
            "validation_fingerprint": validation_set.fingerprint,
        }

    def _session_facts(self) -> dict[str, Any]:
        """What is true of this process, and may differ in one that resumes."""
        processes = {"processes": self._accelerator.num_processes}
        return {
            "versions": versions(),
            "machine": machine(self._accelerator.device) | processes,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _write_setup(
        self,
        protection: Protection | None,
        data: dict[str, Any],
        secret: TrainingSecret | None,
    ) -> None:
        """Write what must be known before the first step.

        Args:
            protection: Which key the model needs, if any.
            data: What is known of the images.
            secret: What is drawn from, unless it follows from a key.
        """
        prepare_output_folder(self.path)
        origin = {}
        if secret is None:
            origin = {DIGEST: training_digest(self.recipe).hex()}
        else:
            write_secret(self.path, secret)
        facts = {
            "recipe": self.recipe_name,
            "recipe_sha256": recipe_sha256(self.recipe),
            "seed": self.recipe.train.seed,
            "data": data,
            **origin,
            **self._session_facts(),
            "resumed": [],
        }
        folder.write_json(self.path / folder.PROVENANCE, facts)
        folder.write_setup(self.path, self.recipe, protection)

    def _add_to_provenance(self, data: dict[str, Any]) -> None:
        facts = folder.read_provenance(self.path)
        if facts["data"] != data:
            raise DatasetError(
                f"these are not the images that {self.path} was begun with",
                hint="give the --data it was begun with, unchanged",
            )
        facts["resumed"].append(self._session_facts())
        folder.write_json(self.path / folder.PROVENANCE, facts)


def _is_finished(path: Path) -> bool:
    return (path / folder.MODEL).exists() and not (path / folder.CHECKPOINT).exists()
