"""Files that appear whole or not at all, and that only their owner may read."""

import os
import secrets
from pathlib import Path


def write_private(file: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        stream.write(text)
    draft.replace(file)
