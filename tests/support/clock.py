"""A clock that a test sets by hand."""


class Clock:
    """Stands still until `now` is changed; in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
