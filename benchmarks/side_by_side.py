"""Our parts beside the code that the field publishes for the same work.

Every side runs in processes of its own, in turns; a row gives the median of the turns,
and the peak of memory above what importing took. Times are those of the processor, one
thread each, which other jobs change little; adding to a store and training go by the
clock.

    python benchmarks/side_by_side.py --out side_by_side.json
      --block-transform DIR    a checkout of github.com/fugokidi/block_transform, whose
                               cifar10/keydefense.py is the research group's own code
      --stores PYTHON          an interpreter that has pyrage and pykeepass
      --sections transforms,training,stores,audit

transforms  the same explicit keys in the group's code and in ours, and their difference
training    images a second of a `Job`, and of the loop of torchvision's documentation
            (transforms.v2, DataLoader, SGD) on the same photographs and model
stores      opening a store of 100 secrets and adding one: ours, age, KeePass
audit       20 incorrect keys: our order, and key after key as the papers' code does it
"""

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TURNS = 3
BLOCK_SIZES, SIDES = (2, 4, 8), (32, 256)
NAMES = {"shf": "Shuffle", "np": "NP", "ffx": "FFX"}
SECRETS = 100
KEYS = 20
CLASSES = 11
Facts = dict[str, float]


def main() -> None:
    options = parse()
    if options.side:
        print(json.dumps(alone(options)))
        return
    results: dict[str, Any] = {"load": os.getloadavg()[0]}
    for section in options.sections.split(","):
        sides = {n: f for n, f in SECTIONS[section].items() if at_hand(n, options)}
        missing = sorted(set(SECTIONS[section]) - set(sides))
        results[section] = in_turns(section, sides, options) | {"not_at_hand": missing}
        print(section, json.dumps(results[section], indent=1), flush=True)
    if "transforms" in results and options.block_transform:
        results["transforms"]["largest_difference"] = difference(options)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sections", default="transforms,training,stores,audit")
    parser.add_argument("--block-transform", type=Path, metavar="DIR")
    parser.add_argument("--stores", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def at_hand(side: str, options: argparse.Namespace) -> bool:
    """Whether what a side needs is on this machine."""
    if side == "block_transform":
        return options.block_transform is not None
    if side in ("age", "keepass"):
        module = {"age": "pyrage", "keepass": "pykeepass"}[side]
        probe = [options.stores, "-c", f"import {module}"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return True


def in_turns(
    section: str, sides: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """The medians of every fact, side by side."""
    found: dict[str, list[Facts]] = {name: [] for name in sides}
    for turn in range(options.turns):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            other = name in ("age", "keepass")
            command = [options.stores if other else sys.executable, __file__]
            command += ["--side", section, name]
            if options.block_transform:
                command += ["--block-transform", str(options.block_transform)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{section}, {name}: {done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {fact: statistics.median(t[fact] for t in turns) for fact in turns[0]}
        for name, turns in found.items()
    }


def alone(options: argparse.Namespace) -> Facts:
    """One side in this process."""
    section, name = options.side
    prepared = SECTIONS[section][name](options)
    before = resident("VmRSS:")
    facts = prepared()
    return facts | {"peak_mib": resident("VmHWM:") - before}


def resident(field: str) -> float:
    """MiB of memory in use, or at most so far, by its name in /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(field))
    return int(kibibytes) / 1024


def seconds(work: Callable[[], object], *, least: float = 0.05) -> float:
    """Processor time: the least of several runs, at least four."""
    runs: list[float] = []
    while len(runs) < 4 or sum(runs) < least:
        start = time.process_time()
        work()
        runs.append(time.process_time() - start)
        if len(runs) > 500:
            break
    return min(runs)


# Transforms


def theirs(folder: Path, method: str, block_size: int, side: int) -> Any:
    """The group's own module for one method; its tables stay on the CPU."""
    import torch

    place = folder / "cifar10" / "keydefense.py"
    spec = importlib.util.spec_from_file_location("keydefense", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = SimpleNamespace(
        block_size=block_size,
        height=side,
        width=side,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        seed=42,
        password="password",
    )
    kept = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign, assignment]
    try:
        return getattr(module, NAMES[method])(config)
    finally:
        torch.Tensor.cuda = kept  # type: ignore[method-assign]


def ours(method: str, block_size: int, key: Any, table: Any) -> Any:
    """Our transform with the same explicit key."""
    from mlguard.models.conditions import torch_transform
    from mlguard.transforms import FormatPreserving, NegativePositive, PixelShuffle

    if method == "shf":
        return torch_transform(PixelShuffle(block_size, key.numpy()))
    if method == "np":
        return torch_transform(NegativePositive(block_size, key.numpy()))
    return torch_transform(FormatPreserving(block_size, key.numpy(), table.numpy()))


def explicit(method: str, block_size: int) -> tuple[Any, Any]:
    """A key and a table such as the group's code draws them."""
    import pyffx
    import torch

    torch.manual_seed(42)
    key = torch.randperm(3 * block_size**2)
    cipher = pyffx.Integer(b"password", length=3)
    table = torch.tensor([cipher.encrypt(value) for value in range(256)])
    return (key if method == "shf" else key > len(key) / 2), table


def pictures(side: int, count: int = 16) -> Any:
    import torch

    draws = torch.Generator().manual_seed(0)
    shape = (count, 3, side, side)
    return torch.randint(256, shape, dtype=torch.uint8, generator=draws)


def each_transform(make: Callable[[str, int, int], Callable[[], object]]) -> Facts:
    return {
        f"{method}, M={size}, {side}² (s)": seconds(make(method, size, side))
        for method in NAMES
        for size in BLOCK_SIZES
        for side in SIDES
    }


def transforms_theirs(options: argparse.Namespace) -> Callable[[], Facts]:
    import torch

    torch.set_num_threads(1)

    def make(method: str, size: int, side: int) -> Callable[[], object]:
        module = theirs(options.block_transform, method, size, side)
        images = pictures(side).float() / 255
        return lambda: module(images)

    return lambda: each_transform(make)


def transforms_ours(options: argparse.Namespace) -> Callable[[], Facts]:
    import torch

    import mlguard.models.conditions  # noqa: F401

    torch.set_num_threads(1)

    def make(method: str, size: int, side: int) -> Callable[[], object]:
        keyed, images = ours(method, size, *explicit(method, size)), pictures(side)
        return lambda: keyed(images)

    return lambda: each_transform(make)


def difference(options: argparse.Namespace) -> float:
    """The largest difference of two values under the same key."""
    apart = 0.0
    for method in NAMES:
        for size in BLOCK_SIZES:
            for side in SIDES:
                module = theirs(options.block_transform, method, size, side)
                images = pictures(side, 2)
                table = getattr(module, "lookup", explicit("ffx", size)[1])
                got = ours(method, size, module.key, table)(images)
                expected = module(images.float() / 255)
                apart = max(apart, float((got - expected).abs().max()))
    return apart


# Training

IMAGES, SIDE, BATCH = 64, 128, 16


def training_ours(options: argparse.Namespace) -> Callable[[], Facts]:
    import torch

    from mlguard.keys import ModelKey
    from mlguard.protect import DataFolder, Job
    from mlguard.recipe import read_recipe

    torch.set_num_threads(1)
    overrides = [
        "data.kind=folder",
        f"data.size=[{SIDE},{SIDE}]",
        "data.validation=2",
        "model.name=fcn_mobilenet_v2",
        f"train.batch={BATCH}",
        "train.epochs=3",
    ]
    recipe = read_recipe("demo", overrides=overrides)

    def work() -> Facts:
        with tempfile.TemporaryDirectory() as made:
            root = photographs(Path(made))
            job = Job(root / "run", recipe, DataFolder(root), device="cpu")
            run = job.protect(ModelKey.generate(), key_name="measured")
            lines = (run.path / "metrics.jsonl").read_text().splitlines()
        ends = [json.loads(line)["seconds"] for line in lines]
        steps = (IMAGES - 4) // BATCH  # two to test, two to validate
        return {"images_per_second": steps * BATCH / (ends[-1] - ends[0]) * 2}

    return work


def training_theirs(options: argparse.Namespace) -> Callable[[], Facts]:
    """As torchvision's documentation has it; no key, no checkpoints, no validation."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from mlguard.models import ARCHITECTURES

    torch.set_num_threads(1)
    change = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop((SIDE, SIDE), scale=(0.5, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )

    class Photographs(Dataset[Any]):
        def __init__(self, root: Path) -> None:
            self.root = root

        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, index: int) -> Any:
            image = Image.open(self.root / "images" / f"{index}.jpg").convert("RGB")
            mask = Image.open(self.root / "masks" / f"{index}.png")
            image, mask = change(image, tv_tensors.Mask(mask))
            return image, mask.squeeze().long()

    def work() -> Facts:
        with tempfile.TemporaryDirectory() as made:
            root = photographs(Path(made))
            loader = DataLoader(Photographs(root), BATCH, shuffle=True, drop_last=True)
            model = ARCHITECTURES["fcn_mobilenet_v2"](6).train()
            optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
            ends = []
            for _ in range(3):
                for images, masks in loader:
                    loss = nn.functional.cross_entropy(model(images), masks)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                ends.append(time.perf_counter())
        steps = IMAGES // BATCH
        return {"images_per_second": steps * BATCH / (ends[-1] - ends[0]) * 2}

    return work


def photographs(root: Path) -> Path:
    """Generated scenes of a photograph's size, as files."""
    from PIL import Image

    from mlguard.data.draws import Draws
    from mlguard.data.shapes import paint

    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(IMAGES):
        image, mask = paint(Draws(number), 375, 500)
        Image.fromarray(image).save(root / "images" / f"{number}.jpg", quality=90)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    names = [str(number) for number in range(IMAGES)]
    (root / "train.txt").write_text("\n".join(names[:-2]))
    (root / "test.txt").write_text("\n".join(names[-2:]))
    return root


# Stores


def stores_ours(options: argparse.Namespace) -> Callable[[], Facts]:
    from keystore import Identity, Keystore, Passphrase

    def work() -> Facts:
        with tempfile.TemporaryDirectory() as made:
            path, identity = Path(made) / "store", Identity.generate()
            store = Keystore.create(path, identity)
            for number in range(SECRETS):
                store.add(f"key-{number}", os.urandom(32))
            opened = seconds(lambda: Keystore.open(path, identity))
            added = []
            for number in range(10):
                begun = time.perf_counter()
                store.add(f"more-{number}", os.urandom(32))
                added.append(time.perf_counter() - begun)
            size = path.stat().st_size
            other = Path(made) / "asked"
            Keystore.create(other, Passphrase("a long enough passphrase of words"))
            asked = seconds(
                lambda: Keystore.open(
                    other, Passphrase("a long enough passphrase of words")
                )
            )
        return {
            "open_s": opened,
            "add_s": statistics.median(added),
            "bytes": size,
            "open_by_passphrase_s": asked,
        }

    return work


def stores_age(options: argparse.Namespace) -> Callable[[], Facts]:
    import pyrage

    def work() -> Facts:
        secrets = {f"key-{n}": os.urandom(32).hex() for n in range(SECRETS)}
        identity = pyrage.x25519.Identity.generate()
        to = [identity.to_public()]
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / "store.age"
            path.write_bytes(pyrage.encrypt(json.dumps(secrets).encode(), to))

            def opened() -> dict[str, str]:
                sealed = path.read_bytes()
                read: dict[str, str] = json.loads(pyrage.decrypt(sealed, [identity]))
                return read

            taken = seconds(opened)
            added = []
            for number in range(10):
                begun = time.perf_counter()
                now = opened() | {f"more-{number}": os.urandom(32).hex()}
                committed(path, pyrage.encrypt(json.dumps(now).encode(), to))
                added.append(time.perf_counter() - begun)
            size = path.stat().st_size
            sealed = pyrage.passphrase.encrypt(b"{}", "a long enough passphrase")
            asked = seconds(
                lambda: pyrage.passphrase.decrypt(sealed, "a long enough passphrase")
            )
        return {
            "open_s": taken,
            "add_s": statistics.median(added),
            "bytes": size,
            "open_by_passphrase_s": asked,
        }

    return work


def committed(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def stores_keepass(options: argparse.Namespace) -> Callable[[], Facts]:
    import pykeepass

    def work() -> Facts:
        word = "a long enough passphrase"
        with tempfile.TemporaryDirectory() as made:
            path = str(Path(made) / "store.kdbx")
            store = pykeepass.create_database(path, password=word)
            for number in range(SECRETS):
                store.add_entry(
                    store.root_group, f"key-{number}", "", os.urandom(32).hex()
                )
            store.save()
            asked = seconds(lambda: pykeepass.PyKeePass(path, password=word))
            added = []
            for number in range(3):
                begun = time.perf_counter()
                store.add_entry(
                    store.root_group, f"more-{number}", "", os.urandom(32).hex()
                )
                store.save()
                added.append(time.perf_counter() - begun)
            size = Path(path).stat().st_size
        return {
            "add_s": statistics.median(added),
            "bytes": size,
            "open_by_passphrase_s": asked,
        }

    return work


# Audit


def audit_side(*, together: bool) -> Callable[[argparse.Namespace], Any]:
    def prepare(options: argparse.Namespace) -> Callable[[], Facts]:
        import torch

        from mlguard.data import open_split
        from mlguard.keys import ModelKey
        from mlguard.models import ARCHITECTURES, Normalization, keyed
        from mlguard.protect import evaluate
        from mlguard.recipe import read_recipe
        from mlguard.transforms import KeyedTransforms

        torch.set_num_threads(1)
        torch.manual_seed(0)
        model = ARCHITECTURES["fcn_mobilenet_v2"](6).eval()
        model = model.to(memory_format=torch.channels_last)
        overrides = ["data.kind=folder", f"data.size=[{SIDE},{SIDE}]"]
        spec = read_recipe("demo", overrides=[*overrides, "data.cache=false"]).data
        transforms = KeyedTransforms(("shf",), 4)
        conditions = {}
        for number in range(KEYS):
            key = ModelKey(number.to_bytes(32, "little"))
            conditions[str(number)] = keyed(transforms.derive(key.for_model(bytes(16))))

        def score(data: Any, of: dict[str, Any]) -> None:
            evaluate(
                model,
                data,
                of,
                normalization=Normalization(),
                device=torch.device("cpu"),
                batch=16,
            )

        def work() -> Facts:
            with tempfile.TemporaryDirectory() as made:
                root = photographs(Path(made))
                data = open_split(spec, root, "train", seed=0)
                begun = time.process_time()
                if together:
                    score(data, conditions)
                else:
                    for name, condition in conditions.items():
                        score(data, {name: condition})
                return {"seconds": time.process_time() - begun}

        return work

    return prepare


SECTIONS: dict[str, dict[str, Callable[[argparse.Namespace], Callable[[], Facts]]]] = {
    "transforms": {"mlguard": transforms_ours, "block_transform": transforms_theirs},
    "training": {"mlguard": training_ours, "torchvision": training_theirs},
    "stores": {"mlguard": stores_ours, "age": stores_age, "keepass": stores_keepass},
    "audit": {
        "mlguard": audit_side(together=True),
        "key after key": audit_side(together=False),
    },
}

if __name__ == "__main__":
    main()
