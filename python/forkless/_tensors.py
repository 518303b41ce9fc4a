"""Tensors of torch in main memory: what they travel as, and how they are shared.

torch registers reducers of its own for the pickles of `multiprocessing`, which put each tensor into a file in
/dev/shm. Ours come first: a tensor's bytes travel beside the pickle, or, if they lie in a shared buffer, as
a reference to that, with whatever strides. Devices, sparse layouts and whatever else has no bytes in main
memory are left to torch.

A tensor that torch itself has shared (`share_memory_`, `Module.share_memory`) stays shared: the descriptor of
its memory travels. Not so from a worker of a `DataLoader`, where torch collates batches in such memory: these
are messages, and one copy is cheaper than a descriptor and a mapping for each.

torch knows no tensor that is read-only. One over shared memory looks like any other, and a write to it is a
fault (SIGSEGV) at the line that writes: nobody else's data changes, and `WorkerDied` shows the line. A
private mapping would let the write succeed instead, for this process alone, and each would have other data.
"""

import os
import sys
import warnings
from functools import lru_cache
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from ._beside import raw
from ._forkless import SharedBuffer, find_shared

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._pickling import Pickler
    from .reduction import DupFd

__all__ = [
    "parameter_of",
    "reduce_tensor",
    "share_tensor",
    "shared_storage_of",
    "shared_tensor_of",
    "storage_of",
    "tensor_of",
]


def reduce_tensor(pickler: "Pickler", tensor: Any) -> Any:
    """A reference to the memory of a tensor, or its bytes; `NotImplemented` for what is left to torch.

    Args:
        pickler: What asks.
        tensor: Any object of torch: a parameter is a tensor, and a storage is what tensors are made of.
    """
    torch = sys.modules["torch"]
    if type(tensor) is torch.nn.Parameter:
        return parameter_of, (tensor.detach(), tensor.requires_grad)
    if type(tensor) is torch.UntypedStorage and tensor.device.type == "cpu":
        shared = _how_shared(pickler, tensor)
        if shared:
            return _by_descriptor(tensor) if shared == "file_descriptor" else NotImplemented
        return storage_of, (torch.empty(0, dtype=torch.uint8).set_(tensor),)
    if type(tensor) is not torch.Tensor or _why_not(tensor) or not tensor.is_leaf:
        return NotImplemented
    if _how_shared(pickler, tensor):
        place = tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        return shared_tensor_of, (storage_of(tensor), *place, tensor.requires_grad)
    found = _find(tensor) if pickler.leased else None
    if found is not None:
        buffer, start = found
        return tensor_of, _arguments(tensor, buffer, tensor.stride(), start)
    array, stride = _bytes_of(tensor)
    return tensor_of, _arguments(tensor, PickleBuffer(array), stride, 0)


def _arguments(tensor: Any, buffer: "Buffer", stride: tuple[int, ...], start: int) -> tuple[Any, ...]:
    return buffer, tensor.dtype, tuple(tensor.shape), stride, start, tensor.requires_grad


def tensor_of(
    buffer: "Buffer",
    dtype: Any,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    start: int,
    requires_grad: bool = False,
) -> Any:
    """A tensor over a buffer, without a copy.

    Args:
        buffer: What has its items.
        dtype: Their type.
        shape: Items in each dimension.
        stride: Items from one to the next in each dimension.
        start: Bytes before the first.
        requires_grad: As for `torch.tensor`.
    """
    torch = _torch()
    if 0 in shape:
        tensor = torch.empty_strided(shape, stride, dtype=dtype)
    else:
        flat = torch.frombuffer(raw(buffer), dtype=dtype, count=_span(shape, stride), offset=start)
        tensor = flat.as_strided(shape, stride)
    return tensor.requires_grad_() if requires_grad else tensor


def parameter_of(tensor: Any, requires_grad: bool) -> Any:
    """A parameter of a model over the memory of a tensor."""
    return _torch().nn.Parameter(tensor, requires_grad)


def storage_of(tensor: Any) -> Any:
    """The storage of a tensor."""
    # Since 2.0; the other way is deprecated since then.
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage().untyped()


