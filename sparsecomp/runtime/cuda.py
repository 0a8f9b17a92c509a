"""An NVIDIA GPU, through its driver: what cuda-bindings' driver calls give and take."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from sparsecomp.runtime.device import DeviceError, OutOfMemory

MAIN = 0
"""The stream that copies are in order with, and that graphs begin and end on."""
HIDDEN_ARGUMENTS = 2
"""Null pointers that a Triton kernel takes behind its own arguments."""


def open_device(ordinal: int = 0) -> CudaDevice:
    """The GPU of that number. Raises DeviceError saying what is missing."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise DeviceError(
            "running on a GPU takes cuda-bindings: pip install 'sparsecomp[cuda]'"
        ) from None
    try:
        code = driver.cuInit(0)[0]
    except RuntimeError:  # of several kinds: the library is loaded by the first call
        raise DeviceError("the NVIDIA driver's library (libcuda) is not installed") from None
    if code != driver.CUresult.CUDA_SUCCESS:
        raise DeviceError(f"there is no GPU that the NVIDIA driver can use ({code.name})")
    count = _check(driver, driver.cuDeviceGetCount())
    if count == 0:
        raise DeviceError("there is no GPU that the NVIDIA driver can use")
    if ordinal >= count:
        raise DeviceError(
            f"there is no GPU number {ordinal}: each rank takes one, and the NVIDIA driver can use "
            f"{count}"
        )
    return CudaDevice(driver, _check(driver, driver.cuDeviceGet(ordinal)))


class CudaDevice:
    """One GPU and its primary context; see `device.Device`. Make one with `open_device`."""

    def __init__(self, driver: Any, handle: Any) -> None:
        self._driver = driver
        self._context = self._call("cuDevicePrimaryCtxRetain", handle)
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        attributes = driver.CUdevice_attribute
        self.arch = sum(
            scale * self._call("cuDeviceGetAttribute", attribute, handle)
            for scale, attribute in (
                (10, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                (1, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            )
        )
        self.driver = int(self._call("cuDriverGetVersion"))
        name: bytes = self._call("cuDeviceGetName", 128, handle)
        self.name = name.split(b"\0")[0].decode()

    def load(self, code: bytes, entry: str, shared: int) -> Any:
        self._enter()
        module = self._call("cuModuleLoadData", code + b"\0")
        function = self._call("cuModuleGetFunction", module, entry.encode())
        attributes = self._driver.CUfunction_attribute
        dynamic = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._call("cuFuncSetAttribute", function, dynamic, shared)
        return function

    def allocate(self, size: int) -> int:
        self._enter()
        code, address = self._driver.cuMemAlloc(max(size, 1))
        if code == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            free, _ = self._call("cuMemGetInfo")
            raise OutOfMemory(
                f"out of memory on the GPU: {size:,} bytes are needed, {free:,} are free"
            )
        _check(self._driver, (code,))
        return int(address)

    def free(self, address: int) -> None:
        self._enter()
        self._synchronise()
        self._call("cuMemFree", address)

    def write(self, address: int, host: int, size: int) -> None:
        self._enter()
        # From ordinary memory it returns when the bytes have been taken.
        self._call("cuMemcpyHtoDAsync", address, host, size, self._stream(MAIN))

    def read(self, host: int, address: int, size: int) -> None:
        self._enter()
        self._call("cuMemcpyDtoHAsync", host, address, size, self._stream(MAIN))
        self._synchronise()

    def copy(self, to: int, source: int, size: int) -> None:
        self._enter()
        self._call("cuMemcpyDtoDAsync", to, source, size, self._stream(MAIN))

    def clear(self, address: int, size: int) -> None:
        self._enter()
        self._call("cuMemsetD8Async", address, 0, size, self._stream(MAIN))

    def finish(self) -> None:
        self._enter()
        self._synchronise()

    def launch(
        self,
        function: Any,
        grid: Sequence[int],
        threads: int,
        shared: int,
        arguments: Sequence[int],
        stream: int,
    ) -> None:
        values = (ctypes.c_uint64 * (len(arguments) + HIDDEN_ARGUMENTS))(*arguments)
        first, step = ctypes.addressof(values), ctypes.sizeof(ctypes.c_uint64)
        pointers = (ctypes.c_void_p * len(values))(*(first + step * i for i in range(len(values))))
        block, of = (threads, 1, 1), self._stream(stream)
        self._call(
            "cuLaunchKernel", function, *grid, *block, shared, of, ctypes.addressof(pointers), 0
        )

    def record(self, event: int, stream: int) -> None:
        if event not in self._events:
            quick = self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
            self._events[event] = self._call("cuEventCreate", quick)
        self._call("cuEventRecord", self._events[event], self._stream(stream))

    def wait(self, event: int, stream: int) -> None:
        self._call("cuStreamWaitEvent", self._stream(stream), self._events[event], 0)

    def begin_capture(self) -> None:
        self._enter()
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._call("cuStreamBeginCapture", self._stream(MAIN), mode)

    def end_capture(self) -> Any:
        graph = self._call("cuStreamEndCapture", self._stream(MAIN))
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def replay(self, graph: Any) -> None:
        self._enter()
        self._call("cuGraphLaunch", graph, self._stream(MAIN))

    def drop(self, graph: Any) -> None:
        self._enter()
        self._call("cuGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _check(self._driver, getattr(self._driver, name)(*arguments), name)

    def _enter(self) -> None:
        """Makes the context that of this thread, which may be another than the last."""
        self._call("cuCtxSetCurrent", self._context)

    def _stream(self, number: int) -> Any:
        if number not in self._streams:
            apart = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING
            self._streams[number] = self._call("cuStreamCreate", apart)
        return self._streams[number]

    def _synchronise(self) -> None:
        self._call("cuStreamSynchronize", self._stream(MAIN))


def _check(driver: Any, result: tuple[Any, ...], name: str = "") -> Any:
    """What a driver call gave. Raises DeviceError with the driver's own words."""
    code, *values = result
    if code != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(code)
        raise DeviceError(f"the GPU failed: {text.decode()} ({name}: {code.name})")
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None
