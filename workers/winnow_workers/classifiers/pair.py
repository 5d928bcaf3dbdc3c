"""How does a pair of towers classify without training? Its text tower says once what each label looks like.

CLIP (Radford et al., 2021): softmax over exp(scale) * cosine. SigLIP (Zhai et al., 2023): sigmoid of
exp(scale) * cosine + bias, each label by itself.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.classifier import Asked, Classifier
from winnow_workers.classifiers.image_input import folder_input
from winnow_workers.classifiers.opening import batch_of
from winnow_workers.classifiers.prompts import Prompts
from winnow_workers.models.pair_text import open_tokenizer
from winnow_workers.models.transformers_model import open_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROMPTS_AT_ONCE = 32


class ImageTower(nn.Module):
    """(n, 3, h, w) images to (n, labels) logits, beside the labels' embeddings (labels, features)."""

    labels_lf: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, pair: Any, labels_lf: Tensor) -> None:
        super().__init__()
        self._vision: nn.Module = pair.vision_model
        self._projection: nn.Module = getattr(pair, "visual_projection", None) or nn.Identity()
        self.register_buffer("labels_lf", labels_lf)
        self.register_buffer("scale", pair.logit_scale.detach().exp().reshape(()))
        bias = getattr(pair, "logit_bias", None)
        self.register_buffer("bias", torch.zeros(()) if bias is None else bias.detach().reshape(()))

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Logits."""
        seen: Any = self._vision(pixel_values=images_nchw)
        features = functional.normalize(self._projection(seen.pooler_output), dim=-1)
        logits: Tensor = features @ self.labels_lf.T * self.scale + self.bias
        return logits


def open_pair(asked: Asked, family: str) -> Classifier:
    """A CLIP or SigLIP pair with the task's labels, whose text tower is let go of.

    Raises:
        ModelError: no labels, prompts that do not fit, no tokenizer, or weights that do not fit.
    """
    name = asked.model.name
    if not asked.labels:
        raise ModelError(
            f"{name}: a pair has no labels of its own", hint="add labels: [...], which it is asked for in words"
        )
    try:
        prompts = (asked.prompts or Prompts()).of(asked.labels)
    except ValueError as error:
        raise ModelError(f"{name}: {error}", hint=f"the labels are {', '.join(asked.labels[:10])}") from error
    opened = open_transformers(asked.model, "embed", device="cpu")
    tokens = _Tokens(open_tokenizer(opened.folder, name), opened.module, family, name)
    labels_lf = embed_labels(opened.module, tokens, prompts)
    image_input = folder_input(opened.folder, asked.input, name)
    tower = ImageTower(opened.module, labels_lf).eval().to(asked.device)
    is_clip = family == "clip"
    return Classifier(
        batch_of(tower, image_input, asked),
        image_input,
        asked.labels,
        link="softmax" if is_clip else "sigmoid",
        is_comparing=is_clip,
    )


class _Tokens:
    """Prompts as a text tower reads them."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", pair: Any, family: str, name: str) -> None:
        self._tokenizer = tokenizer
        self._longest = int(pair.config.text_config.max_position_embeddings)
        # SigLIP was trained on texts that are filled up to its longest, and looks at the last place
        self._padding: Any = "max_length" if family == "siglip" else True
        self._name = name

    def of(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Ids, and the mask where the tokenizer gives one.

        Raises:
            ModelError: a prompt is longer than the tower reads.
        """
        for prompt in prompts:
            count = len(self._tokenizer(prompt)["input_ids"])
            if count > self._longest:
                raise ModelError(
                    f"{self._name}: the prompt {prompt!r} is {count} tokens long, the text tower reads {self._longest}",
                    hint="shorten it in prompts: of the task",
                )
        made: Any = self._tokenizer(
            list(prompts), padding=self._padding, max_length=self._longest, truncation=True, return_tensors="pt"
        )
        return {key: made[key] for key in ("input_ids", "attention_mask") if key in made}


def embed_labels(pair: Any, tokens: _Tokens, prompts: Sequence[Sequence[str]]) -> Tensor:
    """(labels, features), of length 1: the mean over each label's prompts."""
    every = [one for some in prompts for one in some]
    found = []
    for start in range(0, len(every), _PROMPTS_AT_ONCE):
        with torch.inference_mode():
            said: Any = pair.get_text_features(**tokens.of(every[start : start + _PROMPTS_AT_ONCE]))
        found.append(functional.normalize(getattr(said, "pooler_output", said).float(), dim=-1))
    parts = torch.split(torch.cat(found), [len(some) for some in prompts])
    means = torch.stack([part[0] if len(part) == 1 else part.mean(dim=0) for part in parts])
    return functional.normalize(means, dim=-1).clone()