def _how_shared(pickler: "Pickler", tensor: Any) -> str:
    """The strategy by which torch has shared a tensor's or a storage's memory; "" if it is to be copied."""
    size = tensor.nbytes() if callable(tensor.nbytes) else tensor.nbytes
    if not pickler.leased or not size or not tensor.is_shared():
        return ""
    loader = sys.modules.get("torch.utils.data")
    if loader is not None and loader.get_worker_info() is not None:
        return ""
    strategy: str = sys.modules["torch"].multiprocessing.get_sharing_strategy()
    return strategy


def _by_descriptor(storage: Any) -> tuple[Any, ...]:
    from .reduction import DupFd

    fd, size = storage._share_fd_cpu_()
    return shared_storage_of, (DupFd(fd), size)


def shared_storage_of(dup: "DupFd", size: int) -> Any:
    """The storage over memory that torch has shared.

    Args:
        dup: The descriptor of that memory.
        size: In bytes.
    """
    fd = dup.detach()
    try:
        return _torch().UntypedStorage._new_shared_fd_cpu(fd, size)
    finally:
        os.close(fd)


def shared_tensor_of(
    storage: Any, dtype: Any, start: int, shape: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool
) -> Any:
    """A tensor over a storage; `start` counts items, the rest is as for `tensor_of`."""
    tensor = _torch().empty(0, dtype=dtype).set_(storage, start, shape, stride)
    return tensor.requires_grad_() if requires_grad else tensor


def share_tensor(tensor: Any) -> Any:
    """A tensor over a copy in shared memory; see `forkless.share`."""
    torch = sys.modules["torch"]
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"cannot share {type(tensor).__qualname__!r} object: of torch, share() takes tensors")
    reason = _why_not(tensor)
    if reason is None and tensor.requires_grad:
        reason = "that requires a gradient: share tensor.detach()"
    if reason is None and type(tensor) is not torch.Tensor:
        reason = f"of type {type(tensor).__qualname__!r}: share tensor.as_subclass(torch.Tensor)"
    if reason is not None:
        raise TypeError(f"cannot share a tensor {reason}")
    if not tensor.numel() or _find(tensor) is not None:
        return tensor
    array, stride = _bytes_of(tensor)
    return tensor_of(*_arguments(tensor, SharedBuffer(array), stride, 0))


def _why_not(tensor: Any) -> str | None:
    """Why a tensor is not bytes in main memory, and what to do; None if it is."""
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        return f"on the device {str(tensor.device)!r}: share tensor.cpu()"
    if tensor.is_quantized:
        return "that is quantized: share tensor.int_repr(), or tensor.dequantize()"
    if tensor.layout is not torch.strided or getattr(tensor, "is_nested", False):
        return f"of layout {tensor.layout}: share its parts, or a dense one, as of tensor.to_dense()"
    return None


def _find(tensor: Any) -> tuple[SharedBuffer, int] | None:
    """The shared buffer that has all items of a tensor, and where the first one is."""
    if tensor.is_conj() or tensor.is_neg():
        return None  # Its items are not what is in memory.
    span = _span(tensor.shape, tensor.stride()) if tensor.numel() else 0
    return find_shared(tensor.data_ptr(), span * tensor.element_size())


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Items from the first to the last, with those between them."""
    return 1 + sum((count - 1) * step for count, step in zip(shape, stride, strict=True))


def _bytes_of(tensor: Any) -> tuple[Any, tuple[int, ...]]:
    """The bytes of a tensor as an array, and the strides that go with them: its own, if it has no gaps."""
    torch = sys.modules["torch"]
    whole = tensor.detach().resolve_conj().resolve_neg()
    order = sorted(range(whole.dim()), key=whole.stride, reverse=True)
    if not whole.permute(order).is_contiguous():
        whole, order = whole.contiguous(), list(range(whole.dim()))
    flat = whole.permute(order).reshape(-1)
    return flat.view(torch.uint8).numpy(), whole.stride()


@lru_cache(maxsize=1)
def _torch() -> Any:
    """The module, once it has given its only warning of tensors over memory that is read-only."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)
    return torch
