"""How does a text become a vector that images can be compared with? By the text tower of their CLIP or SigLIP pair."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from winnow_storage.errors import ModelError, UsageError
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.transformers_model import open_transformers, quiet_import

_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")


def text_vector(model: ResolvedModel, text: str) -> npt.NDArray[np.float64]:
    """(width,), in the space of the pair's image features, not normalised.

    Raises:
        UsageError: the model is no pair, or the text is longer than its tower reads.
        ModelError: the folder has no tokenizer that can be opened, or the weights are not those that are pinned.
    """
    if model.weights.kind != "folder":
        raise _no_pair(model.name)
    opened = open_transformers(model, "embed", device="cpu")
    pair: Any = opened.module
    if not hasattr(pair, "get_text_features"):
        raise _no_pair(model.name)
    tokenizer = open_tokenizer(opened.folder, model.name)
    longest = int(pair.config.text_config.max_position_embeddings)
    count = len(tokenizer(text)["input_ids"])
    if count > longest:
        raise UsageError(f"--text is {count} tokens long, the model reads {longest}", hint="shorten it")
    # SigLIP was trained on texts that are filled up to its longest, and looks at the last place
    padding = "max_length" if pair.config.model_type.startswith("siglip") else False
    tokens = tokenizer([text], padding=padding, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        said: Any = pair.get_text_features(
            **{key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
        )
    vector: npt.NDArray[np.float64] = getattr(said, "pooler_output", said)[0].double().numpy()
    return vector


def open_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a pair's folder; `name` is the model's, for messages.

    Raises:
        ModelError: it has none that can be opened.
    """
    if not any((folder / one).exists() for one in _VOCABULARIES):
        # the library would make one that knows no word, and say nothing
        raise _no_tokenizer(name, f"it holds none of {', '.join(_VOCABULARIES)}")
    try:
        with quiet_import():
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, OSError, ImportError, AttributeError) as error:
        raise _no_tokenizer(name, str(error).splitlines()[0] if str(error) else repr(error)) from error


def _no_tokenizer(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name}: its tokenizer cannot be opened: {why}",
        hint="the folder needs tokenizer.json and tokenizer_config.json beside its weights",
    )


def _no_pair(name: str) -> UsageError:
    return UsageError(
        f"{name} embeds images only, so no text can be compared with them",
        hint="embed with a whole CLIP or SigLIP pair: model: transformers/FOLDER",
    )
