"""The words of a report for a task: its score, its unit, the truth."""

from dataclasses import dataclass

from mlguard.rules import TaskName
from mlguard.tasks import SCORE_NAMES


@dataclass(frozen=True)
class Vocabulary:
    """The words of one task.

    Attributes:
        score: The name of the score in a sentence and at the head of a column.
        title: The same, at the start of a title.
        class_score: The name of the score of one class.
        unit: The unit that is counted, in the plural.
        truth: The name of the labels.
    """

    score: str
    title: str
    class_score: str
    unit: str
    truth: str


VOCABULARIES: dict[TaskName, Vocabulary] = {
    "segmentation": Vocabulary(
        score=SCORE_NAMES["segmentation"],
        title="Mean IoU",
        class_score="IoU",
        unit="pixels",
        truth="mask",
    ),
    "classification": Vocabulary(
        score=SCORE_NAMES["classification"],
        title="Accuracy",
        class_score="Accuracy",
        unit="images",
        truth="image",
    ),
}
