"""What a submission must be: strict types, known fields, known actions, and each fault named by a JSON Pointer."""

from typing import Any

import httpx
import pytest

from tests.api.problems import pointers_of, problem_of

NOOP: dict[str, Any] = {"action": "noop", "id": 1}
SLEEP: dict[str, Any] = {"action": "sleep", "seconds": 0}
REPORT: dict[str, Any] = {"action": "generate_report", "id": 1024}

WRONG: dict[str, tuple[Any, list[str]]] = {
    "an empty object": ({}, ["#/action"]),
    "no action": ({"id": 1}, ["#/action"]),
    "an unknown action": ({"action": "nope", "id": 1}, ["#/action"]),
    "an action in other letters": ({"action": "NOOP", "id": 1}, ["#/action"]),
    "an empty action": ({"action": "", "id": 1}, ["#/action"]),
    "null for an action": ({"action": None, "id": 1}, ["#/action"]),
    "a number for an action": ({"action": 1, "id": 1}, ["#/action"]),
    "an array for an action": ({"action": ["noop"], "id": 1}, ["#/action"]),
    "an object for an action": ({"action": {"name": "noop"}}, ["#/action"]),
    "no id": ({"action": "noop"}, ["#/id"]),
    "a string for an id": (NOOP | {"id": "1"}, ["#/id"]),
    "a fraction for an id": (NOOP | {"id": 1.5}, ["#/id"]),
    "true for an id": (NOOP | {"id": True}, ["#/id"]),
    "null for an id": (NOOP | {"id": None}, ["#/id"]),
    "an array for an id": (NOOP | {"id": [1]}, ["#/id"]),
    "an id below the least": (NOOP | {"id": -1}, ["#/id"]),
    "an id that no dataset has": (REPORT | {"id": 1}, ["#/id"]),
    "a dataset's id as a string": (REPORT | {"id": "1024"}, ["#/id"]),
    "a dataset's id nearly": (REPORT | {"id": 1024.5}, ["#/id"]),
    "a string for a number": (SLEEP | {"seconds": "1"}, ["#/seconds"]),
    "true for a number": (SLEEP | {"seconds": True}, ["#/seconds"]),
    "a number above the most": (SLEEP | {"seconds": 1e300}, ["#/seconds"]),
    "an unknown field": (NOOP | {"size": 1}, ["#/size"]),
    "an unknown field with a null": (NOOP | {"size": None}, ["#/size"]),
    "an action's field on another action": (NOOP | {"seconds": 1}, ["#/seconds"]),
    "a field in other letters": (NOOP | {"ID": 1}, ["#/ID"]),
    "an empty name": (NOOP | {"": 1}, ["#/"]),
    "a slash and a tilde in a name": (NOOP | {"a/b~c": 1}, ["#/a~1b~0c"]),
    "a name that no URI may hold": (NOOP | {'é %"#<': 1}, ["#/%C3%A9%20%25%22%23%3C"]),
    "a word for an enum": (REPORT | {"action": "transform_dataset", "every": "2h"}, ["#/every"]),
    "several faults": (SLEEP | {"seconds": -1, "steps": "x", "y": 1}, ["#/seconds", "#/steps", "#/y"]),
    # What is still to come is refused, not ignored.
    **{
        f"{name}, not built yet": (NOOP | {name: value}, [f"#/{name}"])
        for name, value in {
            "deadline_seconds": 60, "priority": "high", "region": "eu",
        }.items()
    },
    "no time at all": (NOOP | {"timeout_seconds": 0}, ["#/timeout_seconds"]),
    "no attempt at all": (NOOP | {"max_attempts": 0}, ["#/max_attempts"]),
    "more attempts than are given": (NOOP | {"max_attempts": 101}, ["#/max_attempts"]),
    "a delay into the past": (NOOP | {"delay_seconds": -1}, ["#/delay_seconds"]),
    # Labels: at most 16, unique, 1 to 64 of [A-Za-z0-9._:/-].
    "labels that are no list": (NOOP | {"labels": "a"}, ["#/labels"]),
    "labels in an object": (NOOP | {"labels": {"a": "b"}}, ["#/labels"]),
    "null for labels": (NOOP | {"labels": None}, ["#/labels"]),
    "17 labels": (NOOP | {"labels": [f"l{number}" for number in range(17)]}, ["#/labels"]),
    "a label twice": (NOOP | {"labels": ["a", "b", "a"]}, ["#/labels"]),
    "a number for a label": (NOOP | {"labels": ["a", 1]}, ["#/labels/1"]),
    "an empty label": (NOOP | {"labels": [""]}, ["#/labels/0"]),
    "a label of 65": (NOOP | {"labels": ["a" * 65]}, ["#/labels/0"]),
    "a label with a space": (NOOP | {"labels": ["a b"]}, ["#/labels/0"]),
    "a label with a line break behind": (NOOP | {"labels": ["a\n"]}, ["#/labels/0"]),
    "a label with a comma": (NOOP | {"labels": ["a,b"]}, ["#/labels/0"]),
    "a label in other letters": (NOOP | {"labels": ["é"]}, ["#/labels/0"]),
    "a label with other digits": (NOOP | {"labels": ["٣"]}, ["#/labels/0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_not_the_model_is_named_and_nothing_is_accepted(name: str, alice: httpx.AsyncClient) -> None:
    body, pointers = WRONG[name]
    answer = await alice.post("/v1/workload", json=body, headers={"Idempotency-Key": "k"})
    assert sorted(pointers_of(answer)) == pointers
    assert (await alice.get("/v1/workload")).json() == {"items": []}
    # Nothing is left under the key, either.
    again = await alice.post("/v1/workload", json=NOOP, headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert "idempotent-replayed" not in again.headers


@pytest.mark.parametrize("body", [{"action": "nope"}, {"id": 1}])
async def test_an_unknown_action_is_answered_with_the_known_ones(
    body: dict[str, Any], alice: httpx.AsyncClient
) -> None:
    problem = problem_of(await alice.post("/v1/workload", json=body), "validation")
    for known in ("generate_report", "transform_dataset", "noop", "sleep"):
        assert known in problem["errors"][0]["detail"]


async def test_no_value_that_was_sent_comes_back(alice: httpx.AsyncClient) -> None:
    """A payload may be secret, and an answer is logged in many places."""
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": "s3cret", "labels": ["s3cret s3cret"]})
    assert sorted(pointers_of(answer)) == ["#/id", "#/labels/0"]
    assert "s3cret" not in answer.text


@pytest.mark.parametrize(
    "labels", [[], ["a"], ["A-z.0_9:/"], ["a" * 64], [f"label:{number}" for number in range(16)], ["a", "A"]]
)
async def test_labels_by_the_rules_are_kept_as_they_are(labels: list[str], alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json=NOOP | {"labels": labels})
    assert answer.status_code == 202, answer.text
    assert answer.json()["labels"] == labels
    assert (await alice.get(answer.headers["location"])).json()["labels"] == labels
