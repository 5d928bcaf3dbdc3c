"""Which errors does Winnow raise on purpose, and with which exit code does each end a command?

WinnowError
├── UsageError (2)              the command line asks for something that makes no sense
├── SpecError (2)               the job spec or a corpus file is wrong
│   └── ModelError (2)          a model that the spec names cannot be used
├── EnvironmentFault (4)        something outside is missing, unreachable or refuses
│   ├── StoreError              the object store
│   │   ├── BlobMissing         it says that the object is not there
│   │   ├── BlobRefused         it answers, and does not give this one object
│   │   │   └── BlobArchived    the object must be restored before it can be read
│   │   ├── BlobReplaced        it is not there any more in the version that was asked for
│   │   ├── BlobDamaged         what it holds cannot be read as what its name says
│   │   ├── BlobTooLarge        it takes more memory to read than is allowed
│   │   ├── StoreDenied         credentials are missing or not allowed
│   │   └── StoreUnavailable    it could not answer (time-out, 5xx, reset); trying again may help
│   ├── LedgerError             the SQL database
│   ├── RayError                the cluster
│   └── LabelStudioError        Label Studio
│       └── LabelStudioRefused  it says that it will not do what it is asked, and has not done it
└── RunFailed (1)               the work cannot go on
"""

from typing import ClassVar


class WinnowError(Exception):
    """The root: says what happened, where and why (`message`) and what to do next (`hint`)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders (Ray) whole."""
        return _rebuild, (type(self), self.message, self.hint)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  next: {self.hint}"


def _rebuild(kind: type[WinnowError], message: str, hint: str | None) -> WinnowError:
    return kind(message, hint=hint)


class UsageError(WinnowError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class SpecError(WinnowError):
    """The job spec or a corpus file is wrong; the message starts with file:line:column where it is known."""

    exit_code = 2


class ModelError(SpecError):
    """A model that the spec names cannot be used: absent, wrong digest, wrong shape, unsafe format."""


class EnvironmentFault(WinnowError):
    """Something outside of Winnow is missing, unreachable or refuses."""

    exit_code = 4


class StoreError(EnvironmentFault):
    """The object store refused or could not do what was asked."""


class BlobMissing(StoreError):
    """The store says that the object is not there."""


class BlobRefused(StoreError):
    """The store answers that it does not give this one object: for its encryption or its state, not for who asks."""


class BlobArchived(BlobRefused):
    """The object lies in an archive; it must be restored before it can be read."""


class BlobReplaced(StoreError):
    """The object is not there any more in the version that was asked for."""


class BlobDamaged(StoreError):
    """What the object holds cannot be read as what its name says; reading it again gives the same."""


class BlobTooLarge(StoreError):
    """It takes more memory to read what was asked for than is allowed."""


class StoreDenied(StoreError):
    """The store refused the credentials, or there are none."""


class StoreUnavailable(StoreError):
    """The store could not answer; the same request may succeed later."""


class LedgerError(EnvironmentFault):
    """The SQL database is unreachable, locked, or of another schema version."""


class RayError(EnvironmentFault):
    """The Ray cluster could not be started or reached, or lost its actors."""


class LabelStudioError(EnvironmentFault):
    """Label Studio is unreachable or refuses."""


class LabelStudioRefused(LabelStudioError):
    """It says that it will not do what it is asked, and has not done it."""


class RunFailed(WinnowError):
    """The work cannot go on; what was committed stays committed."""

    exit_code = 1
