"""What the benchmarks measure is what we ship: nothing is switched off for them."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.prepare import EXAMPLE, configuration

ADDRESSES_AND_PATHS = {
    "redis_url",
    "amqp_url",
    "public_url",
    "archive_url",
    "results_url",
    "actions",  # modules of a package of their own
    "handlers",
    "api.host",
    "api.port",
}
SECRETS = {"jwt.secret", "encryption_keys"}
SIZES_OF_LIMITS = {"queues", "rate_limits.submissions", "rate_limits.active_tasks"}


def differences(ours: dict[str, Any], shipped: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the keys with other values; below what is a mapping in both, the inner ones."""
    found = set()
    for key in ours.keys() | shipped.keys():
        mine, theirs = ours.get(key), shipped.get(key)
        if mine == theirs:
            continue
        whole = prefix + key in SECRETS | SIZES_OF_LIMITS
        if isinstance(mine, dict) and isinstance(theirs, dict) and not whole:
            found |= differences(mine, theirs, f"{prefix}{key}.")
        else:
            found.add(prefix + key)
    return found


def test_the_measured_configuration_differs_from_the_shipped_one_only_in_addresses_secrets_and_limits() -> None:
    ours = configuration("redis://127.0.0.1:1/0", "amqp://127.0.0.1:2/", Path("/tmp/bench"), 3)
    shipped = yaml.safe_load(EXAMPLE.read_text())
    assert differences(ours, shipped) <= ADDRESSES_AND_PATHS | SECRETS | SIZES_OF_LIMITS
    sizes = {key for queue in ours["queues"].values() for key in queue}
    assert sizes == {"prefetch", "concurrency", "depth_limit"}
