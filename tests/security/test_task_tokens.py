"""Task tokens: signed with a key of their own, for one task; neither kind of token passes for the other."""

from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jose import jwt

from app.domain.errors import InsufficientScope, NotFound, Unauthorized
from app.domain.task import Owner
from app.security.key_sets import FixedKey
from app.security.principal import Principal, Scope, authorize
from app.security.task_tokens import SCOPES, TaskTokenKeys
from app.security.tokens import TaskTokenIssuer, TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, good_claims, sign

SECRET = "0123456789abcdef0123456789abcdef"
TASK_KEYS = TaskTokenKeys({"k": b"t" * 32})
OWNER = Owner("https://issuer.example", "alice")


def verifier(keys: TaskTokenKeys = TASK_KEYS) -> TokenVerifier:
    """Return one that knows both kinds of key."""
    return TokenVerifier(
        algorithm="HS256",
        keys=FixedKey(SECRET),
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway_seconds=30,
        task_keys=keys,
    )


def issue(task_id: UUID, *, keys: TaskTokenKeys = TASK_KEYS, ttl_seconds: int = 600, audience: str = AUDIENCE) -> str:
    """Return a task token."""
    return TaskTokenIssuer(keys=keys, issuer=ISSUER, audience=audience, ttl_seconds=ttl_seconds).issue(task_id, OWNER)


def test_each_tasks_key_is_derived_by_hkdf() -> None:
    """By that of `cryptography`: tokens outlive the version of Longhaul that has signed them."""
    task_id = uuid4()
    info = b"longhaul task token\0" + task_id.bytes + SCOPES.encode()
    assert TASK_KEYS.key("k", task_id, SCOPES) == HKDF(hashes.SHA256(), 32, None, info).derive(b"t" * 32).hex()


async def test_a_task_token_is_its_owners_for_one_task() -> None:
    task_id = uuid4()
    principal = await verifier().verify(issue(task_id))
    assert principal.owner == OWNER
    assert principal.only_task == task_id
    assert Scope.ADMIN not in principal.scopes


async def test_it_says_what_it_is() -> None:
    assert jwt.get_unverified_header(issue(uuid4()))["typ"] == "task+jwt"


@pytest.mark.parametrize("ttl_seconds", [-31, -600])
async def test_an_expired_one_is_refused(ttl_seconds: int) -> None:
    with pytest.raises(Unauthorized):
        await verifier().verify(issue(uuid4(), ttl_seconds=ttl_seconds))


async def test_one_of_another_service_is_refused() -> None:
    for token in (issue(uuid4(), keys=TaskTokenKeys({"k": b"u" * 32})), issue(uuid4(), audience="other")):
        with pytest.raises(Unauthorized):
            await verifier().verify(token)


async def test_neither_kind_passes_for_the_other() -> None:
    task_id = uuid4()
    claims = good_claims(task_id=str(task_id), owner_iss=ISSUER, scope=SCOPES)
    task_hmac = TASK_KEYS.key("k", task_id, SCOPES).encode()
    assert (await verifier().verify(sign(claims, task_hmac, typ="task+jwt", kid="k"))).only_task == task_id
    for forged in (
        sign(
            claims, SECRET.encode(), typ="task+jwt", kid="k"
        ),  # whoever issues access tokens opens no task by this way
        sign(claims, task_hmac, typ="JWT"),  # nor does a task token's key make access tokens
        sign(claims, task_hmac, typ="at+jwt"),
        sign(claims, b"t" * 32, typ="task+jwt", kid="k"),
        sign(claims, (b"t" * 32).hex().encode(), typ="task+jwt", kid="k"),
        sign(claims, task_hmac, typ="task+jwt"),
        sign(claims, task_hmac, typ="task+jwt", kid="other"),
        sign(claims, task_hmac, typ="task+jwt", kid=1),
        sign(claims, task_hmac, typ="task+jwt", kid="k", crit=["exp"]),
        sign(claims, task_hmac, typ="task+jwt", kid="k", alg="none"),
    ):
        with pytest.raises(Unauthorized):
            await verifier().verify(forged)


async def test_the_key_of_one_task_signs_for_no_other_and_for_no_further_scope() -> None:
    mine, other = uuid4(), uuid4()
    key = TASK_KEYS.key("k", mine, SCOPES).encode()
    good = {"task_id": str(mine), "owner_iss": ISSUER, "scope": SCOPES}
    for change in ({"task_id": str(other)}, {"scope": f"{SCOPES} {Scope.ADMIN}"}, {"scope": Scope.READ}, {"scope": ""}):
        with pytest.raises(Unauthorized):
            await verifier().verify(sign(good_claims(**(good | change)), key, typ="task+jwt", kid="k"))


async def test_a_rotated_key_still_verifies_and_a_retired_one_does_not() -> None:
    """The first encryption key signs, and all verify: a rotation voids no token that is out."""
    old, new = {"old": b"o" * 32}, {"new": b"n" * 32}
    before, after = TaskTokenKeys(old), TaskTokenKeys(new | old)
    task_id = uuid4()
    assert (await verifier(after).verify(issue(task_id, keys=before))).only_task == task_id
    fresh = issue(task_id, keys=after)
    assert jwt.get_unverified_header(fresh)["kid"] == "new"
    assert (await verifier(after).verify(fresh)).only_task == task_id
    for keys, token in ((before, fresh), (TaskTokenKeys(new), issue(task_id, keys=before))):
        with pytest.raises(Unauthorized):
            await verifier(keys).verify(token)


@pytest.mark.parametrize(
    "changes",
    [{"task_id": "x"}, {"task_id": ...}, {"task_id": 1}, {"owner_iss": ...}, {"sub": 1}, {"scope": ...}, {"scope": 1}],
)
async def test_one_with_broken_claims_is_refused(changes: dict[str, object]) -> None:
    task_id = uuid4()
    claims = good_claims(**({"task_id": str(task_id), "owner_iss": ISSUER, "scope": SCOPES} | changes))
    for scopes in (SCOPES, "", "1"):
        key = TASK_KEYS.key("k", task_id, scopes).encode()
        with pytest.raises(Unauthorized):
            await verifier().verify(sign(claims, key, typ="task+jwt", kid="k"))


TASK = uuid4()
ALL = frozenset({Scope.SUBMIT, Scope.READ})


@pytest.mark.parametrize("scope", list(Scope))
def test_authorize_gives_the_owner_or_refuses(scope: Scope) -> None:
    holder = Principal(OWNER, frozenset({scope}), 0)
    assert authorize(holder, scope) == OWNER
    assert authorize(holder, scope, task_id=TASK) == OWNER
    for other in set(Scope) - {scope}:
        with pytest.raises(InsufficientScope) as raised:
            authorize(holder, other)
        assert raised.value.scope == other


def test_authorize_keeps_a_task_token_to_its_task() -> None:
    holder = Principal(OWNER, ALL, 0, only_task=TASK)
    assert authorize(holder, Scope.READ, task_id=TASK) == OWNER
    with pytest.raises(NotFound):
        authorize(holder, Scope.READ, task_id=uuid4())
    with pytest.raises(InsufficientScope):
        authorize(holder, Scope.READ)
    with pytest.raises(InsufficientScope):
        authorize(holder, Scope.ADMIN, task_id=TASK)
