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
from winnow_storage.stages import STAGES, StageEvent, StageLog, pointed_at, version_before

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SAFETENSORS, ONNX = "model.safetensors", "model.onnx"  # what a version's file is called, by its format
_FOLDER = re.compile(r"folder-[0-9a-f]{32}")  # named by its content: of two adds at once neither spoils the other's


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version of a model. `stages` are those that point at it now; `card` is what its author said of it."""

    name: str
    version: str
    uri: str  # of the model file, safetensors or ONNX, or of the folder
    sha256: str  # of the file; of a folder over the names and bytes of its files
    bytes: int
    added_at: str  # ISO 8601, UTC
    stages: tuple[str, ...]
    card: Mapping[str, Any]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files rather than one."""
        return _FOLDER.fullmatch(self.uri.rpartition("/")[2]) is not None


@dataclass(frozen=True, slots=True)
class _Content:
    """What is added: objects by their keys below the version, and which of them, or which folder, is the model."""

    sha256: str
    place: str
    objects: Mapping[str, bytes]

    @property
    def bytes(self) -> int:
        return sum(map(len, self.objects.values()))


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Registry:
    """Models below `models/` of a store: NAME/VERSION/{model.safetensors,card.json} and NAME/stages/00000001.json.

    An ONNX model's file is `model.onnx`, a folder's files lie in `folder-...`; what card.json calls `file` is it.

    A version exists once its card does; a stage is what its last log entry says. What gates said of a version stands in
    NAME/VERSION/gate/DIGEST.json.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        now: Callable[[], datetime] = utc_now,
        changed: Callable[["Registry", str], None] | None = None,
    ) -> None:
        """`changed` is told the name of a model when the store has what was added to it, or a move of its stage."""
        self._store = store
        self._now = now
        self._changed = changed

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._store.root.uri

    def add(
        self,
        name: str,
        data: bytes,
        card: Mapping[str, Any],
        *,
        version: str | None = None,
        file: str = SAFETENSORS,
    ) -> ModelEntry:
        """Add a model file, as the next whole number if no `version` is given.

        The bytes of the newest version (or of `version`) again give that entry, and nothing new.

        Raises:
            ModelError: the name or version cannot be used, or `version` has other bytes.
        """
        return self._add(name, _Content(ids.digest_bytes(data), file, {file: data}), card, version)

    def add_folder(
        self, name: str, files: Mapping[str, bytes], card: Mapping[str, Any], *, version: str | None = None
    ) -> ModelEntry:
        """Add a model that is a folder, its files by name, as `add` does.

        Raises:
            ModelError: as `add`.
        """
        sha256 = ids.digest_files(files)
        place = f"folder-{sha256[:32]}"
        return self._add(name, _Content(sha256, place, {f"{place}/{one}": files[one] for one in files}), card, version)

    def _add(self, name: str, content: _Content, card: Mapping[str, Any], version: str | None) -> ModelEntry:
        _check("name", name)
        if version is not None:
            _check("version", version)
        entry = self._entry(name, self._added(name, content, card, version), self._stages(name))
        self._tell(name)
        return entry

    def _added(self, name: str, content: _Content, card: Mapping[str, Any], version: str | None) -> str:
        """The version that these bytes are."""
        sha256, there = content.sha256, self.entries(name)
        document = {"sha256": sha256, "bytes": content.bytes, "added_at": self._now().isoformat(), "card": dict(card)}
        if content.place != SAFETENSORS:
            document["file"] = content.place
        if version is not None:
            if not self._put(name, version, content, document):
                raise _other_bytes(name, version)
            return version
        if there and there[-1].sha256 == sha256:
            return there[-1].version
        number = 1 + max((int(entry.version) for entry in there if entry.version.isdigit()), default=0)
        while not self._put(name, str(number), content, document):
            number += 1
        return str(number)

    def entries(self, name: str | None = None) -> list[ModelEntry]:
        """All versions of `name`, or of every model: by name, then oldest first."""
        found = []
        for each in [name] if name is not None else self._store.folders("models/"):
            stages = self._stages(each)
            complete = []
            for version in self.versions(each):
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

    def promote(
        self, name: str, version: str, stage: str, *, by: str | None = None, why: str | None = None
    ) -> ModelEntry:
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
        log = self._log(name)
        while stage not in entry.stages:
            won = log.append(log.next(log.events(), "promote", stage, version, (by, why)))
            entry = self._entry(name, version, self._stages(name))
            if won:
                break
        self._tell(name)
        return entry

    def rollback(self, name: str, stage: str, *, by: str | None = None, why: str | None = None) -> ModelEntry:
        """Point `stage` at the version again that it named before the present one; again, at the one before that.

        Raises:
            ModelError: no such model or stage, nothing before, a version that is gone, or somebody moved the stage at
                this moment.
        """
        self.resolve(name)
        log = self._log(name)
        events = log.events()
        version = version_before(events, name, stage)
        try:
            self.resolve(f"{name}@{version}")
        except ModelError as error:
            raise ModelError(
                f"{name}@{stage} was version {version} before, which is not in the registry any more",
                hint=f"winnow models promote {name} VERSION {stage}",
            ) from error
        if not log.append(log.next(events, "rollback", stage, version, (by, why))):
            raise ModelError(
                f"somebody else moved a stage of {name} at this moment; {stage} was not rolled back",
                hint=f"look at winnow models show {name}@{stage}, then try again",
            )
        self._tell(name)
        return self._entry(name, version, self._stages(name))

    def history(self, name: str) -> list[StageEvent]:
        """What the stages of a model named, oldest first."""
        return self._log(name).events()

    def read(self, entry: ModelEntry) -> bytes:
        """The bytes of a version's file, unchecked.

        Raises:
            BlobMissing: it is gone.
            ModelError: it is a folder.
        """
        if entry.is_folder:
            raise ModelError(
                f"models/{entry.name}@{entry.version} is a folder, where one file is needed",
                hint=f"name another version, or read the files at {entry.uri}",
            )
        return self._store.get(f"models/{entry.name}/{entry.version}/{entry.uri.rpartition('/')[2]}")

    def keep_verdict(self, entry: ModelEntry, verdict: Mapping[str, Any]) -> str:
        """Keep what a gate said of a version, beside its card; the digest that names it."""
        digest = ids.digest_value(verdict)
        document = {"at": self._now().isoformat(), "verdict": dict(verdict)}
        key = f"{_verdicts(entry)}{digest[:32]}.json"
        self._store.put_if_absent(key, ids.canonical_json(document).encode())
        return digest

    def verdicts(self, entry: ModelEntry) -> list[dict[str, Any]]:
        """What gates said of a version, each with the time (`at`) when it was first said, oldest first.

        Raises:
            StoreError: an object among them is damaged.
        """
        found = [self._json(info.key) for info in self._store.walk(_verdicts(entry))]
        return sorted(found, key=lambda one: str(one.get("at")))

    def versions(self, name: str) -> list[str]:
        """The versions of a model by name, those among them that have no readable card."""
        return [part for part in self._store.folders(f"models/{name}/") if part != STAGES]

    def names(self) -> list[str]:
        """The models that there are."""
        return self._store.folders("models/")

    def entry(self, name: str, version: str) -> ModelEntry:
        """One version, as its card.json says; `stages` are left empty where their log is damaged.

        Raises:
            BlobMissing: it has no card.
            StoreError: the card is damaged.
        """
        try:
            stages = self._stages(name)
        except StoreError:
            stages = {}
        return self._entry(name, version, stages)

    def _put(self, name: str, version: str, content: _Content, document: Mapping[str, Any]) -> bool:
        """Whether this version is these bytes now. One that a killed `add` left half is taken over by its own bytes."""
        card = _card_key(name, version)
        for key, data in content.objects.items():
            place = f"models/{name}/{version}/{key}"
            if not self._store.put_if_absent(place, data) and self._store.get(place) != data:
                return False
        if self._store.put_if_absent(card, ids.canonical_json(document).encode()):
            return True
        there = self._json(card)  # of another form, perhaps
        return (there.get("sha256"), there.get("file", SAFETENSORS)) == (content.sha256, content.place)

    def _tell(self, name: str) -> None:
        if self._changed is not None:
            self._changed(self, name)

    def _log(self, name: str) -> StageLog:
        return StageLog(self._store, name, self._now)

    def _entry(self, name: str, version: str, stages: Mapping[str, str]) -> ModelEntry:
        key = _card_key(name, version)
        document = self._json(key)
        file = document.get("file", SAFETENSORS)
        if not isinstance(file, str) or (file not in (SAFETENSORS, ONNX) and _FOLDER.fullmatch(file) is None):
            raise self._damaged(key)
        try:
            return ModelEntry(
                name=name,
                version=version,
                uri=blobs.uri_of(self._store.root, f"models/{name}/{version}/{file}"),
                sha256=document["sha256"],
                bytes=document["bytes"],
                added_at=document["added_at"],
                stages=tuple(sorted(stage for stage, pointed in stages.items() if pointed == version)),
                card=dict(document["card"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(key) from error

    def _stages(self, name: str) -> Mapping[str, str]:
        return pointed_at(self._log(name).events())

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
    if _NAME.fullmatch(word) is None or word == STAGES:
        raise ModelError(
            f"{word!r} cannot be a model's {what}",
            hint="use letters, digits, '.', '_' and '-', and not the word 'stages'",
        )


def _nearest(word: str, known: Iterable[str], before: str) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {before}{near[0]}?" if near else None


def _other_bytes(name: str, version: str) -> ModelError:
    return ModelError(
        f"{name}@{version} is there already, with other bytes", hint="leave --version out for the next number"
    )


def _verdicts(entry: ModelEntry) -> str:
    return f"models/{entry.name}/{entry.version}/gate/"


def _card_key(name: str, version: str) -> str:
    return f"models/{name}/{version}/card.json"
