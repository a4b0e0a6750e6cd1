"""Task tokens: signed with a key of their own, for one task; neither kind of token passes for the other."""

from uuid import UUID, uuid4

import pytest
from jose import jwt

from app.domain.errors import InsufficientScope, NotFound, Unauthorized
from app.domain.task import Owner
from app.security.principal import Principal, Scope, authorize
from app.security.tokens import TaskTokenIssuer, TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, good_claims, sign

SECRET = "0123456789abcdef0123456789abcdef"
TASK_KEY = b"t" * 32
OWNER = Owner("https://issuer.example", "alice")


def verifier() -> TokenVerifier:
    """Return one that knows both keys."""
    return TokenVerifier(
        algorithm="HS256", key=SECRET, issuer=ISSUER, audience=AUDIENCE, leeway_seconds=30, task_key=TASK_KEY
    )


def issue(task_id: UUID, *, key: bytes = TASK_KEY, ttl_seconds: int = 600, audience: str = AUDIENCE) -> str:
    """Return a task token."""
    return TaskTokenIssuer(key=key, issuer=ISSUER, audience=audience, ttl_seconds=ttl_seconds).issue(task_id, OWNER)


def test_a_task_token_is_its_owners_for_one_task() -> None:
    task_id = uuid4()
    principal = verifier().verify(issue(task_id))
    assert principal.owner == OWNER
    assert principal.only_task == task_id
    assert Scope.ADMIN not in principal.scopes


def test_it_says_what_it_is() -> None:
    assert jwt.get_unverified_header(issue(uuid4()))["typ"] == "task+jwt"


@pytest.mark.parametrize("ttl_seconds", [-31, -600])
def test_an_expired_one_is_refused(ttl_seconds: int) -> None:
    with pytest.raises(Unauthorized):
        verifier().verify(issue(uuid4(), ttl_seconds=ttl_seconds))


def test_one_of_another_service_is_refused() -> None:
    for token in (issue(uuid4(), key=b"u" * 32), issue(uuid4(), audience="other")):
        with pytest.raises(Unauthorized):
            verifier().verify(token)


def test_neither_kind_passes_for_the_other() -> None:
    task_id = str(uuid4())
    claims = good_claims(task_id=task_id, owner_iss=ISSUER)
    task_hmac = TASK_KEY.hex().encode()
    for forged in (
        sign(claims, SECRET.encode(), typ="task+jwt"),  # whoever issues access tokens opens no task by this way
        sign(claims, task_hmac, typ="JWT"),  # nor does a task token's key make access tokens
        sign(claims, task_hmac, typ="at+jwt"),
        sign(claims, TASK_KEY, typ="task+jwt"),
    ):
        with pytest.raises(Unauthorized):
            verifier().verify(forged)


@pytest.mark.parametrize(
    "changes", [{"task_id": "x"}, {"task_id": ...}, {"task_id": 1}, {"owner_iss": ...}, {"sub": 1}]
)
def test_one_with_broken_claims_is_refused(changes: dict[str, object]) -> None:
    claims = good_claims(**({"task_id": str(uuid4()), "owner_iss": ISSUER} | changes))
    with pytest.raises(Unauthorized):
        verifier().verify(sign(claims, TASK_KEY.hex().encode(), typ="task+jwt"))


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
