"""Epochs: notices soon that Redis was emptied, so that no shard begins to grow old only when somebody needs it."""

from app.store.epochs import Epochs


class EpochWatch:
    """Looks at every shard's epoch."""

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs

    async def perform(self) -> None:
        """Begin the epochs that are missing."""
        await self._epochs.look()
