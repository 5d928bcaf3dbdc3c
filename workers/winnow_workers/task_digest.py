"""What decides a task's predictions? Its operator, parameters and model, as one digest."""

from collections.abc import Mapping

from winnow_storage.ids import digest_value
from winnow_workers.limits import WHITE, DecodeSettings
from winnow_workers.models.reference import ResolvedModel


def task_digest(
    operator: str,
    *,
    revision: int,
    params: Mapping[str, object],
    model: ResolvedModel,
    decode: DecodeSettings = WHITE,
) -> str:
    """A task with another digest is due again. `params` are complete and plain JSON."""
    parts = {
        "operator": operator,
        "revision": revision,
        "params": dict(params),
        "model": model.digest,
        "architecture": model.architecture,
    }
    # only what was chosen, so that a new setting leaves the digests of all who do not use it as they were
    chosen = decode.model_dump(mode="json", exclude_defaults=True)
    return digest_value(parts | ({"decode": chosen} if chosen else {}))
