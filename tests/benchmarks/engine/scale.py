"""What does a billion items take, from these inputs? The model of `scale_model`, as a table or as JSON.

python -m tests.benchmarks.engine.scale --set items=1e8 --set gpu_items_per_s=2400 --table
"""

import argparse
import json
import sys
from dataclasses import asdict, fields

from tests.benchmarks.engine.line import machine, today
from tests.benchmarks.engine.scale_model import Inputs, first_run, night, night_after_compact, table


def inputs_of(settings: list[str]) -> Inputs:
    """The inputs with NAME=VALUE settings applied.

    Raises:
        SystemExit: a name that is no input, or a value that is no number.
    """
    known = {field.name for field in fields(Inputs)}
    values = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise SystemExit(f"--set {setting}: no input of that name; there are {', '.join(sorted(known))}")
        try:
            values[name] = float(value)
        except ValueError:
            raise SystemExit(f"--set {setting}: {value!r} is no number") from None
    return Inputs(**values)


def main() -> int:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another input")
    parser.add_argument("--table", action="store_true", help="Markdown, as in docs/scale.md")
    options = parser.parse_args()
    inputs = inputs_of(options.set)
    if options.table:
        sys.stdout.write(table(inputs))
        return 0
    runs = {"first_run": first_run, "night": night, "night_after_compact": night_after_compact}
    line = {
        "point": "7, cost model",
        "figure": {name: asdict(run(inputs)) for name, run in runs.items()},
        "target": "reported only",
        "holds": None,
        "inputs": asdict(inputs),
        "setup": f"arithmetic, {machine()}, {today()}",
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
