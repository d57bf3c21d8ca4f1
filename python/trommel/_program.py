"""The ``trommel`` command."""

import os
import signal
import sys

from ._trommel import main as _main


def main() -> None:
    # As in a program of its own: Python's handler would only note the signal, and nobody here reads the note.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What `trommel launch` starts again.
    os.environ["TROMMEL_SCRIPT"] = os.path.abspath(sys.argv[0])
    status = _main(["trommel", *sys.argv[1:]], os.path.dirname(os.path.abspath(__file__)))
    # Not by way of `sys.exit`: threads of an interrupted run may still be at work.
    os._exit(status)
