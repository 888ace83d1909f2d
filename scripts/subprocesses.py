# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
"""What a script has started ends with the script, and cleans up."""

import contextlib
import signal
import subprocess
import sys

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
END_LIMIT_S = 30  # scripts/vm gives a guest 2 s

# Before the command of a child that is to end even if the script is killed.
LEASH = ["setpriv", "--pdeathsig", "TERM", "--"]


def exit_by_signals():
    """A signal raises SystemExit, so that `finally` ends what was started. One that is ignored, as
    by nohup, stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, exit_by)


def exit_by(number, _frame):
    for other in SIGNALS:  # another one would end the cleaning up
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def session_nice(process="self"):
    """None if the kernel does not weigh this process by its session: there is no such file without
    CONFIG_SCHED_AUTOGROUP, and it is empty if no session was begun since the kernel's first."""
    try:
        with open(f"/proc/{process}/autogroup", encoding="ascii") as file:
            words = file.read().split()
    except OSError:
        return None
    return words[-1] if words else None


def set_session_nice(nice, process="self"):
    """Returns what it was; None if it is not to be set. The kernel weighs sessions first, and then
    what is in them."""
    before = session_nice(process)
    if before is None:
        return None
    try:
        with open(f"/proc/{process}/autogroup", "w", encoding="ascii") as file:
            file.write(nice)
    except OSError:
        return None  # not allowed
    return before


@contextlib.contextmanager
def prioritised_session():
    """What others do on the machine is not to be measured. Then all is as it was: a terminal's
    session goes on."""
    before = set_session_nice("-10")
    try:
        yield
    finally:
        if before is not None:
            set_session_nice(before)


def end(process):
    process.terminate()
    try:
        process.wait(timeout=END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_all(processes):
    """The last one first."""
    for process in reversed(processes):
        end(process)


def run(command, **options):
    """As subprocess.run, which on an exception kills the child: a script could not clean up."""
    with subprocess.Popen([*LEASH, *command], stdin=subprocess.DEVNULL, text=True,
                          **options) as process:
        try:
            output, _ = process.communicate()
        finally:
            end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output)
