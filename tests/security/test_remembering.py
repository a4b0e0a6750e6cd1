"""A verified token is remembered until it expires: by its digest, in bounded memory, and never one that was refused."""

import time

import pytest

import app.security.tokens as tokens_module
from app.domain.errors import Unauthorized
from app.security.key_sets import FixedKey
from app.security.task_tokens import TaskTokenKeys
from app.security.tokens import TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, good_claims, sign

SECRET = "0123456789abcdef0123456789abcdef"


class CountedKey(FixedKey):
    """The key, and how often it was wanted."""

    wanted = 0

    async def key_for(self, kid: object) -> str | None:
        self.wanted += 1
        return await super().key_for(kid)


@pytest.fixture
def key() -> CountedKey:
    return CountedKey(SECRET)


@pytest.fixture
def verifier(key: CountedKey) -> TokenVerifier:
    task_keys = TaskTokenKeys({"k": b"t" * 32})
    return TokenVerifier(
        algorithm="HS256", keys=key, issuer=ISSUER, audience=AUDIENCE, leeway_seconds=0, task_keys=task_keys
    )


def good(**claims: object) -> str:
    return sign(good_claims(**claims), SECRET.encode())


async def test_a_token_is_verified_once(key: CountedKey, verifier: TokenVerifier) -> None:
    token = good()
    first = await verifier.verify(token)
    assert await verifier.verify(token) == first
    assert key.wanted == 1


async def test_no_token_is_kept_in_memory(verifier: TokenVerifier) -> None:
    token = good()
    await verifier.verify(token)
    assert token not in repr(vars(verifier))
    assert token.rpartition(".")[2] not in repr(vars(verifier))


async def test_it_is_refused_from_the_second_on_in_which_it_expires(verifier: TokenVerifier) -> None:
    token = good(exp=int(time.time()) + 2)
    await verifier.verify(token)
    deadline = time.time() + 10
    while (asked := time.time()) < deadline:
        try:
            principal = await verifier.verify(token)
        except Unauthorized:
            break
        assert asked < principal.expires_at + 1
    else:
        pytest.fail("it never expired")
    assert time.time() >= principal.expires_at


async def test_a_refused_one_is_judged_anew_each_time(key: CountedKey, verifier: TokenVerifier) -> None:
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await verifier.verify(sign(good_claims(), b"another key"))
    assert key.wanted == 3


async def test_a_token_like_a_remembered_one_is_not_it(verifier: TokenVerifier) -> None:
    token = good()
    await verifier.verify(token)
    head, claims, signature = token.split(".")
    for other in (f"{head}.{claims}.{signature[:-2]}AA", f"{head}.{claims}.", f"{head}..{signature}"):
        with pytest.raises(Unauthorized):
            await verifier.verify(other)


async def test_memory_is_bounded(key: CountedKey, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "REMEMBERED", 3)
    tokens = [good(jti=str(number)) for number in range(5)]
    for token in tokens:
        await verifier.verify(token)
    assert len(verifier._verified) == 3
    await verifier.verify(tokens[-1])
    assert key.wanted == 5
    await verifier.verify(tokens[0])  # forgotten, and verified again
    assert key.wanted == 6
