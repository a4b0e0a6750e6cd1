"""prctl(2): what Linux does for a process when another one ends."""

import ctypes
import os
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36


def prctl(option: int, value: int) -> None:
    """Set an option of this process.

    Raises:
        OSError: The kernel refuses it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def end_with_parent(parent: int, signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends; if it has ended already, end.

    Args:
        parent: Who the parent was before the fork.
        signal_number: What is sent.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked to die with it
