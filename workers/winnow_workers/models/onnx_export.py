"""How does a registered network become an ONNX file? Exported by torch, and only kept if it answers alike."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_workers.models.load import keep
from winnow_workers.models.model_file import ModelCard
from winnow_workers.models.onnx_file import check_onnx, with_card
from winnow_workers.models.variants import Compared, OpenForm, Pixels, compare, file_model, open_form

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-3  # of the raw outputs, over the largest of them
AGREES = 0.995  # pixels next to a border between two classes may fall either way
OPSET = 18


def export(form: OpenForm, *, where: str, parent: str) -> bytes:
    """One ONNX file of a form, `images` (n, channels, height, width) to `outputs`, with a card.

    Raises:
        ModelError: torch cannot export this network.
    """
    import torch

    with torch.inference_mode(mode=False):
        data = _exported(_Plain.of(form.module), form, where=where)
    return with_card(data, described(form, parent), where=where)


def described(form: OpenForm, parent: str) -> ModelCard:
    """The card of an ONNX file that was made from a form: what has to be known without its library."""
    return form.card.model_copy(
        update={"arguments": {}, "kind": form.kind, "parent": parent, "preprocessing": form.input, "variant": None}
    )


def checked(form: OpenForm, data: bytes, images: Sequence[Pixels], *, where: str) -> tuple[bytes, Compared]:
    """The file with the parity in its card, once it answers as the network does.

    Raises:
        ModelError: it does not.
    """
    found = compare(form, open_bytes(data, form, where=where), images)
    allowed = TOLERANCE * max(1.0, found.largest_output)
    if found.max_abs_difference > allowed or found.agreement < AGREES:
        raise ModelError(
            f"the ONNX file of {where} answers otherwise than torch on {found.images} images: outputs differ by "
            f"up to {found.max_abs_difference:.2g} (allowed {allowed:.2g}), agreement {found.agreement:.4f} (needed "
            f"{AGREES})",
            hint="nothing was written; keep the model as safetensors",
        )
    card = check_onnx(data, where=where)
    metrics = dict(card.metrics if card else {}) | {
        "parity_images": found.images,
        "parity_agreement": found.agreement,
        "parity_max_abs_difference": found.max_abs_difference,
    }
    base = card or described(form, where)
    return with_card(data, base.model_copy(update={"metrics": metrics}), where=where), found


def open_bytes(data: bytes, form: OpenForm, *, where: str) -> OpenForm:
    """A made file, opened as a run would open it."""
    sha256 = digest_bytes(data)
    keep(data, sha256)  # so that it is found by its digest; it has no other place yet
    return open_form(file_model(f"file:///{sha256}.onnx", sha256, name=where), form.kind)


class _Plain:
    """Where a network gives a dictionary (torchvision's segmenters), its `out` alone."""

    @staticmethod
    def of(module: "nn.Module") -> "nn.Module":
        """The module, within one that gives a tensor."""
        from torch import Tensor, nn

        class Out(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, images: Tensor) -> Tensor:
                answer = self.inner(images)
                found: Tensor = answer["out"] if isinstance(answer, dict) else answer
                return found

        return Out(module).eval()


def _exported(module: "nn.Module", form: OpenForm, *, where: str) -> bytes:
    import torch

    preprocessing = form.input
    sample = torch.zeros(2, preprocessing.channels, preprocessing.height_px, preprocessing.width_px)
    for batch in ({0: torch.export.Dim("n", min=1, max=4096)}, None):
        try:
            with quietly():
                program = torch.onnx.export(
                    module,
                    (sample,),
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=["images"],
                    output_names=["outputs"],
                    dynamic_shapes=None if batch is None else {"images": batch},
                    external_data=False,
                    verbose=False,
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            if batch is None:
                raise ModelError(
                    f"{where}: torch cannot export {form.card.architecture} to ONNX: {first_line(error)}",
                    hint="keep it as safetensors",
                ) from error
            continue  # some networks are bound to the number of images that they were traced with
        if program is None:
            continue
        model: Any = program.model_proto
        return bytes(model.SerializeToString(deterministic=True))
    raise ModelError(f"{where}: torch gave no ONNX program", hint="keep it as safetensors")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The exporter talks on stdout and warns of its own deprecations, which nobody here can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def first_line(error: Exception) -> str:
    """What an exporter's error says, without the report that follows."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
