"""Quality of an artifact, measured on its own decode path against its dense original.

artifact, original = ArtifactLogits(model), HuggingFaceLogits(model_dir)
windows = cut_windows(read_texts([path]), model, length=256, tokens=16384)
report = quality(artifact, original, windows)

The original is imported from `evaluate.hugging_face`, which needs torch; the rest needs numpy.
"""

from sparsecomp.texts import Text, read_texts

from .bootstrap import CONFIDENCE, RESAMPLES, SEED, Estimate
from .logits import ArtifactLogits, LogitSource, Window
from .quality import QualityReport, quality, ratio
from .scores import costs
from .tasks import Item, ItemWindows, TaskFile, TaskReport, item_windows, read_tasks, tasks
from .texts import cut_windows

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "SEED",
    "ArtifactLogits",
    "Estimate",
    "Item",
    "ItemWindows",
    "LogitSource",
    "QualityReport",
    "TaskFile",
    "TaskReport",
    "Text",
    "Window",
    "costs",
    "cut_windows",
    "item_windows",
    "quality",
    "ratio",
    "read_tasks",
    "read_texts",
    "tasks",
]
