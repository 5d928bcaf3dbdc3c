"""In which words is a text tower asked for each label? Templates with a place for the label, or texts of its own."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

DEFAULT_TEMPLATE = "This is a photo of {}."  # what transformers' own zero-shot pipeline asks


class Prompts(BaseModel):
    """`templates` hold `{}` once, where the label goes; `texts` are a label's own prompts, in place of the templates.

    A label with several prompts is asked for by the mean of their normalised embeddings (Radford et al., 2021).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: tuple[str, ...] = Field(default=(DEFAULT_TEMPLATE,), min_length=1)
    texts: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("templates", "texts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, Mapping):
            return {label: (some,) if isinstance(some, str) else some for label, some in value.items()}
        return value

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for one in templates:
            if one.count("{}") != 1:
                raise ValueError(f"the template {one!r} needs {{}} once, where the label goes: 'a photo of a {{}}.'")
        return templates

    @field_validator("texts")
    @classmethod
    def _say_something(cls, texts: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for label, some in texts.items():
            if not some or not all(one.strip() for one in some):
                raise ValueError(f"a prompt of {label!r} is empty: write what the image would show")
        return texts

    def of(self, labels: Sequence[str]) -> list[tuple[str, ...]]:
        """Every label's prompts.

        Raises:
            ValueError: texts are given for something that is no label.
        """
        unknown = [label for label in self.texts if label not in labels]
        if unknown:
            raise ValueError(f"prompts.texts has {unknown[0]!r}, which is no label of the task")
        return [self.texts.get(label) or tuple(one.replace("{}", label) for one in self.templates) for label in labels]
