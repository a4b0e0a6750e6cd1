"""Sealed result files: nothing is seen of them where they lie, any stretch opens, and no change goes unnoticed."""

import os
import secrets
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import StoreUnavailable, Undecryptable
from app.domain.task import ResultFile
from app.results.store import ResultStore
from app.security.file_sealing import HEAD_BYTES, PIECE_BYTES, TAG_BYTES, FileSealer, StretchOpener

OLD, NEW = os.urandom(32), os.urandom(32)
SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 5 * PIECE_BYTES + 17)
TASK = uuid4()


async def put(
    store: ResultStore, directory: Path, content: bytes, *, task_id: UUID = TASK, token: int = 1
) -> ResultFile:
    """Store a file of this content."""
    path = directory / "made"
    path.write_bytes(content)
    return await store.put(task_id, token, path, content_type="text/plain", filename="made")


async def read(store: ResultStore, file: ResultFile, start: int = 0, end: int | None = None) -> bytes:
    """Read a stretch of it."""
    chunks = await store.read(file, start, file.size if end is None else end)
    return b"".join([chunk async for chunk in chunks])


def sealing(directory: Path, **keys: bytes) -> ResultStore:
    """A store that seals under the first of these keys."""
    return ResultStore(directory.as_uri(), sealer=FileSealer(keys), seals=True)


@pytest.mark.parametrize("size", SIZES)
async def test_the_stored_file_shows_nothing_and_any_stretch_of_it_opens(size: int, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    store, content = sealing(kept, a=OLD), secrets.token_bytes(size)
    file = await put(store, tmp_path, content)
    stored = (kept / file.key).read_bytes()
    assert len(stored) == HEAD_BYTES + size + TAG_BYTES * max(1, -(-size // PIECE_BYTES))
    assert file.size == size
    if size > 32:
        assert content[:32] not in stored
        assert content[-32:] not in stored
    assert await read(store, file) == content
    places = {0, 1, size // 2, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, size - 1, size}
    ends = sorted(place for place in places if 0 <= place <= size)
    for start in ends:
        for end in ends:
            if start <= end:
                assert await read(store, file, start, end) == content[start:end], (start, end)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["made"]


@given(st.binary(max_size=300), st.data())
def test_it_opens_in_whatever_portions_it_comes(content: bytes, data: st.DataObject) -> None:
    cipher = FileSealer({"a": OLD})._cipher(b"a", b"s" * 32, "n")
    sealed = cipher.encrypt(bytes(11) + b"\1", content, None)
    cut = data.draw(st.integers(0, len(sealed)))
    opener = StretchOpener(cipher, 0, len(content), len(content))
    assert opener.feed(sealed[:cut]) + opener.feed(sealed[cut:]) == content
    opener.close()


async def test_a_changed_moved_or_cut_file_does_not_open(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    store, content = sealing(kept, a=OLD), secrets.token_bytes(3 * PIECE_BYTES)
    file = await put(store, tmp_path, content)
    other = await put(store, tmp_path, secrets.token_bytes(3 * PIECE_BYTES), token=2)
    path = kept / file.key
    good = path.read_bytes()
    piece = PIECE_BYTES + TAG_BYTES
    pieces = [good[HEAD_BYTES + at * piece : HEAD_BYTES + (at + 1) * piece] for at in range(3)]
    head = good[:HEAD_BYTES]
    broken = {
        "another file's": (kept / other.key).read_bytes(),
        "another salt": head[:-1] + bytes([head[-1] ^ 1]) + good[HEAD_BYTES:],
        "an unknown key": head.replace(b"\x01a", b"\x01b") + good[HEAD_BYTES:],
        "no head": good[HEAD_BYTES:],
        "a changed byte": good[:-1] + bytes([good[-1] ^ 1]),
        "a changed first byte": head + bytes([good[HEAD_BYTES] ^ 1]) + good[HEAD_BYTES + 1 :],
        "exchanged pieces": head + pieces[1] + pieces[0] + pieces[2],
        "a piece twice": head + pieces[0] + pieces[0] + pieces[2],
        "the last piece gone": head + pieces[0] + pieces[1],
        "a byte gone": good[:-1],
        "plain": content,
    }
    for name, stored in broken.items():
        path.write_bytes(stored)
        with pytest.raises((StoreUnavailable, Undecryptable)):
            assert await read(store, file) is None, name
    path.write_bytes(good)
    assert await read(store, file) == content


async def test_a_cut_file_does_not_pass_for_a_shorter_one(tmp_path: Path) -> None:
    """Even if somebody changes what the row says of its size."""
    store = sealing(tmp_path / "kept", a=OLD)
    file = await put(store, tmp_path, secrets.token_bytes(2 * PIECE_BYTES))
    shorter = ResultFile(key=file.key, size=PIECE_BYTES, content_type="", filename="", sha256="")
    with pytest.raises(StoreUnavailable):
        await read(store, shorter)


async def test_keys_rotate_and_files_of_both_kinds_are_read_side_by_side(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    plain_store = ResultStore(kept.as_uri(), sealer=FileSealer({"old": OLD}))
    plain = await put(plain_store, tmp_path, b"plain")
    old = await put(sealing(kept, old=OLD), tmp_path, b"under the old key", token=2)
    rotated = sealing(kept, new=NEW, old=OLD)
    new = await put(rotated, tmp_path, b"under the new key", token=3)
    assert [await read(rotated, file) for file in (plain, old, new)] == [
        b"plain",
        b"under the old key",
        b"under the new key",
    ]
    assert await read(plain_store, old) == b"under the old key"  # no more are sealed, and those that were still open
    assert b"plain" in (kept / plain.key).read_bytes()
    with pytest.raises(StoreUnavailable):
        await read(sealing(kept, new=NEW), old)
    await rotated.remove(TASK)
    assert not list((kept / str(TASK)).glob("*")) or not await rotated.exists(old)
