"""Starts one script in several processes of this machine, which run it together.

    python -m graphstate.launch --processes 2 --devices 4 script.py --its arguments

Each process has virtual CPU devices, and they find each other before the script begins; so a program for many machines
can be tried on one. What they write is shown with the number of the process; when one of them fails, the others are
ended, and its error is shown last. On a cluster, which starts the processes itself, the script calls
`graphstate.parallel.initialize()` instead.

_environment  what a process must find in its environment
_link         the line between a process and who has started it
_lines        what a process writes, line by line
_member       one process, as the launcher sees it
_group        the processes: starting, watching, ending them
_worker       what runs in each of them
"""

from ._group import run

__all__ = ["run"]
