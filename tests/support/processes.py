"""What the tests ask of other processes."""

import psutil


def runs(pid: int) -> bool:
    """Is there such a process, and has it not ended? What waits for its parent to collect it (a zombie) has ended.

    An orphan is collected by the machine's first process, and in a container that one may take its time.
    """
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
