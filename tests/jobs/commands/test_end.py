"""How does a command end? At once, and with nothing said that is not its own."""

import subprocess
import sys


def test_main__what_torch_brings_says_nothing_at_the_end() -> None:
    command = (
        "from winnow_workers.garbage import not_looked_for\n"
        "with not_looked_for():\n    import torch._dynamo\n"  # and with it Triton, which counts what is left
        "from winnow_jobs.cli import main\nmain(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
