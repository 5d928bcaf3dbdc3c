"""Is everything in the model registry what it was when it was put there? Every version, and every stage."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from winnow_storage.errors import BlobMissing, ModelError, StoreError
from winnow_storage.ids import digest_bytes
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.stages import pointed_at
from winnow_workers.models.check import check_file, differing_fields
from winnow_workers.models.folder import local_folder, resolve_folder
from winnow_workers.models.folder_card import folder_card
from winnow_workers.models.model_file import ModelCard
from winnow_workers.preflight import check_folder


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """What is wrong with `place` (NAME@VERSION or NAME@STAGE)."""

    place: str
    what: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class CheckedRegistry:
    """What came of it."""

    versions: int
    stages: int
    findings: tuple[ModelFinding, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        findings = [asdict(finding) for finding in self.findings]
        return {"versions": self.versions, "stages": self.stages, "sound": not findings, "findings": findings}


def check_registry(registry: Registry, name: str | None) -> CheckedRegistry:
    """Every version of `name`, or of every model, one file in memory at a time.

    Raises:
        ModelError: there is no such model.
        StoreError: the store cannot be reached or refuses.
    """
    names = registry.names()
    if name is not None:
        if name not in names:
            registry.resolve(name)  # says what is near
        names = [name]
    findings: list[ModelFinding] = []
    versions = stages = 0
    for one in names:
        there = registry.versions(one)
        versions += len(there)
        for version in there:
            findings += _of_version(registry, one, version)
        try:
            pointed = pointed_at(registry.history(one))
        except StoreError as error:
            findings.append(ModelFinding(f"{one}@stages", error.message, error.hint))
            continue
        stages += len(pointed)
        findings += [
            ModelFinding(
                f"{one}@{stage}",
                f"it names version {version}, which is not there",
                f"winnow models promote {one} VERSION {stage}",
            )
            for stage, version in pointed.items()
            if version not in there
        ]
    return CheckedRegistry(versions, stages, tuple(findings))


def _of_version(registry: Registry, name: str, version: str) -> Iterator[ModelFinding]:
    place = f"{name}@{version}"
    try:
        entry = registry.entry(name, version)
        data = None if entry.is_folder else registry.read(entry)
    except BlobMissing:
        yield ModelFinding(
            place,
            "its card or its file is not there: an add that was ended half way, or an object that was deleted",
            "add the same file again, or delete the folder if nothing used it",
        )
        return
    except StoreError as error:
        yield ModelFinding(place, error.message, error.hint)
        return
    yield from _of_folder(entry, place) if data is None else _of_file(entry, data, place)


def _of_folder(entry: ModelEntry, place: str) -> Iterator[ModelFinding]:
    try:
        found = resolve_folder(f"transformers/{entry.uri}", base=None)
        if found.digest != entry.sha256:
            what = f"its files have the digest {found.digest}; {entry.sha256} was registered"
            yield ModelFinding(place, what, f"put the right files back at {entry.uri}")
            return
        card = folder_card(local_folder(found))
        check_folder(found, card.kind)
    except (ModelError, StoreError) as error:
        yield ModelFinding(place, error.message, error.hint)
        return
    yield from _of_card(card, entry, place)


def _of_file(entry: ModelEntry, data: bytes, place: str) -> Iterator[ModelFinding]:
    found = digest_bytes(data)
    if found != entry.sha256:
        yield ModelFinding(
            place,
            f"its file has {len(data)} bytes of the sha256 {found}; {entry.bytes} of {entry.sha256} were registered",
            f"put the right bytes back at {entry.uri}",
        )
        return
    try:
        card = check_file(data, where=place)
    except ModelError as error:
        yield ModelFinding(place, error.message, error.hint)
        return
    yield from _of_card(card, entry, place)


def _of_card(card: ModelCard | None, entry: ModelEntry, place: str) -> Iterator[ModelFinding]:
    differing = differing_fields(card, entry.card)
    if differing:
        what = "folder" if entry.is_folder else "file"
        yield ModelFinding(
            place,
            f"card.json says other things than the {what}'s own card: {', '.join(differing)}",
            f"runs go by the {what}: add it again as a version of its own, with the right card",
        )
