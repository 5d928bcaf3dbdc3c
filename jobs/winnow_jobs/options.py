"""How is a run driven, beside its spec?"""

from dataclasses import dataclass, field

from winnow_jobs.plan import Selection


@dataclass(frozen=True, slots=True)
class Options:
    """`profile` asks for a bare loop at the end, to hold the run against; `debug` for the actors' own logs."""

    selection: Selection = field(default_factory=Selection)
    new: bool = False
    push: bool = True
    debug: bool = False
    profile: bool = False
