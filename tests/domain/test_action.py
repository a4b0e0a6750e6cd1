"""Actions: typed contracts, and the catalogue that fits them to the configuration."""

from types import ModuleType
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from app.actions import load_catalogue
from app.domain.action import Action, ActionCatalogue, DatasetId, actions_of
from app.domain.errors import ConfigurationError


class Paint(Action, name="paint", queue="studio"):
    """Paint something."""

    coats: int = Field(ge=1, le=3)


class Measure(Action, name="measure", queue="field"):
    """Measure a dataset."""

    id: Annotated[int, DatasetId()]


@pytest.fixture
def catalogue() -> ActionCatalogue:
    """Both actions, on two datasets."""
    return ActionCatalogue([Paint, Measure], dataset_ids=[7, 3])


def test_the_catalogue_keeps_the_order_and_names_each_queue_once(catalogue: ActionCatalogue) -> None:
    assert catalogue.names == ["paint", "measure"]
    assert catalogue.queues == ["studio", "field"]
    assert [action.action_name for action in catalogue] == ["paint", "measure"]
    assert catalogue.get("nope") is None


def test_the_name_decides_which_model_holds(catalogue: ActionCatalogue) -> None:
    painted = catalogue.adapter.validate_json('{"action": "paint", "coats": 2, "labels": ["a"]}')
    assert isinstance(painted, Paint)
    assert painted.params == {"coats": 2}  # what the handler gets: neither the name nor the envelope's fields
    assert painted.labels == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        '{"action": "paint", "coats": "2"}', '{"action": "paint", "coats": 2.0}', '{"action": "paint", "coats": true}',
        '{"action": "paint", "coats": 4}', '{"action": "paint", "coats": 2, "id": 7}', '{"action": "measure", "id": 4}',
        '{"action": "measure", "id": "7"}', '{"action": "measure", "id": 7.5}', '{"coats": 2}', '{"action": "Paint"}',
        '{"action": "paint", "coats": 2, "labels": ["a", "a"]}', '{"action": "paint", "coats": 2, "queue_name": "x"}',
    ],
)  # fmt: skip
def test_what_is_not_the_model_is_refused(body: str, catalogue: ActionCatalogue) -> None:
    with pytest.raises(ValidationError):
        catalogue.adapter.validate_json(body)


def test_an_order_cannot_be_changed(catalogue: ActionCatalogue) -> None:
    painted = catalogue.adapter.validate_python({"action": "paint", "coats": 2})
    with pytest.raises(ValidationError):
        painted.coats = 3  # type: ignore[attr-defined]


def test_the_ids_of_the_configuration_are_the_schemas_enum(catalogue: ActionCatalogue) -> None:
    measure = catalogue.get("measure")
    assert measure is not None
    assert measure.model_json_schema()["properties"]["id"]["enum"] == [3, 7]


def test_a_catalogue_that_does_not_fit_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="'paint'"):
        ActionCatalogue([Paint, Paint], dataset_ids=[])
    with pytest.raises(ConfigurationError, match="datasets"):
        ActionCatalogue([Measure], dataset_ids=[])
    with pytest.raises(ConfigurationError, match="actions"):
        ActionCatalogue([], dataset_ids=[])


def test_an_action_has_a_name_and_a_queue_or_neither() -> None:
    with pytest.raises(TypeError, match="both"):
        type("Half", (Action,), {}, name="half")


def test_only_what_a_module_defines_itself_is_its_own() -> None:
    module = ModuleType("painting")
    vars(module).update(Action=Action, Paint=Paint, number=1)
    assert actions_of(vars(module), "painting") == []
    assert actions_of(vars(module), __name__) == [Paint]


@pytest.mark.parametrize("name", ["app.actions.nothing", "app.domain.task", "no such module"])
def test_a_module_without_actions_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"actions: {name}"):
        load_catalogue([name], dataset_ids=[1])


def test_the_built_in_actions_load() -> None:
    modules = [f"app.actions.{name}" for name in ("generate_report", "transform_dataset", "noop", "sleep")]
    assert load_catalogue(modules, dataset_ids=[1]).queues == ["report_gen", "transform", "bench"]
