"""What a report calls the things of a task: its score, what is counted, the truth."""

from dataclasses import dataclass

from mlguard.rules import TaskName
from mlguard.tasks import SCORE_NAMES


@dataclass(frozen=True)
class Vocabulary:
    """The words of one task.

    Attributes:
        score: What the score is called in a sentence and at the head of a column.
        title: The same, to begin a title.
        class_score: What the score of one class is called.
        unit: What is counted, in the plural.
        truth: What says which class is right.
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
