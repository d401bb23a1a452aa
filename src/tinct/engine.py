"""The engine that training runs on: devices, precision, ranks (Lightning Fabric)."""

from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from tinct.errors import TinctError

__all__ = ["make_fabric"]


def make_fabric(accelerator: str, precision: str, devices: str = "1", strategy: str = "auto") -> Fabric:
    """Start the engine; arguments as Fabric's own.

    Raises:
        TinctError: the machine has no such device, or Fabric knows no such setting.
    """
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=int(devices) if devices.isdigit() else devices,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
        )
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TinctError(
            f"cannot run with accelerator {accelerator}, devices {devices}, strategy {strategy}, precision "
            f"{precision}: {reason}; try --accelerator auto"
        ) from error
    return fabric
