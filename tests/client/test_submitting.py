"""A submission is repeated exactly when that cannot start the work twice."""

import json
from datetime import timedelta

import pytest

from app.client import ClientError, LonghaulClient, ServiceProblem, UnexpectedAnswer, Unreachable
from tests.client.faulty import SUBMIT, Faulty, document, drops, problem, says

ACCEPTED = document() | {"task_token": "t.o.k"}


async def test_the_body_is_flat_and_the_answer_carries_the_key_to_the_task(
    client: LonghaulClient, faulty: Faulty
) -> None:
    faulty.on(SUBMIT, says(202, ACCEPTED))
    task = await client.submit("noop", {"id": 1, "max_attempts": 3}, labels=["a", "b"])
    [request] = faulty.calls(SUBMIT)
    assert json.loads(request.body) == {"action": "noop", "id": 1, "max_attempts": 3, "labels": ["a", "b"]}
    assert request.headers["authorization"] == "Bearer a.b.c"
    assert request.headers["content-type"] == "application/json"
    assert "idempotency-key" not in request.headers
    assert (task.task_token, task.replayed) == ("t.o.k", False)
    assert "t.o.k" not in repr(task)


async def test_503_then_202_is_one_task_and_no_error(faulty: Faulty) -> None:
    faulty.on(SUBMIT, problem("queue-full", 503, retry_after=1), says(202, ACCEPTED))
    told: list[str] = []
    async with LonghaulClient(faulty.url, "a.b.c", on_retry=lambda error, _: told.append(str(error))) as client:
        await client.submit("noop", {"id": 1})
    assert len(faulty.calls(SUBMIT)) == 2
    assert told == ["queue-full: Queue-Full"]


@pytest.mark.parametrize(
    "failure", [problem("store-unavailable", 503, retry_after=1), problem("internal", 500), drops()]
)
async def test_without_a_key_an_unknown_outcome_is_the_callers_to_judge(
    client: LonghaulClient, faulty: Faulty, failure: object
) -> None:
    faulty.on(SUBMIT, failure, says(202, ACCEPTED))  # type: ignore[arg-type]
    with pytest.raises(ClientError) as raised:
        await client.submit("noop", {"id": 1})
    assert isinstance(raised.value, ServiceProblem | Unreachable)
    assert raised.value.outcome_is_unknown
    assert len(faulty.calls(SUBMIT)) == 1


@pytest.mark.parametrize(
    "failure", [problem("store-unavailable", 503, retry_after=1), problem("internal", 500), drops()]
)
async def test_with_a_key_it_is_sent_again_just_as_it_was(
    client: LonghaulClient, faulty: Faulty, failure: object
) -> None:
    faulty.on(SUBMIT, failure, says(202, ACCEPTED, Idempotent_Replayed="true"))  # type: ignore[arg-type]
    task = await client.submit("noop", {"id": 1}, idempotency_key="k")
    first, second = faulty.calls(SUBMIT)
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
    assert task.replayed


async def test_a_refusal_is_final(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SUBMIT, problem("validation", 422, errors=[{"pointer": "#/id", "detail": "must be an integer"}]))
    with pytest.raises(ServiceProblem, match="#/id: must be an integer"):
        await client.submit("noop", {"id": "x"}, idempotency_key="k")
    assert len(faulty.calls(SUBMIT)) == 1


async def test_a_retry_after_beyond_the_patience_is_told_at_once(faulty: Faulty) -> None:
    faulty.on(SUBMIT, problem("quota-exceeded", 429, retry_after=3600))
    async with LonghaulClient(faulty.url, "a.b.c", patience=timedelta(seconds=1)) as client:
        with pytest.raises(ServiceProblem) as raised:
            await client.submit("noop", {"id": 1})
    assert raised.value.retry_after == 3600


async def test_a_redirect_is_not_followed_and_gets_no_token(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(307, None, Location="/elsewhere"))
    with pytest.raises(UnexpectedAnswer, match="307"):
        await client.submit("noop", {"id": 1}, idempotency_key="k")
    assert [seen.route for seen in faulty.seen] == [SUBMIT]


async def test_an_answer_outside_the_contract_names_what_is_wrong(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(202, document()))
    with pytest.raises(UnexpectedAnswer, match="task_token"):
        await client.submit("noop", {"id": 1})


async def test_members_of_tomorrow_are_no_error(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(202, ACCEPTED | {"priority": "high"}))
    assert (await client.submit("noop", {"id": 1})).seq == 1


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "line\nbreak"])
async def test_a_key_that_cannot_be_sent_is_refused_before_anything_is(
    client: LonghaulClient, faulty: Faulty, key: str
) -> None:
    with pytest.raises(ValueError, match="idempotency key"):
        await client.submit("noop", {"id": 1}, idempotency_key=key)
    assert faulty.seen == []


async def test_arguments_that_contradict_each_other_are_refused(client: LonghaulClient, faulty: Faulty) -> None:
    with pytest.raises(ValueError, match="action and labels"):
        await client.submit("noop", {"action": "sleep"})
    with pytest.raises(ValueError, match="action and labels"):
        await client.submit("noop", {"labels": ["a"]}, labels=["b"])
    with pytest.raises(ValueError, match="JSON"):
        await client.submit("noop", {"id": float("nan")})
    assert faulty.seen == []


async def test_a_prefix_in_the_url_is_kept(faulty: Faulty) -> None:
    faulty.on("POST /behind/a/proxy/v1/workload", says(202, ACCEPTED))
    async with LonghaulClient(f"{faulty.url}/behind/a/proxy", "a.b.c") as client:
        await client.submit("noop", {"id": 1})


async def test_no_service_at_all_is_said_soon() -> None:
    async with LonghaulClient("http://127.0.0.1:9", "a.b.c") as client:
        with pytest.raises(Unreachable, match="cannot be reached: connection refused") as raised:
            await client.submit("noop", {"id": 1})
    assert not raised.value.outcome_is_unknown


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("127.0.0.1:8080", "t"),
        ("ftp://host", "t"),
        ("http://", "t"),
        ("http://me:secret@host", "t"),
        ("http://host/?a=b", "t"),
        ("http://host:99999", "t"),
        ("http://host", ""),
        ("http://host", "two words"),
        ("http://host", "new\nline"),
    ],
)
def test_what_cannot_work_is_refused_when_the_client_is_made(url: str, token: str) -> None:
    with pytest.raises(ValueError, match=r"URL|token|http"):
        LonghaulClient(url, token)


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await LonghaulClient("http://host", "t").submit("noop")
