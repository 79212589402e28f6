"""What does somebody get who has no model at all? A yardstick for audits.

Scores answers to a segmentation that are the same for every image: the best single
class (the *floor* of every report), the best two classes, one above the other, and the
most frequent class at each place in the masks of a few labelled images.

    python benchmarks/without_a_model.py camvid_bound --data camvid
"""

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlguard.data import LabelledSet, open_split
from mlguard.recipe import read_recipe
from mlguard.tasks import Task

LABELLED = (1, 4, 16, 64)


def main() -> None:
    options = parse()
    recipe = read_recipe(options.recipe)
    test, own = (
        open_split(recipe.data, options.data, split, seed=recipe.train.seed)
        for split in ("test", "validation")
    )
    task, masks = test.task, masks_of(test)
    print(f"{options.recipe}, {len(masks)} test images")
    print(f"one class: {task.floor(task.total(task.count(masks, masks))):.3f}")
    print(f"one class above another: {best_halves(task, masks):.3f}")
    labelled = masks_of(own)
    for number in (*LABELLED, len(labelled)):
        usual = most_frequent(labelled[:number], task.classes)
        score = given(task, usual, masks)
        print(f"usual class at each place, {number} masks: {score:.3f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", help="names the data; a shipped recipe, or a file")
    parser.add_argument("--data", type=Path, help="the folder of its data")
    return parser.parse_args()


def masks_of(dataset: LabelledSet) -> NDArray[np.uint8]:
    """All masks of a split. Shape: (N, H, W)."""
    return np.stack([np.asarray(dataset[index][1]) for index in range(len(dataset))])


def most_frequent(masks: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The most frequent class at each place. Shape: (N, H, W) to (H, W)."""
    counts = np.stack([(masks == number).sum(0) for number in range(classes)])
    return counts.argmax(0).astype(np.uint8)


def best_halves(task: Task, masks: NDArray[np.uint8]) -> float:
    """The score of the best class for the upper half and another for the lower."""
    answer = np.empty(masks.shape[1:], np.uint8)
    middle = len(answer) // 2
    best = 0.0
    for above, below in permutations(range(task.classes), 2):
        answer[:middle], answer[middle:] = above, below
        best = max(best, given(task, answer, masks))
    return best


def given(task: Task, answer: NDArray[np.uint8], masks: NDArray[np.uint8]) -> float:
    """The score of one answer for every image."""
    answers = np.broadcast_to(answer, masks.shape)
    return task.score_of(task.count(answers, masks))


if __name__ == "__main__":
    main()
