"""The scripts of experiments/launch as processes."""

import os
import subprocess
import sys

from tests.helpers.pages import ROOT

LAUNCH = ROOT / "experiments" / "launch"
STAND_INS = {
    "sagan": f'exec {sys.executable} -m sagan "$@"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    "srun": 'exec "$@"',
    "scontrol": 'case "$1 $2" in "show hostnames") echo localhost ;; requeue*) echo "$2" > requeued ;; esac',
}


def start_script(script, arguments, folder, within=(), **variables):
    """Start a script in a folder where it finds `sagan` and `torchrun`; `within` is a command to run it by."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, line in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    paths = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*within, LAUNCH / script, *arguments],
        env={**os.environ, **paths, **variables},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
