"""Serialisation of the data that all jobs share: arrays beside the pickle, networks by content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import pickle
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from iaside.backend.device import own_device

CACHED_MODELS = 8  # models that a worker keeps unpacked
OUT_OF_BAND_BYTES = 4096  # bytes from which an array lies beside what is pickled
LOCK = threading.RLock()  # a worker of a cluster may have several threads
_loaded: dict[str, object] = {}  # what all jobs of the last loop need
_models: dict[tuple[str, str], nn.Module] = {}  # the last ones


class Unsendable(Exception):
    """An object that cannot be sent to another process."""


class Packed(NamedTuple):
    """A pickled object with its large arrays beside it."""

    head: bytes
    beside: list[memoryview]


def packed(content: object) -> tuple[Packed, dict[str, Packed]]:
    """Pickle an object, functions of a notebook too, and its networks separately by content.

    Tensors are on the CPU afterwards. Errors: Unsendable.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def __init__(self, file, models: dict | None) -> None:
            self.models, self.known, self.beside = models, {}, []
            super().__init__(file, protocol=5, buffer_callback=self.put)

        def put(self, buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= OUT_OF_BAND_BYTES:
                self.beside.append(raw)
            return raw.nbytes < OUT_OF_BAND_BYTES  # true: with the rest

        def persistent_id(self, obj: object) -> str | None:
            if self.models is None or not isinstance(obj, nn.Module):
                return None
            if id(obj) not in self.known:
                model = pack(obj, None)
                token = hashlib.sha256(model.head)
                for part in model.beside:
                    token.update(part)
                self.known[id(obj)] = token.hexdigest()
                self.models[token.hexdigest()] = model
            return self.known[id(obj)]

        def reducer_override(self, obj: object):
            if type(obj) is not Tensor or obj.layout != torch.strided or obj.is_quantized:
                return super().reducer_override(obj)
            there = obj.cpu()
            simple = not (obj.requires_grad or obj.is_complex() or obj.is_neg() or obj.__dict__)
            if not simple or not obj.numel():
                return there.__reduce_ex__(5)
            last = sum((n - 1) * step for n, step in zip(there.shape, there.stride(), strict=True))
            if last + 1 != obj.numel():  # part of another one, or with holes
                there = there.contiguous()
            # Its stride, too: how a convolution computes may depend on it.
            flat = there.as_strided((obj.numel(),), (1,)).view(torch.uint8).numpy()
            return _tensor, (flat, obj.dtype, obj.shape, there.stride())

    def pack(content: object, models: dict | None) -> Packed:
        file = io.BytesIO()
        pickler = Pickler(file, models)
        pickler.dump(content)
        return Packed(file.getvalue(), pickler.beside)

    models: dict[str, Packed] = {}
    try:
        return pack(content, models), models
    except Exception as error:  # pickle has no kind of its own for what it does not take
        line = str(error).strip().partition("\n")[0]
        raise Unsendable(
            f"this cannot be sent to another process ({type(error).__name__}: {line})"
        ) from error


def _tensor(flat: np.ndarray, dtype: torch.dtype, shape: torch.Size, stride: tuple) -> Tensor:
    return torch.from_numpy(flat).view(dtype).as_strided(shape, stride)


class Shared:
    """The data that all jobs of a loop share, as a worker reads them.

    token: of that;  kind: of the device to compute on.
    """

    token: str
    kind: str

    def read(self, token: str) -> Packed:
        raise NotImplementedError

    def content(self) -> object:
        with LOCK:
            if self.token not in _loaded:
                _loaded.clear()
                _loaded[self.token] = self._unpack(self.token)
            return _loaded[self.token]

    def _unpack(self, token: str) -> object:
        head, beside = self.read(token)
        unpickler = pickle.Unpickler(io.BytesIO(head), buffers=beside)
        unpickler.persistent_load = self._model
        return unpickler.load()

    def _model(self, token: str) -> nn.Module:
        key = token, self.kind
        model = _models.pop(key, None)  # and behind the others again
        _models[key] = model or self._unpack(token).to(own_device(self.kind))
        for old in list(_models)[:-CACHED_MODELS]:
            del _models[old]
        return _models[key]


class Mapped(Shared):
    """Shared data in files that all processes map: in memory once."""

    def __init__(self, token: str, kind: str, files: dict[str, Path]) -> None:
        self.token, self.kind, self.files = token, kind, files

    def read(self, token: str) -> Packed:
        with self.files[token].open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        size = int.from_bytes(whole[:8], "little")
        places = pickle.loads(whole[8 : 8 + size])
        parts = [whole[start:end] for start, end in places]
        return Packed(bytes(parts[0]), parts[1:])


def write_packed(path: Path, content: Packed) -> Path:
    """A file of the places of all parts, and these, each where a tensor would begin in memory."""
    parts, places, end = [memoryview(content.head), *content.beside], [], 0
    room = 4096 + 64 * len(parts)  # the places do not take more
    for part in parts:
        start = end or room
        end = start + part.nbytes
        places.append((start, end))
        end += -end % 64
    index = pickle.dumps(places)
    with path.open("wb") as file:
        file.write(len(index).to_bytes(8, "little") + index)
        for (start, _), part in zip(places, parts, strict=True):
            file.seek(start)
            file.write(part)
    return path


def remove(path: Path) -> None:
    """Remove a file; processes that map it keep it, and a locked one goes with its folder."""
    with contextlib.suppress(OSError):
        path.unlink()
