"""What is wrong with a spec, in a person's words? Validation errors at file:line:column, with what is allowed."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from winnow_jobs.yaml_marks import MarkedYaml
from winnow_jobs.yaml_marks import Path as MarkPath
from winnow_storage.errors import SpecError

SECRETS: tuple[MarkPath, ...] = (("review", "label_studio"), ("ledger",))  # kept as ${NAME}, resolved where used
STRUCTURAL = ("missing", "extra_forbidden")


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains errors of one model that was read from `prefix` in a file; keys of `also` stand in the same mapping."""

    marked: MarkedYaml
    root: type[BaseModel]
    prefix: MarkPath = ()
    also: type[BaseModel] | None = None

    def spec_error(self, error: ValidationError) -> SpecError:
        """Every mistake on a line of its own."""
        lines = tuple(dict.fromkeys(self._line(one) for one in self._meant(error.errors())))
        what = "that place" if len(lines) == 1 else "those places"
        return SpecError(
            "\n".join(lines),
            hint=f"correct {what}, then winnow validate {self.marked.name}; docs/guide.md says what the keys mean",
        )

    def _meant(self, errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
        """Without the branches of unions that were not meant: the one that fits furthest is explained."""
        branches: dict[MarkPath, dict[str | int, list[ErrorDetails]]] = {}
        kept: list[ErrorDetails] = []
        for details in errors:
            path, branch = self._split(details)
            if branch is None:
                kept.append(details)
            else:
                branches.setdefault(path, {}).setdefault(branch, []).append(details)
        for options in branches.values():
            best = min(self._distance(option) for option in options.values())
            kept += [one for option in options.values() if self._distance(option) == best for one in option]
        return kept

    def _distance(self, option: Sequence[ErrorDetails]) -> tuple[bool, int, int, int]:
        scalar_wanted = any(one["type"] not in STRUCTURAL and isinstance(one["input"], dict) for one in option)
        depth = max((len(self._path(one)) for one in option if one["type"] not in STRUCTURAL), default=0)
        near = sum(1 for one in option if one["type"] == "extra_forbidden" and self._near(one) is not None)
        structural = sum(1 for one in option if one["type"] in STRUCTURAL)
        return scalar_wanted, -depth, -near, structural

    def _line(self, details: ErrorDetails) -> str:
        path = self._path(details)
        name = ".".join(str(part) for part in path)
        key = details["loc"][-1] if details["loc"] else ""
        if details["type"] == "extra_forbidden":
            near = self._near(details)
            meant = f"; did you mean {near!r}?" if near is not None else ""
            place = self.marked.where(path if path[-1:] == (key,) else (*path, key), key=True)
            return f"{place}: unknown key {key!r}{meant} (allowed: {', '.join(self._allowed(details))})"
        if details["type"] == "missing":
            return f"{self.marked.where(path)}: the key {key!r} is missing" + (f" in {name!r}" if name else "")
        said = details["msg"].removeprefix("Value error, ")
        if details["type"] == "model_type":  # pydantic names our class
            said = f"keys are wanted here (allowed: {', '.join(_keys_at(self.root, details['loc']))})"
        given = details["input"]
        secret = any(path[: len(one)] == one for one in SECRETS)
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and not secret else ""
        return f"{self.marked.where(path)}: {name or 'the spec'}: {said[:1].lower() + said[1:]}{shown}"

    def _near(self, details: ErrorDetails) -> str | None:
        found = difflib.get_close_matches(str(details["loc"][-1]), self._allowed(details), n=1)
        return found[0] if found else None

    def _allowed(self, details: ErrorDetails) -> tuple[str, ...]:
        if self.also is not None and len(details["loc"]) == 1:
            return (*self.also.model_fields, *self.root.model_fields)
        return _keys_at(self.root, details["loc"][:-1])

    def _path(self, details: ErrorDetails) -> MarkPath:
        # pydantic's locations also name the branches of unions, which are not in the file
        path: MarkPath = ()
        for part in (*self.prefix, *details["loc"]):
            if (*path, part) in self.marked.values:
                path = (*path, part)
        return path

    def _split(self, details: ErrorDetails) -> tuple[MarkPath, str | int | None]:
        """The path down to a union, and the branch of it; no branch where the whole location is in the file."""
        path: MarkPath = ()
        last = details["type"] in STRUCTURAL
        for place, part in enumerate((*self.prefix, *details["loc"])):
            if (*path, part) in self.marked.values:
                path = (*path, part)
            elif last and place == len(self.prefix) + len(details["loc"]) - 1:
                return path, None
            else:
                return path, part
        return path, None


def _keys_at(model: type[BaseModel], loc: MarkPath) -> tuple[str, ...]:
    for part in loc:
        info = model.model_fields.get(str(part))
        found = (
            _models_in(info.annotation) if info is not None else [one for one in _inner(model) if one.__name__ == part]
        )
        model = found[0] if found else model
    return tuple(model.model_fields)


def _inner(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models that a model or its fields may hold, itself first."""
    return [model, *(inner for info in model.model_fields.values() for inner in _models_in(info.annotation))]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for inner in getattr(annotation, "__args__", ()) for one in _models_in(inner)]
