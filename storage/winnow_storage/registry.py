"""Which models are there, in which versions, at which stages? Objects in a store, appended and never replaced."""

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from winnow_storage import blobs, ids
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, ModelError, StoreError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAGES = "stages"  # the folder of the stage log, so no version may be called so


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version of a model. `stages` are those that point at it now; `card` is what its author said of it."""

    name: str
    version: str
    uri: str  # of the safetensors file
    sha256: str
    bytes: int
    added_at: str  # ISO 8601, UTC
    stages: tuple[str, ...]
    card: Mapping[str, Any]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Registry:
    """Models below `models/` of a store: NAME/VERSION/{model.safetensors,card.json} and NAME/stages/00000001.json.

    A version exists once its card does; a stage is what its last log entry says.
    """

    def __init__(self, store: BlobStore, *, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def add(self, name: str, data: bytes, card: Mapping[str, Any], *, version: str | None = None) -> ModelEntry:
        """Add a model file, as the next whole number if no `version` is given.

        The bytes of the newest version (or of `version`) again give that entry, and nothing new.

        Raises:
            ModelError: the name or version cannot be used, or `version` has other bytes.
        """
        _check("name", name)
        sha256, there = ids.digest_bytes(data), self.entries(name)
        if version is None:
            if there and there[-1].sha256 == sha256:
                return there[-1]
            version = self._reserve(name, data, there)
        else:
            _check("version", version)
            self._put_weights(name, version, data)
        document = {"sha256": sha256, "bytes": len(data), "added_at": self._now().isoformat(), "card": dict(card)}
        self._store.put_if_absent(_card_key(name, version), ids.canonical_json(document).encode())
        return self._entry(name, version, self._stages(name))

    def entries(self, name: str | None = None) -> list[ModelEntry]:
        """All versions of `name`, or of every model: by name, then oldest first."""
        found = []
        for each in [name] if name is not None else self._store.folders("models/"):
            stages = self._stages(each)
            versions = [part for part in self._store.folders(f"models/{each}/") if part != _STAGES]
            complete = []
            for version in versions:
                with contextlib.suppress(BlobMissing):  # of an `add` that was killed between weights and card
                    complete.append(self._entry(each, version, stages))
            found += sorted(complete, key=_age)
        return found

    def resolve(self, reference: str) -> ModelEntry:
        """The entry that `NAME@VERSION`, `NAME@STAGE` or `NAME` (its newest version) means; `models/` may stand before.

        Raises:
            ModelError: there is none; the message names what is near.
        """
        name, separator, wanted = reference.removeprefix("models/").partition("@")
        there = self.entries(name) if _NAME.fullmatch(name) else []
        if not there:
            raise self._unknown_name(reference, name)
        if not separator:
            return there[-1]
        for entry in there:
            if wanted == entry.version:
                return entry
        for entry in there:
            if wanted in entry.stages:
                return entry
        known = [word for entry in there for word in (entry.version, *entry.stages)]
        raise ModelError(
            f"the model {name!r} has no version or stage {wanted!r}; it has {', '.join(known)}",
            hint=_nearest(wanted, known, f"{name}@") or f"winnow models promote {name} VERSION {wanted or 'STAGE'}",
        )

    def promote(self, name: str, version: str, stage: str) -> ModelEntry:
        """Point `stage` at `version`; nothing new is written if it does already.

        Raises:
            ModelError: no such version, or a stage's name that could be a version's.
        """
        _check("stage", stage)
        entry = self.resolve(f"{name}@{version}")
        if entry.version != version or stage.isdigit() or stage in {each.version for each in self.entries(name)}:
            raise ModelError(
                f"cannot promote {name}@{version} to {stage!r}: a version and a word that is no version are needed",
                hint=f"winnow models promote {name} {entry.version} prod",
            )
        while stage not in entry.stages:
            number = 1 + max((int(key) for key in self._stage_log(name)), default=0)
            record = {"stage": stage, "version": version, "at": self._now().isoformat()}
            won = self._store.put_if_absent(_stage_key(name, number), ids.canonical_json(record).encode())
            entry = self._entry(name, version, self._stages(name))
            if won:
                break
        return entry

    def _reserve(self, name: str, data: bytes, there: Iterable[ModelEntry]) -> str:
        """The next whole number under which `data` could be put; one that a killed `add` left half is taken over."""
        number = 1 + max((int(entry.version) for entry in there if entry.version.isdigit()), default=0)
        while True:
            try:
                self._put_weights(name, str(number), data)
            except ModelError:
                number += 1
            else:
                return str(number)

    def _put_weights(self, name: str, version: str, data: bytes) -> None:
        key = _weights_key(name, version)
        if not self._store.put_if_absent(key, data) and self._store.get(key) != data:
            raise ModelError(
                f"{name}@{version} is there already, with other bytes", hint="leave --version out for the next number"
            )

    def _entry(self, name: str, version: str, stages: Mapping[str, str]) -> ModelEntry:
        key = _card_key(name, version)
        document = self._json(key)
        try:
            return ModelEntry(
                name=name,
                version=version,
                uri=blobs.uri_of(self._store.root, _weights_key(name, version)),
                sha256=document["sha256"],
                bytes=document["bytes"],
                added_at=document["added_at"],
                stages=tuple(sorted(stage for stage, pointed in stages.items() if pointed == version)),
                card=document["card"],
            )
        except KeyError as error:
            raise self._damaged(key) from error

    def _stages(self, name: str) -> dict[str, str]:
        """Stage -> version, as the last entry of each stage says."""
        records = [self._json(_stage_key(name, int(key))) for key in self._stage_log(name)]
        try:
            return {record["stage"]: record["version"] for record in records}
        except KeyError as error:
            raise self._damaged(f"models/{name}/{_STAGES}/") from error

    def _stage_log(self, name: str) -> list[str]:
        prefix = f"models/{name}/{_STAGES}/"
        names = (info.key.removeprefix(prefix).removesuffix(".json") for info in self._store.walk(prefix))
        return [each for each in names if each.isdigit()]

    def _json(self, key: str) -> dict[str, Any]:
        try:
            document = json.loads(self._store.get(key))
        except ValueError as error:
            raise self._damaged(key) from error
        if not isinstance(document, dict):
            raise self._damaged(key)
        return document

    def _damaged(self, key: str) -> StoreError:
        return StoreError(f"{self._store.root}/{key} is not what the registry wrote there", hint="restore or delete it")

    def _unknown_name(self, reference: str, name: str) -> ModelError:
        known = self._store.folders("models/")
        return ModelError(
            f"the registry at {self._store.root} has no model {name!r} (asked for {reference!r}); "
            f"it has {', '.join(known) or 'none'}",
            hint=_nearest(name, known, "") or "winnow models add NAME FILE",
        )


def _age(entry: ModelEntry) -> tuple[str, int]:
    return entry.added_at, int(entry.version) if entry.version.isdigit() else 0


def _check(what: str, word: str) -> None:
    if _NAME.fullmatch(word) is None or word == _STAGES:
        raise ModelError(
            f"{word!r} cannot be a model's {what}",
            hint="use letters, digits, '.', '_' and '-', and not the word 'stages'",
        )


def _nearest(word: str, known: Iterable[str], before: str) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {before}{near[0]}?" if near else None


def _weights_key(name: str, version: str) -> str:
    return f"models/{name}/{version}/model.safetensors"


def _card_key(name: str, version: str) -> str:
    return f"models/{name}/{version}/card.json"


def _stage_key(name: str, number: int) -> str:
    return f"models/{name}/{_STAGES}/{number:08d}.json"
