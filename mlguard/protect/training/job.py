"""The whole job of training a model: data, weights, key, training, run folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from mlguard.data import LabelledSet, TrainingSet, open_split
from mlguard.errors import (
    DatasetError,
    MalformedRun,
    OutputExists,
    RunError,
)
from mlguard.files import PRIVATE_FOLDER, prepare_output_folder, refuse_filled_folder
from mlguard.keys import ModelKey, ModelSubkeys, TrainingSecret, new_protection_id
from mlguard.models import normalization_of
from mlguard.models.binding import fold_permutations, leave_norms_to
from mlguard.protect import run_folder
from mlguard.protect.device import new_accelerator
from mlguard.protect.key_work import (
    Build,
    check_normalization,
    check_twin,
    keyed_transforms,
    name_of,
    new_model,
)
from mlguard.protect.run_folder import (
    RUN,
    TWIN,
    Protection,
    Run,
    Setup,
    Unfinished,
)
from mlguard.protect.training.events import Watcher
from mlguard.protect.training.halves import in_halves
from mlguard.protect.training.images import DataFolder, facts_of_images
from mlguard.protect.training.lock_loss import Derive, LockLoss
from mlguard.protect.training.loop import Training, check_batch, train
from mlguard.protect.training.randomness import SecretWeights
from mlguard.protect.training.teacher import read_teacher
from mlguard.protect.training.terms import Terms
from mlguard.recipe import Recipe, recipe_sha256

CheckProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Job:
    """Train one model into one run folder.

    Nothing is written before the data and the initial weights are checked.

    Attributes:
        path: The run folder: new or empty, or with `resume` an unfinished one.
        recipe: The recipe, with its classes named (`named_recipe`).
        data: Where the images are.
        recipe_name: The recipe's name, for the report.
        device: "auto", "cpu" or "cuda".
        resume: Resume an unfinished run, or begin it. A finished one is not changed.
        watch: Called with steps and epochs.
        check: Called with the progress of the check of the data.
        notice: Called with notes on data that is unusual but usable.
        build: A function that makes the model, instead of the recipe's architecture.
            The model takes normalized pixels and returns logits.
        keep_plain: Under the method `weights`, leave weights and checkpoints in the
            clear.
        begun: Called in one process with the key that the model needs, when training
            begins or resumes.

    Raises:
        RunError: The recipe leaves the names of its classes to the data; or it lacks
            the normalization of `build`'s model.
    """

    path: Path
    recipe: Recipe
    data: DataFolder
    recipe_name: str = ""
    device: str = "auto"
    resume: bool = False
    watch: Watcher = field(default=lambda event: None)
    check: CheckProgress | None = None
    notice: Callable[[str], object] = field(default=lambda words: None)
    build: Build | None = None
    keep_plain: bool = False
    begun: Callable[[Protection], None] = field(default=lambda protection: None)

    def __post_init__(self) -> None:
        """Refuse a recipe that does not name its classes."""
        if not self.recipe.data.class_names:
            raise RunError(
                "the recipe does not name its classes",
                hint="name them with `named_recipe(recipe, data)`",
            )
        check_normalization(self.recipe, self.build)

    def protect(self, key: ModelKey, *, key_name: str) -> Run:
        """Train a model that needs the key.

        Args:
            key: The model key.
            key_name: Its name in the owner's keystore; written into the run.

        Raises:
            OutputExists: The folder is not empty, and `resume` was not given.
            MalformedRun: The run was begun with another recipe, or is damaged.
            DatasetError: The run was begun with other images, or they are not valid.
            WrongKey: The run was begun with another key.
            TamperedRun: This run was not begun with the key.
            MlguardError: As in `train`, `open_split` and `build_model`.
        """
        begun = self._begun()
        protection = begun.protection if begun else self._new_protection(key, key_name)
        if protection is None:
            raise MalformedRun(f"{self.path} is a baseline run, which needs no key")
        subkeys = protection.subkeys(key)
        if begun and self._is_done(begun, subkeys, RUN):
            return run_folder.read_run(self.path, build=self.build)
        keyed_by = keyed_transforms(self.recipe, self.build)
        lock = self._lock(subkeys, keyed_by.derive)
        derived = keyed_by.derive(subkeys)
        return self._train(Terms(key, protection, subkeys, derived, lock), begun)

    def train_baseline(self, key: ModelKey | None = None) -> Run:
        """Train a plain model, or with a key the plain twin of a protected one.

        Args:
            key: The key of the protected model: its twin starts from the same weights
                and sees the same images in the same order. The twin needs no key to be
                used, and to a thief it is as good as a public ancestor. In the folder
                `baseline` of a protected run, the run's proof covers it.

        Raises:
            RunError: The recipe's backbone cannot learn.
            MlguardError: As in `protect`.
        """
        check_twin(self.recipe)
        begun = self._begun()
        if begun and begun.protection is not None:
            raise MalformedRun(f"{self.path} is a protected run, not a baseline")
        proving = None if key is None else self._subkeys_above(key)
        if begun and self._is_done(begun, proving, TWIN):
            return run_folder.read_run(self.path, build=self.build)
        return self._train(Terms(key, proving=proving), begun)

    def _subkeys_above(self, key: ModelKey) -> ModelSubkeys | None:
        """Return the subkeys of the protected run whose folder holds this twin."""
        above = self.path.parent
        twin = self.path.name == run_folder.BASELINE
        # Runs of version 0.1 have no place for the proof of a twin.
        if not twin or run_folder.is_old(run_folder.read_proof(above)):
            return None
        protection = run_folder.read_setup(above).protection
        return None if protection is None else protection.subkeys(key)

    def _is_done(self, begun: Setup, proving: ModelSubkeys | None, role: str) -> bool:
        """Whether the run to resume is finished; refuse it if it was changed."""
        limit = run_folder.weights_limit(self.recipe, self.build)
        return run_folder.is_done(self.path, begun, proving, role=role, limit=limit)

    @cached_property
    def _accelerator(self) -> Accelerator:
        return new_accelerator(self.device, self.recipe.train.precision)

    def _begun(self) -> Setup | None:
        """Return the setup of the run to resume; None if there is none."""
        if self.resume and (self.path / run_folder.RECIPE).exists():
            setup = run_folder.read_setup(self.path)
            self._accelerator.wait_for_everyone()
            if run_folder.decisive(setup.recipe) != run_folder.decisive(self.recipe):
                raise MalformedRun(
                    f"{self.path} was begun with another recipe",
                    hint="give the recipe and the --set values that it was begun "
                    f"with, or --recipe {self.path / run_folder.RECIPE}",
                )
            return setup
        try:
            refuse_filled_folder(self.path)
        except OutputExists as refusal:
            if (self.path / run_folder.RECIPE).exists():
                refusal.hint += ", or resume an unfinished run with --resume"
            raise
        self._accelerator.wait_for_everyone()  # all have looked before one writes
        return None

    def _new_protection(self, key: ModelKey, key_name: str) -> Protection:
        """Return a fresh protection, the same in every process."""
        shared = self._from_the_first(new_protection_id())
        return Protection(shared, key.key_id, key_name)

    def _secret(self, key: ModelKey | None, begun: Setup | None) -> TrainingSecret:
        """Return the secret that the run draws from, the same in every process."""
        if begun:
            return run_folder.begun_secret(self.path, begun.provenance, key)
        if key is not None:
            return key.for_training(run_folder.training_digest(self.recipe))
        drawn = TrainingSecret.generate().reveal()
        return TrainingSecret(self._from_the_first(drawn))

    def _from_the_first(self, drawn: bytes) -> bytes:
        """Return in every process what the first one drew."""
        tensor = torch.tensor(list(drawn), dtype=torch.uint8)
        return bytes(broadcast(tensor.to(self._accelerator.device)).cpu().tolist())

    def _train(self, terms: Terms, begun: Setup | None) -> Run:
        training_set, validation_set = self._open("train"), self._open("validation")
        check_batch(
            self.recipe.train.batch,
            images=len(training_set),
            processes=self._accelerator.num_processes,
        )
        secret = self._secret(terms.key, begun)
        with SecretWeights(secret):
            model = new_model(self.recipe, self.build)
        fold_permutations(model, terms.transforms.channels)
        leave_norms_to(model, terms.transforms)
        seals = self.recipe.transform.seals and not self.keep_plain
        keeper = terms.keeper(secret, seals=seals)
        unfinished = Unfinished(self.path, keeper, terms.proving)
        if self._accelerator.is_main_process:
            data = facts_of_images(self.recipe, training_set, validation_set)
            if begun:
                self._go_on(unfinished, begun, data)
            else:
                self._begin(unfinished, terms, secret, data)
            if terms.protection is not None:
                self.begun(terms.protection)
        self._accelerator.wait_for_everyone()
        split = terms.protection is not None
        with in_halves(model, self.recipe.train, split=split) as views:
            best = train(
                Training(
                    path=self.path,
                    model=model,
                    data=TrainingSet(
                        training_set,
                        self.recipe.data,
                        secret.word("crops"),
                        views=views,
                    ),
                    validation=validation_set,
                    spec=self.recipe.train,
                    condition=terms.condition(self._accelerator.device),
                    normalization=normalization_of(self.recipe.model),
                    accelerator=self._accelerator,
                    secret=secret,
                    keeper=unfinished.keeper,
                    watch=self.watch,
                    workers=self.recipe.data.workers,
                    lock=terms.lock,
                )
            )
        if self._accelerator.is_main_process:
            unfinished.finish(best)
        self._accelerator.wait_for_everyone()
        return run_folder.read_run(self.path, build=self.build)

    def _lock(self, subkeys: ModelSubkeys, derive: Derive) -> LockLoss | None:
        """Return the loss of lock training, if the recipe has it."""
        spec = self.recipe.lock
        if not spec.weight and not spec.distill:
            return None
        if self._accelerator.num_processes > 1:
            raise RunError("lock training runs in one process; torchrun started more")
        device, teacher = self._accelerator.device, None
        if spec.distill:
            teacher = read_teacher(self.recipe, self.build).to(device)
        normalization = normalization_of(self.recipe.model)
        return LockLoss(spec, subkeys, derive, normalization, device, teacher)

    def _open(self, split: Literal["train", "validation"]) -> LabelledSet:
        with self._accelerator.local_main_process_first():  # it downloads for all
            opened = open_split(
                self.recipe.data,
                self.data.root,
                split,
                seed=self.recipe.train.seed,
                download=self.data.download,
            )
        opened.check(self.check)
        if self._accelerator.is_main_process:
            for note in opened.notes:
                self.notice(f"the {split} images: {note}")
        return opened

    def _session_facts(self) -> dict[str, Any]:
        """Return facts about this process, which may differ in one that resumes."""
        processes = {"processes": self._accelerator.num_processes}
        return {
            "versions": run_folder.versions(),
            "machine": run_folder.machine(self._accelerator.device) | processes,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _begin(
        self,
        unfinished: Unfinished,
        terms: Terms,
        secret: TrainingSecret,
        data: dict[str, Any],
    ) -> None:
        """Write the setup before the first step."""
        prepare_output_folder(self.path, mode=PRIVATE_FOLDER)
        origin = {}
        if terms.key is None:
            run_folder.write_secret(self.path, secret)
        else:
            digest = run_folder.training_digest(self.recipe)
            origin = {run_folder.DIGEST: digest.hex()}
        facts = {
            "recipe": self.recipe_name,
            "recipe_sha256": recipe_sha256(self.recipe),
            "seed": self.recipe.train.seed,
            "data": data,
            **origin,
            **({run_folder.BUILT_BY: name_of(self.build)} if self.build else {}),
            **self._session_facts(),
            "resumed": [],
        }
        unfinished.begin(Setup(self.recipe, terms.protection, facts))

    def _go_on(
        self, unfinished: Unfinished, begun: Setup, data: dict[str, Any]
    ) -> None:
        if begun.provenance["data"] != data:
            raise DatasetError(
                f"{self.path} was begun with other images",
                hint="give the same --data, unchanged",
            )
        unfinished.go_on(begun, self._session_facts())
