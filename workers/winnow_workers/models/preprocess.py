"""How does a view become a model's input, and which part of the image shows where in that input?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from winnow_storage.ids import digest_value
from winnow_workers.models.model_file import Preprocessing

if TYPE_CHECKING:
    import torch

    from winnow_workers.operator import PixelsHWC

_LONGEST = 4  # times the shorter side: of what is longer still, only the middle is scaled before the centre is cut
_REVISION = 1  # raised when the same Preprocessing gives other tensors than before


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The part of the image that the model sees (`source`), and where in its input that part lies (`target`)."""

    source: Window
    target: Window


def placement(width_px: int, height_px: int, preprocessing: Preprocessing) -> Placement:
    """Which part of an image of these sides goes where."""
    goal_w, goal_h = preprocessing.width_px, preprocessing.height_px
    source, target = Window(0, 0, width_px, height_px), Window(0, 0, goal_w, goal_h)
    if preprocessing.resize_px is not None:
        source = _cut(width_px, height_px, preprocessing).shown
    elif preprocessing.fit == "crop":
        width = min(width_px, max(1, round(height_px * goal_w / goal_h)))
        height = min(height_px, max(1, round(width_px * goal_h / goal_w)))
        source = Window((width_px - width) // 2, (height_px - height) // 2, width, height)
    elif preprocessing.fit == "pad":
        width = min(goal_w, max(1, round(width_px * goal_h / height_px)))
        height = min(goal_h, max(1, round(height_px * goal_w / width_px)))
        target = Window((goal_w - width) // 2, (goal_h - height) // 2, width, height)
    return Placement(source, target)


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the shorter side becomes `resize_px` before the centre is cut, with the rounding of torchvision's transforms.

    The `middle` of the image is scaled to `height` x `width` px, and `centre` cut out of that. It is what `shown` of
    the image shows, rounded to pixels.
    """

    middle: Window
    width: int
    height: int
    centre: Window
    shown: Window


def _cut(width_px: int, height_px: int, preprocessing: Preprocessing) -> _Cut:
    shorter, side_px = min(width_px, height_px), preprocessing.resize_px or 1
    wide, high = min(width_px, _LONGEST * shorter), min(height_px, _LONGEST * shorter)
    middle = Window((width_px - wide) // 2, (height_px - high) // 2, wide, high)
    width, height = side_px * wide // shorter, side_px * high // shorter
    goal_w, goal_h = preprocessing.width_px, preprocessing.height_px
    centre = Window(round((width - goal_w) / 2), round((height - goal_h) / 2), goal_w, goal_h)
    left, top = middle.left + centre.left * wide // width, middle.top + centre.top * high // height
    shown = Window(left, top, max(1, round(goal_w * wide / width)), max(1, round(goal_h * high / height)))
    return _Cut(middle, width, height, centre, shown)


def to_tensor(pixels: "PixelsHWC", preprocessing: Preprocessing) -> "torch.Tensor":
    """(channels, height_px, width_px) float32 of uint8 RGB (height, width, 3): antialiased.

    One channel is Rec. 601 luma. Padding is `pad_value`, else the mean's colour: zero.
    """
    import torch

    place = placement(pixels.shape[1], pixels.shape[0], preprocessing)
    target = place.target
    values = _scaled(pixels, preprocessing, place).to(torch.float32)
    if preprocessing.channels == 1:
        values = (values * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0, keepdim=True)
    values.div_(255.0).sub_(torch.tensor(preprocessing.mean).view(-1, 1, 1))
    values.div_(torch.tensor(preprocessing.std).view(-1, 1, 1))
    if (target.width, target.height) == (preprocessing.width_px, preprocessing.height_px):
        return values
    canvas = torch.zeros((preprocessing.channels, preprocessing.height_px, preprocessing.width_px))
    if preprocessing.pad_value is not None:
        around = preprocessing.pad_value / 255.0 - torch.tensor(preprocessing.mean).view(-1, 1, 1)
        canvas += around / torch.tensor(preprocessing.std).view(-1, 1, 1)
    canvas[:, target.top : target.top + target.height, target.left : target.left + target.width] = values
    return canvas


def to_canvas(pixels: "PixelsHWC", preprocessing: Preprocessing) -> "torch.Tensor":
    """What `to_tensor` scales, before it is made numbers: uint8 (3, height_px, width_px), channels last in memory.

    With `fit: pad` there is a fourth channel, 255 where the image is and 0 around it. `normaliser.Normaliser` makes
    the numbers of a batch.
    """
    import torch

    place = placement(pixels.shape[1], pixels.shape[0], preprocessing)
    scaled = _scaled(pixels, preprocessing, place)
    if preprocessing.fit != "pad":
        return scaled
    target = place.target
    canvas = torch.zeros((preprocessing.height_px, preprocessing.width_px, 4), dtype=torch.uint8).permute(2, 0, 1)
    inside = canvas[:, target.top : target.top + target.height, target.left : target.left + target.width]
    inside[:3].copy_(scaled)
    inside[3].fill_(255)
    return canvas


def _scaled(pixels: "PixelsHWC", preprocessing: Preprocessing, place: Placement) -> "torch.Tensor":
    if preprocessing.resize_px is None:
        target = place.target
        return _resized(pixels, place.source, (target.height, target.width), preprocessing)[0]
    import torch

    cut = _cut(pixels.shape[1], pixels.shape[0], preprocessing)
    scaled = _resized(pixels, cut.middle, (cut.height, cut.width), preprocessing)
    top, left = cut.centre.top, cut.centre.left
    centre = scaled[:, :, top : top + cut.centre.height, left : left + cut.centre.width]
    return centre.contiguous(memory_format=torch.channels_last)[0]


def _resized(
    pixels: "PixelsHWC", source: Window, size: tuple[int, int], preprocessing: Preprocessing
) -> "torch.Tensor":
    """(1, 3, rows, columns) uint8 of a part of an image."""
    import torch
    from torch.nn import functional

    part = pixels[source.top : source.top + source.height, source.left : source.left + source.width]
    if not part.flags.writeable:  # torch takes no others
        part = part.copy()
    # stays channels last in memory to the end: faster to scale, and as the batch will lie
    nchw = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)
    return functional.interpolate(nchw, size, mode=preprocessing.interpolation, antialias=True)


def preproc_id(preprocessing: Preprocessing) -> str:
    """An id of what is done to pixels before the model, such as "p1-224x224-crop-3f2a9c01"."""
    digest = digest_value({"revision": _REVISION, **preprocessing.model_dump(mode="json")})
    size = f"{preprocessing.width_px}x{preprocessing.height_px}"
    return f"p{_REVISION}-{size}-{preprocessing.fit}-{digest[:8]}"


def needed_side_px(preprocessing: Preprocessing) -> int:
    """The shortest side that a view needs so that scaling only ever goes down."""
    return max(preprocessing.width_px, preprocessing.height_px, preprocessing.resize_px or 0)
