"""The `Prefer` header (RFC 7240): which preferences a caller has, and how long it wants to wait."""

import re
from typing import Final

NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
WORD: Final = rf'(?:{NAME}|"(?:[^"\\]|\\.)*")'
# Each blank can be matched in one place only, so that no header makes it try again and again.
PARAMETER: Final = rf";[ \t]*(?:{NAME}[ \t]*(?:=[ \t]*{WORD}[ \t]*)?)?"
PREFERENCE: Final = re.compile(
    rf"[ \t]*(?P<name>{NAME})[ \t]*(?:=[ \t]*(?P<value>{WORD})[ \t]*)?(?:{PARAMETER})*(?:,|$)"
)
MOST_CHARACTERS: Final = 1000
"""Of a line; what comes after them is not read."""
SECONDS: Final = re.compile(r"[0-9]+")
MOST_DIGITS: Final = 9


def preferences(values: list[str]) -> dict[str, str]:
    """Return the preferences by their names in lower case; of one that is repeated, the first counts.

    Args:
        values: The values of all `Prefer` lines; what cannot be read in them is passed over.
    """
    found: dict[str, str] = {}
    for line in values:
        value, at = line[:MOST_CHARACTERS], 0
        while at < len(value):
            match = PREFERENCE.match(value, at)
            if match is None:
                at = value.find(",", at) + 1 or len(value)
                continue
            at = match.end()
            word = match["value"] or ""
            if word.startswith('"'):
                word = re.sub(r"\\(.)", r"\1", word[1:-1])
            found.setdefault(match["name"].lower(), word)
    return found


def wait_seconds(values: list[str], *, at_most: int) -> int | None:
    """Return for how many seconds a caller wants to wait, cut to what is allowed; None if it does not ask for that."""
    text = preferences(values).get("wait", "")
    if not SECONDS.fullmatch(text) or at_most < 1:
        return None
    digits = text.lstrip("0")
    if not digits:
        return None
    return at_most if len(digits) > MOST_DIGITS else min(int(digits), at_most)


def applied(seconds: int | None) -> dict[str, str]:
    """Return the header that says for how long the service was ready to wait."""
    return {} if seconds is None else {"Preference-Applied": f"wait={seconds}"}
