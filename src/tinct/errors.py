"""What tinct raises.

Every message is one line that names the offending value, says what was expected and how to mend it.
The command line prints it and leaves with exit code 2.
"""

from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = ["AbsentSplitError", "PictureError", "TinctError", "check_choices"]


class TinctError(Exception):
    """A mistake its user can mend: a wrong path, an impossible setting, a full disk."""


class AbsentSplitError(TinctError):
    """A labelled source that has no such split, or no labels for such a task, as few have all of them."""


class PictureError(TinctError):
    """One picture that cannot be used: truncated, not an image, over a limit, vanished.

    Long jobs count it, name it in their log and go on with the next picture.
    """


def check_choices(settings: Any) -> None:
    """Hold a dataclass's fields that are a choice of words to those words: programs and files may give others.

    Raises:
        TinctError: one is another.
    """
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal and getattr(settings, name) not in get_args(kind):
            raise TinctError(f"{name} is {getattr(settings, name)!r}; expected {', '.join(map(str, get_args(kind)))}")
