"""CamVid and any road-scene set in its layout: folder pairs such as `train` and `trainannot`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.decode import PICTURE_SUFFIXES
from tinct.data.labelled import LabelledFiles, Task, checked_mask, read_indices
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded

__all__ = ["CLASSES", "CamVid"]

# fmt: off
CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)
# fmt: on
"""The eleven classes of SegNet's version (Badrinarayanan et al. 2017), in the order of the mask values from 0 on."""

VOID_VALUE = 11


class CamVid(LabelledFiles):
    """`camvid:DIR`: pictures in `DIR/SPLIT`, index masks of the same names in `DIR/SPLITannot`; 11 is void.

    Every class is an object: there is no background.

    Args:
        path: the folder.
        split: `train`, `val` or `test`.
        task: `segmentation`.

    Raises:
        TinctError: a folder is missing, pictures and masks do not pair up, or the task is multilabel.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        root = expanded(path)
        if not root.is_dir():
            raise TinctError(f"camvid:{path}: no such folder; expected one that holds train, trainannot, and so on")
        pictures, masks = (_by_stem(root / folder) for folder in (split, f"{split}annot"))
        alone = sorted(pictures.keys() ^ masks.keys())
        if alone:
            side = "mask" if alone[0] in pictures else "picture"
            raise TinctError(
                f"{root / split}: {len(alone)} files without a partner, the first is {alone[0]} (no {side})"
            )
        stems = sorted(pictures)
        if stems and task != "segmentation":  # last: whoever asks for either task hears what is wrong with the folder
            raise AbsentSplitError(f"camvid:{path}: has masks only; choose the segmentation task")
        super().__init__((f"{split}/{pictures[stem]}" for stem in stems), root, f"camvid:{path}", split)
        self._masks = [root / f"{split}annot" / masks[stem] for stem in stems]
        self.mask_classes = CLASSES

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`."""
        path = self._masks[index]
        return checked_mask(read_indices(path), path, self.path(index), len(CLASSES), VOID_VALUE)


def _by_stem(folder: Path) -> dict[str, str]:
    """File names by stem."""
    if not folder.is_dir():
        raise AbsentSplitError(f"{folder}: no such folder; expected pictures in train, masks in trainannot, and so on")
    found: dict[str, str] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith("."):
            if file.stem in found:
                raise TinctError(
                    f"{folder}: {found[file.stem]} and {file.name} would have one mask; rename one of them"
                )
            found[file.stem] = file.name
    return found
