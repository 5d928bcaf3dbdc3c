"""Where are an architecture's own public weights? Found by name, downloaded only when a task asks for `pretrained`."""

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries
from winnow_workers.models.architectures import split

_TIMEOUT_S = 15.0


def pretrained_url(architecture: str) -> str:
    """The address of the public weights of a torchvision or timm architecture.

    Raises:
        ModelError: it has none.
    """
    library, name = split(architecture)
    url: str | None = None
    if library == "torchvision":
        default = getattr(libraries.torchvision().models.get_model_weights(name), "DEFAULT", None)
        url = None if default is None else str(default.url)
    elif library == "timm":
        from huggingface_hub import hf_hub_url

        config = libraries.timm().get_pretrained_cfg(name)
        if config is not None and config.hf_hub_id:
            url = hf_hub_url(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
    if url is None:
        raise ModelError(
            f"{architecture} has no public weights", hint="give weights: {uri: ...} or weights: {random: SEED}"
        )
    return url


def public_labels(architecture: str, count: int) -> tuple[str, ...] | None:
    """The label set that an architecture's public weights were trained on, None where nobody says it."""
    models = libraries.torchvision().models
    library, name = split(architecture)
    default = getattr(models.get_model_weights(name), "DEFAULT", None) if library == "torchvision" else None
    if default is None and count == 1000:
        default = models.ResNet50_Weights.DEFAULT  # ImageNet-1k has one customary order
    labels = () if default is None else tuple(default.meta.get("categories", ()))
    return labels if len(labels) == count else None


def download(url: str) -> bytes:
    """The bytes at a hub's address.

    Raises:
        ModelError: the hub cannot be reached, or does not have them.
    """
    import httpx  # seldom needed, and slow to import

    hint = "give weights: {uri: ...} with a copy that this machine can read, or run where the hub can be reached"
    try:
        with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
            answer = client.get(url)
    except httpx.HTTPError as error:
        raise ModelError(f"cannot reach the hub at {url} ({type(error).__name__}: {error})", hint=hint) from error
    if answer.status_code != httpx.codes.OK:
        raise ModelError(f"the hub answered {answer.status_code} to {url}", hint=hint)
    return answer.content
