"""What tinct raises.

Every message is one line that names the offending value, says what was expected and how to mend it.
The command line prints it and leaves with exit code 2.
"""

__all__ = ["AbsentSplitError", "PictureError", "TinctError"]


class TinctError(Exception):
    """A mistake its user can mend: a wrong path, an impossible setting, a full disk."""


class AbsentSplitError(TinctError):
    """A labelled source that has no such split, or no labels for such a task, as few have all of them."""


class PictureError(TinctError):
    """One picture that cannot be used: truncated, not an image, over a limit, vanished.

    Long jobs count it, name it in their log and go on with the next picture.
    """
