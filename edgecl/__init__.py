"""Edge devices that learn where they stand: one frozen backbone, many small heads, no task label.

from edgecl import EdgeDevice
device = EdgeDevice()
device.learn("birds", "path/to/birds")
print(device.infer(["image.jpg"])[0])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["EdgeDevice", "__version__"]

if TYPE_CHECKING:
    from edgecl.device import EdgeDevice


def __getattr__(name: str) -> Any:
    # Lazy, so that `import edgecl` costs nothing until a device is opened.
    if name == "EdgeDevice":
        from edgecl.device import EdgeDevice

        return EdgeDevice
    raise AttributeError(f"module 'edgecl' has no attribute '{name}'")
