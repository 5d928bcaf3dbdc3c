"""How does an ONNX file take the place of a network? As a module that gives a batch of images to ONNX Runtime."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from winnow_storage.errors import ModelError
from winnow_workers.models.architectures import ONNX, default_preprocessing
from winnow_workers.models.model_file import ModelCard
from winnow_workers.models.onnx_file import card_of, open_session
from winnow_workers.models.reference import ResolvedModel

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxModule(nn.Module):
    """(n, channels, height, width) float32 to the file's first output, float32.

    A file whose card says `extra: {outputs: probabilities}` is read as if it gave logits. One with a fixed batch is
    given that many at a time, the last ones filled up with zeros.
    """

    def __init__(self, session: Any, *, name: str, card: ModelCard | None) -> None:
        """Look at what goes in and comes out.

        Raises:
            ModelError: another input than one batch of images in floats.
        """
        super().__init__()
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
            said = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
            raise ModelError(
                f"{name}: its inputs are {said}", hint="export it with one input (n, channels, height, width) of floats"
            )
        self._session = session
        self.kind = card.kind if card is not None else None
        self._are_probabilities = card is not None and card.extra.get("outputs") == "probabilities"
        self._name = name
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self._shape = tuple(one if isinstance(one, int) else None for one in inputs[0].shape)
        self._output = outputs[0].name

    def forward(self, images_nchw: Tensor) -> Tensor:
        """What the file answers.

        Raises:
            ModelError: the file takes images of another shape.
        """
        given = tuple(images_nchw.shape[1:])
        if any(own is not None and own != one for own, one in zip(self._shape[1:], given, strict=True)):
            raise ModelError(
                f"{self._name}: the file takes (channels, height, width) {self._shape[1:]}, it is given {given}",
                hint="correct input: in the task, or the preprocessing in the file's card",
            )
        pixels = np.ascontiguousarray(images_nchw.detach().cpu().numpy().astype(self._type))
        size = self._shape[0] or len(pixels)
        answers = [self._run(pixels[start : start + size], size) for start in range(0, len(pixels), size)]
        found = torch.from_numpy(np.concatenate(answers)).to(images_nchw.device)
        # their logarithms are logits of the same softmax
        return found.clamp_min(1e-30).log() if self._are_probabilities else found

    def _run(self, part: Any, size: int) -> Any:
        full = part
        if len(part) < size:
            full = np.zeros((size, *part.shape[1:]), part.dtype)
            full[: len(part)] = part
        (answer,) = self._session.run([self._output], {self._input: full})
        return np.asarray(answer, np.float32)[: len(part)]


def open_onnx(model: ResolvedModel, *, device: str) -> tuple[OnnxModule, ModelCard]:
    """An ONNX file as a module, and its card, with the preprocessing of what it was exported from if it says none.

    Raises:
        ModelError: as `open_session`, `card_of` and OnnxModule.
        StoreError: the store cannot be reached or refuses.
    """
    session = open_session(model, device=device, threads=torch.get_num_threads())
    card, labels = card_of(session, where=model.name)
    if card is None:
        return OnnxModule(session, name=model.name, card=None), ModelCard(architecture=ONNX, labels=labels)
    if card.preprocessing is None and card.architecture != ONNX:
        card = card.model_copy(update={"preprocessing": default_preprocessing(card.architecture)})
    return OnnxModule(session, name=model.name, card=card), card
