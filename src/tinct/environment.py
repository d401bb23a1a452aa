"""What a record says of the program and the machine that made it."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tinct.plugins import brought_by

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Versions, commit, machine and command, for a record; no command where a program called."""
    packages = ("tinct", "torch", "torchvision", "timm", "lightning-fabric", "torchmetrics", "numpy", "Pillow")
    return {
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages}
        | brought_by(),
        "commit": _commit(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": shlex.join(["tinct", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("tinct", "__main__") else None,
    }


def _commit() -> str | None:
    """The commit of the source tree that runs, with + when it was changed since; None in an installed wheel."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", str(here)], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    if tracked.returncode:  # a virtual environment inside somebody else's repository
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")
