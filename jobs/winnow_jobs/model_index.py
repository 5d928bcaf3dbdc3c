"""How does the ledger follow the model registry? After every change, and whenever `winnow models verify` looks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from winnow_jobs.machine import ledger_of
from winnow_storage.errors import LedgerError, StoreError
from winnow_storage.model_index import index_models
from winnow_storage.registry import Registry


@dataclass(slots=True)
class LedgerFollows:
    """Notes in this machine's ledger what a registry was told; the registry counts, so a failure is only a warning."""

    warn: Callable[[str], None]
    _failed: bool = field(default=False, init=False)

    def __call__(self, registry: Registry, name: str) -> None:
        """A model was changed. After a failure nothing more is tried: a locked ledger costs half a minute each time."""
        if self._failed:
            return
        try:
            with ledger_of(None) as ledger:
                index_models(registry, ledger, [name])
        except (LedgerError, StoreError) as error:
            self._failed = True
            self.warn(
                f"the registry has it, but the ledger was not brought up to date: {error.message}\n"
                "  next: winnow models verify, once the ledger can be written"
            )


@dataclass(frozen=True, slots=True)
class RebuiltIndex:
    """Which entries of the ledger differed from the registry and were put right, or why that could not be done."""

    differed: tuple[str, ...]
    error: LedgerError | None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        error = self.error
        said = None if error is None else {"error": error.message, "hint": error.hint}
        return {"indexed": {"differed": list(self.differed)}, "index_error": said}


def rebuild_index(registry: Registry, name: str | None) -> RebuiltIndex:
    """Put right what the ledger says of `name`, or of every model."""
    try:
        with ledger_of(None) as ledger:
            return RebuiltIndex(index_models(registry, ledger, None if name is None else [name]), None)
    except LedgerError as error:  # what was found in the registry must be said all the same
        return RebuiltIndex((), error)
