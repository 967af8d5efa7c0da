"""Why a request cannot be read, in plain words: one line that names the field, never the value (it may be a secret)."""

from __future__ import annotations

from typing import Any

# Pydantic's error types, as far as what HTTP takes here can raise them; any other is said in Pydantic's own words.
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "int_type": "must be a whole number, or null where it was not asked",
    "string_type": "must be a text",
    "string_pattern_mismatch": "has characters that are not allowed here",
    "list_type": "must be a list",
}
_LENGTHS = {"min_length": "must have at least {}", "max_length": "may have at most {}"}
_OF = {"string_too_short": "characters", "string_too_long": "characters", "too_short": "entries", "too_long": "entries"}


def refusal(error: dict[str, Any]) -> str:
    """One of `RequestValidationError.errors()` as people read it."""
    kind, where = str(error["type"]), ".".join(str(part) for part in error["loc"] if part not in ("body", "path", "header"))
    if kind == "json_invalid":
        return "the body is no JSON"
    if not where:
        return "the body must be a JSON object"
    words = _WORDS.get(kind, str(error["msg"]))
    if kind in _OF:
        words = next(
            (f"{text.format(error['ctx'][key])} {_OF[kind]}" for key, text in _LENGTHS.items() if key in error["ctx"]), words
        )
    return f"{where}: {words}"
