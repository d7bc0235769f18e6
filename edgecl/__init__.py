"""Edge devices that learn where they stand: one frozen backbone, many small heads, no task label.

from edgecl import EdgeDevice
device = EdgeDevice()
device.learn("birds", "path/to/birds")
print(device.infer(["image.jpg"])[0])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before anything imports ONNX Runtime: since 1.29 its Linux builds report each session to Microsoft, and keep a device id in
# ~/.cache. What a camera runs is its owner's business. A value that is set already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
