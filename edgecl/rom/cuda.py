"""The NVIDIA driver, as far as TensorRT needs it: which GPU is there, memory on it, and a stream. No package, no toolkit.

Calls libcuda, which every NVIDIA driver brings, through ctypes. The device's primary context is used, the one that TensorRT
and torch share, so memory from here is good there.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import RuntimeUnavailable

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NO_DEVICE = 100  # what the driver answers where it finds, or may show, no GPU
_NON_BLOCKING = 1  # a stream that does not wait for the default one
_CALLS = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [c_void_p],
    "cuDeviceGetCount": [c_void_p],
    "cuDeviceGet": [c_void_p, c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [c_void_p, c_int, c_int],
    "cuDevicePrimaryCtxRetain": [c_void_p, c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuStreamCreate": [c_void_p, c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuMemAlloc_v2": [c_void_p, c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
}


class Gpu:
    """The first GPU that the driver shows (CUDA_VISIBLE_DEVICES chooses), with a stream on it; close it.

    name: as the driver calls it.   sm: its compute capability, "86" for 8.6.   driver: the CUDA version it speaks, "13.0".
    A thread calls `enter` before it uses the others. Raises RuntimeUnavailable where there is no driver or no GPU.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
            for call, types in _CALLS.items():
                getattr(self._library, call).argtypes = types
        except (OSError, AttributeError) as error:
            raise RuntimeUnavailable(
                f"there is no usable NVIDIA driver on this machine ({error}); install the driver of your GPU, or "
                f"use --runtime onnxruntime"
            ) from error
        count, version, device = c_int(), c_int(), c_int()
        if self._library.cuInit(0) != _NO_DEVICE:
            self._call("cuInit", 0)
            self._call("cuDeviceGetCount", byref(count))
        if not count.value:
            raise RuntimeUnavailable(
                "the NVIDIA driver shows no GPU; look at CUDA_VISIBLE_DEVICES, or use --runtime onnxruntime"
            )
        self._call("cuDriverGetVersion", byref(version))
        self._call("cuDeviceGet", byref(device), 0)
        self._device = device.value
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        self.name = name.value.decode(errors="replace")
        self.sm = f"{self._attribute(_MAJOR)}{self._attribute(_MINOR)}"
        self.driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
        self._context, stream = c_void_p(), c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self.enter()
        self._call("cuStreamCreate", byref(stream), _NON_BLOCKING)
        self.stream = int(stream.value or 0)

    def _attribute(self, which: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), which, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            text = c_char_p()
            self._library.cuGetErrorString(status, byref(text))
            said = text.value.decode(errors="replace") if text.value else "unknown error"
            raise RuntimeUnavailable(f"the NVIDIA driver refused {name}: {said} (error {status})")

    def enter(self) -> None:
        """Make the GPU's context that of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the GPU; give them back with `free`."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self._call("cuMemFree_v2", address)

    def upload(self, address: int, values: NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU, in the stream's order; it must live until `wait`."""
        self._call("cuMemcpyHtoDAsync_v2", address, values.ctypes.data, values.nbytes, self.stream)

    def download(self, values: NDArray[Any], address: int) -> None:
        """Copy from the GPU into a contiguous array, which is filled after `wait`."""
        self._call("cuMemcpyDtoHAsync_v2", values.ctypes.data, address, values.nbytes, self.stream)

    def wait(self) -> None:
        """Until all that was put into the stream is done."""
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Give the stream and the context back."""
        self.enter()
        self._call("cuStreamDestroy_v2", self.stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)


class Buffer:
    """Float32 memory on a GPU that grows when more is asked of it, and never shrinks."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._size, self.address = gpu, 0, 0

    def room(self, shape: tuple[int, ...]) -> int:
        """The address of room for `shape` float32; what was there before is lost when it grows."""
        size = 4 * int(np.prod(shape))
        if size > self._size:
            self.close()
            self.address, self._size = self._gpu.allocate(size), size
        return self.address

    def close(self) -> None:
        """Give the memory back."""
        if self._size:
            self._gpu.free(self.address)
            self._size = 0
