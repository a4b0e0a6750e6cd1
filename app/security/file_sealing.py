"""File sealing: result files, encrypted in pieces, so that any stretch of one can be read without the rest.

A head of fixed size (magic, key id, a random salt), then pieces of 64 KiB, each with its tag. Each file has its own
key, derived (HKDF, RFC 5869) from the encryption key, the salt and the file's name, so that a piece's number can be its
nonce: a piece belongs to its place in its file, and to no other file. The last one is marked: a cut file does not pass
for a whole one. (The STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, 2015.)
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.domain.errors import Undecryptable

MAGIC: Final = b"LHF1"
KEY_ID_BYTES: Final = 255
SALT_BYTES: Final = 32
HEAD_BYTES: Final = len(MAGIC) + 1 + KEY_ID_BYTES + SALT_BYTES
PIECE_BYTES: Final = 65_536
TAG_BYTES: Final = 16
PURPOSE: Final = b"longhaul result file\0"


class FileSealer:
    """Seals and opens files under the configured keys: the first one seals, all open."""

    head_bytes: Final = HEAD_BYTES

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {key_id.encode(): key for key_id, key in keys.items()}
        self._first = next(iter(self._keys))

    def seal(self, plain: Path, sealed: IO[bytes], *, name: str) -> None:
        """Write a file's sealed form.

        Args:
            plain: The file.
            sealed: Where its sealed form goes.
            name: What it is kept as; it opens under this name only.
        """
        salt = os.urandom(SALT_BYTES)
        cipher = self._cipher(self._first, salt, name)
        sealed.write(MAGIC + bytes([len(self._first)]) + self._first.ljust(KEY_ID_BYTES, b"\0") + salt)
        with plain.open("rb") as file:
            number, piece = 0, file.read(PIECE_BYTES)
            while True:
                following = file.read(PIECE_BYTES)
                sealed.write(cipher.encrypt(_nonce(number, is_last=not following), piece, None))
                if not following:
                    return
                number, piece = number + 1, following

    def stretch(self, start: int, end: int, size: int) -> tuple[int, int]:
        """Return which bytes of the sealed form hold the bytes from `start` up to, not including, `end`."""
        first, behind = start // PIECE_BYTES, -(-end // PIECE_BYTES)
        whole = HEAD_BYTES + size + TAG_BYTES * max(1, -(-size // PIECE_BYTES))
        return HEAD_BYTES + first * (PIECE_BYTES + TAG_BYTES), min(
            HEAD_BYTES + behind * (PIECE_BYTES + TAG_BYTES), whole
        )

    def opener(self, head: bytes, *, name: str, start: int, end: int, size: int) -> "StretchOpener":
        """Return what opens a stretch, given the sealed form's head.

        Raises:
            Undecryptable: The head is none of ours, or its key is not configured.
        """
        key_id = head[5 : 5 + head[4]] if len(head) == HEAD_BYTES and head.startswith(MAGIC) else b""
        if key_id not in self._keys:
            raise Undecryptable("It was sealed under a key that is not configured.")
        return StretchOpener(self._cipher(key_id, head[-SALT_BYTES:], name), start, end, size)

    def _cipher(self, key_id: bytes, salt: bytes, name: str) -> AESGCM:
        info = PURPOSE + name.encode()
        return AESGCM(HKDF(hashes.SHA256(), 32, salt=salt, info=info).derive(self._keys[key_id]))


class StretchOpener:
    """Opens a stretch of a file as its sealed bytes come, in whatever portions."""

    def __init__(self, cipher: AESGCM, start: int, end: int, size: int) -> None:
        self._cipher = cipher
        self._number = start // PIECE_BYTES
        self._last = max(0, -(-size // PIECE_BYTES) - 1)
        self._size = size
        self._skip = start % PIECE_BYTES
        self._left = end - start
        self._waiting = bytearray()

    def feed(self, sealed: bytes) -> bytes:
        """Take the next sealed bytes; return what has become readable by them.

        Raises:
            Undecryptable: They were changed, or belong elsewhere.
        """
        self._waiting += sealed
        opened = []
        while self._left and len(self._waiting) >= (length := self._length()):
            piece = bytes(self._waiting[:length])
            del self._waiting[:length]
            try:
                plain = self._cipher.decrypt(_nonce(self._number, is_last=self._number == self._last), piece, None)
            except InvalidTag as error:
                raise Undecryptable from error
            wanted = plain[self._skip : self._skip + self._left]
            self._number, self._skip, self._left = self._number + 1, 0, self._left - len(wanted)
            opened.append(wanted)
        return b"".join(opened)

    def close(self) -> None:
        """Nothing more comes. Raises Undecryptable if something is missing."""
        if self._left:
            raise Undecryptable("The file is shorter than it was.")

    def _length(self) -> int:
        if self._number < self._last:
            return PIECE_BYTES + TAG_BYTES
        return self._size - self._last * PIECE_BYTES + TAG_BYTES


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
