"""The exceptions of the stack."""


class StackError(Exception):
    """A step of the stack failed. The text is one line for the terminal: what, why, and where the log is."""


class Stopped(Exception):
    """Somebody asked for the stop of what was being waited for."""
