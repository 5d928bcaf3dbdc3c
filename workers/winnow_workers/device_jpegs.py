"""Which JPEGs does a CUDA device decode, in what company, and may it? Usual ones, in batches, if it decodes alike.

Asked for by `decode.jpeg: gpu` or `auto`; the decoder is torchvision's, by nvJPEG. Its pixels are a little other than
libjpeg-turbo's (it does not smooth colour that is stored at half the size), so that what it made is named in the rows.
What it refuses is left to the CPU, image by image: which decoder makes the pixels of a file is the file's own doing,
not that of its company or of the time.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from winnow_storage.errors import EnvironmentFault
from winnow_workers.jpeg import LEAST_SIDE_PX, PlainJpeg
from winnow_workers.limits import JpegDecoder

if TYPE_CHECKING:
    import torch

    from winnow_workers.operator import PixelsHWC

NVJPEG = "nvjpeg"  # what rows say
AT_ONCE = 16  # files in a batch, and so threads that may wait for one
PIXELS_AT_ONCE = 64 * 2**20  # and their pixels, at full size on the device; one that has more is decoded alone
_END = b"\xff\xd9"

# From encoded bytes to (3, height, width) uint8 on the device; a RuntimeError is about the whole list
DecodeFiles = Callable[["list[torch.Tensor]"], "list[torch.Tensor]"]


class Streams(Protocol):
    """What is needed of torch.cuda."""

    def Stream(self) -> Any: ...  # noqa: D102, N802
    def stream(self, stream: Any) -> AbstractContextManager[Any]: ...  # noqa: D102
    def default_stream(self) -> Any: ...  # noqa: D102


@dataclass(slots=True)
class _Asked:
    data: bytes
    scale: int
    pixel_count: int
    pixels: "PixelsHWC | None" = None
    is_done: bool = False


class DeviceJpegs:
    """Decodes JPEGs for many threads, each of which asks for one: those that wait go to the device together."""

    def __init__(self, decode_files: DecodeFiles, streams: Streams) -> None:
        self._decode_files = decode_files
        self._streams = streams
        self._stream = streams.Stream()
        self.refusal = ""  # why a file was refused last
        self._waiting: list[_Asked] = []
        self._list = threading.Lock()
        self._device = threading.Lock()

    def decode(self, data: bytes, found: PlainJpeg, scale: int) -> "PixelsHWC | None":
        """(height, width, 3) uint8 RGB as stored, each the mean of `scale` x `scale` pixels; None if that is refused.

        A file without its end is refused: damage is for the CPU to find.
        """
        if min(found.width_px, found.height_px) // scale < LEAST_SIDE_PX or data[-2:] != _END:
            return None
        asked = _Asked(data, scale, found.width_px * found.height_px)
        with self._list:
            self._waiting.append(asked)
        # whoever has the device decodes for all that wait; the others find theirs done
        with self._device:
            while not asked.is_done:
                self._decode_batch(self._next_batch())
        return asked.pixels

    def _next_batch(self) -> list[_Asked]:
        with self._list:
            count = pixels = 0
            for asked in self._waiting[:AT_ONCE]:
                pixels += asked.pixel_count
                if count and pixels > PIXELS_AT_ONCE:
                    break
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _decode_batch(self, batch: Sequence[_Asked]) -> None:
        try:
            for asked, pixels in zip(batch, self._pixels(batch), strict=True):
                asked.pixels = pixels
        except RuntimeError as error:
            if len(batch) == 1:
                self.refusal = str(error).strip().partition("\n")[0]
                return
            for asked in batch:  # it is not said which of them
                self._decode_batch([asked])
        finally:
            for asked in batch:
                asked.is_done = True

    def _pixels(self, batch: Sequence[_Asked]) -> "list[PixelsHWC]":
        import torch

        files = [torch.frombuffer(bytearray(asked.data), dtype=torch.uint8) for asked in batch]
        with self._streams.stream(self._stream):
            images = self._decode_files(files)
            # torchvision has had its own stream waited for by the current or by the default one, by its version
            self._streams.default_stream().synchronize()
            on_host = [
                scaled_down(image, asked.scale).permute(1, 2, 0).contiguous().to("cpu", non_blocking=True)
                for image, asked in zip(images, batch, strict=True)
            ]
            # on an H100 nvJPEG's engine is reported to write without regard to what is queued before it
            # (https://github.com/meta-pytorch/torchcodec/pull/1634): nothing may be, in memory of this stream, when it
            # is next asked
            self._stream.synchronize()
        return [one.numpy() for one in on_host]


def scaled_down(image_chw: "torch.Tensor", scale: int) -> "torch.Tensor":
    """The mean of each `scale` x `scale` pixels, rounded: what a JPEG decoded at 1/`scale` shows, to a level."""
    import torch
    from torch.nn import functional

    if scale == 1:
        return image_chw
    means = functional.avg_pool2d(image_chw.to(torch.float32), scale, ceil_mode=True, count_include_pad=False)
    return means.add_(0.5).to(torch.uint8)


def open_device_jpegs(asked: JpegDecoder, device: str) -> DeviceJpegs | None:
    """The decoder that is asked for, if it is there and decodes alike; None: all JPEGs are decoded on the CPU.

    Raises:
        EnvironmentFault: `gpu` is asked for and cannot be had.
    """
    from winnow_workers.jpeg_agreement import MOST_LEVELS, farthest_levels

    if asked == "cpu" or (asked == "auto" and device != "cuda"):
        return None
    if device != "cuda":
        raise _not_here(f"this process works on {device}")
    try:
        decoder = _nvjpeg()
        levels = farthest_levels(decoder)
    except RuntimeError as error:  # no torchvision that decodes, or no device
        if asked == "gpu":
            raise _not_here(str(error).strip().partition("\n")[0]) from error
        return None
    if levels is not None and levels <= MOST_LEVELS:
        return decoder
    if asked == "auto":
        return None
    if levels is None:
        raise _not_here(decoder.refusal or "its pictures of some files are of another size")
    raise _not_here(f"its pixels are {levels:.1f} levels of 255 from the CPU's; at most {MOST_LEVELS:g} are taken")


def _not_here(why: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"decode.jpeg is gpu, and JPEGs cannot be decoded on a GPU here: {why}",
        hint="write decode: {jpeg: auto}, which uses the GPU only where that works, or cpu",
    )


def _nvjpeg() -> DeviceJpegs:
    """Raises:
    RuntimeError: this torchvision has no decoder for the device.
    """
    import torch

    from winnow_workers.models.libraries import torchvision

    io = torchvision().io
    if not hasattr(io, "decode_jpeg"):
        raise RuntimeError("this torchvision decodes no JPEGs")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torchvision\.io\.")  # for TorchCodec

    def decode_files(files: "list[torch.Tensor]") -> "list[torch.Tensor]":
        images: list[torch.Tensor] = io.decode_jpeg(files, mode=io.ImageReadMode.RGB, device="cuda")
        return images

    return DeviceJpegs(decode_files, torch.cuda)
