"""Runs scripts/setup.py and kills it (SIGKILL) at the given step; its steps are the changes that it makes to files.

    killed_at.py STEP SETUP ARGUMENT…     ends by itself, with setup.py's status, if it has fewer steps
"""

import os
import runpy
import signal
import sys

step, program = int(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(program)
steps = 0


def is_step(event, arguments):
    if event == "open":
        # Of a new file, beside the one that it is to replace.
        return isinstance(arguments[2], int) and arguments[2] & os.O_EXCL
    return event in ("os.rename", "os.mkdir") or event == "os.remove" and os.path.exists(arguments[0])


def count(event, arguments):
    global steps
    if is_step(event, arguments):
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1


sys.addaudithook(count)
runpy.run_path(program, run_name="__main__")
