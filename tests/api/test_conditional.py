"""If-None-Match on a status (RFC 9110, section 13.1.2): what has not changed is not sent again."""

import httpx
import pytest

from tests.api.staging import Staging

SAME = [
    'W/"{}"', '"{}"', "*", 'W/"1", W/"{}"', '"x","{}"', 'W/"{}" , "y"', '"a", , W/"{}"'
]  # fmt: skip
OTHER = ['W/"1"', '"1"', "{}", 'w/"{}"', "W/{}", '"{}', "'{}'", "", ",", '"{} "', 'W/"{}0"', "none"]


@pytest.mark.parametrize("form", SAME)
async def test_a_known_tag_is_answered_304(form: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    path = f"/v1/workload/status/{await staging.pending()}"
    full = await alice.get(path)
    answer = await alice.get(path, headers={"If-None-Match": form.format(full.json()["seq"])})
    assert answer.status_code == 304
    assert answer.content == b""
    for name in ("etag", "cache-control", "vary", "retry-after"):
        assert answer.headers[name] == full.headers[name]
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("form", OTHER)
async def test_any_other_is_answered_in_full(form: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    path = f"/v1/workload/status/{await staging.pending()}"
    full = await alice.get(path)
    answer = await alice.get(path, headers={"If-None-Match": form.format(full.json()["seq"])})
    assert answer.status_code == 200
    assert answer.json() == full.json()


async def test_a_list_over_several_lines_is_one_list(alice: httpx.AsyncClient, staging: Staging) -> None:
    path = f"/v1/workload/status/{await staging.pending()}"
    etag = (await alice.get(path)).headers["etag"]
    answer = await alice.get(path, headers=[("If-None-Match", '"1"'), ("If-None-Match", etag)])
    assert answer.status_code == 304


async def test_a_change_makes_the_tag_another_one(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    path = f"/v1/workload/status/{task_id}"
    etag = (await alice.get(path)).headers["etag"]
    await staging.store.beat(task_id, 1, token, progress=0, message=None)  # a beat without news is no change
    assert (await alice.get(path, headers={"If-None-Match": etag})).status_code == 304
    await staging.store.beat(task_id, 1, token, progress=5, message=None)
    answer = await alice.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != etag


async def test_who_may_not_see_a_task_is_not_told_that_it_is_unchanged(
    bob: httpx.AsyncClient, staging: Staging
) -> None:
    answer = await bob.get(f"/v1/workload/status/{await staging.pending()}", headers={"If-None-Match": "*"})
    assert answer.status_code == 404


async def test_a_submission_with_a_condition_is_a_submission(alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"If-None-Match": "*"})
    assert answer.status_code == 202
