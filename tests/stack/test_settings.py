"""Ports and directories: defaults < `.env` < the environment; mistakes are one line."""

from pathlib import Path

import pytest

from stack.errors import StackError
from stack.settings import PORTS, REPOSITORY, StackSettings

NOWHERE = Path("/nowhere")


def test_defaults_hold_when_nothing_is_set() -> None:
    settings = StackSettings.load({}, dotenv=NOWHERE)
    assert settings.run_directory == REPOSITORY / ".run"
    assert settings.nginx_port == PORTS["LONGHAUL_NGINX_PORT"]
    assert len(settings.ports()) == 6  # no two of them meet


def test_the_environment_wins_over_dotenv(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# mine\n\nexport LONGHAUL_API_PORT=1111\nLONGHAUL_NGINX_PORT='2222'\nLONGHAUL_RUN_DIR=\n")
    settings = StackSettings.load({"LONGHAUL_API_PORT": "3333"}, dotenv=dotenv)
    assert (settings.api_port, settings.nginx_port) == (3333, 2222)
    assert settings.run_directory == REPOSITORY / ".run"


def test_the_services_see_none_of_the_stacks_own_variables() -> None:
    settings = StackSettings.load(
        {"LONGHAUL_API_PORT": "1", "LONGHAUL_LOG__LEVEL": "debug", "HOME": "/h"}, dotenv=NOWHERE
    )
    assert settings.service_environment == {"LONGHAUL_LOG__LEVEL": "debug", "HOME": "/h"}


@pytest.mark.parametrize("text", ["eighty", "0", "65534", "-1", "8080.0", "٨"])
def test_what_is_no_port_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(StackError, match=f"LONGHAUL_API_PORT={text}: a port"):
        StackSettings.load({"LONGHAUL_API_PORT": text}, dotenv=NOWHERE)


def test_a_line_of_dotenv_that_sets_nothing_is_refused_by_its_number(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("A=1\nnonsense\n")
    with pytest.raises(StackError, match="line 2: KEY=VALUE"):
        StackSettings.load({}, dotenv=dotenv)
