"""What a controller answered, made safe to weigh, to say and to write down: a plug-in may return anything. Pure."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from eegloop.stim import StimRequest

MOST_REASON = 500
NO_REQUEST = "Held: the controller's answer was no request ({})."


def understood(answer: Any) -> StimRequest:
    """The answer itself if it is one that can be weighed, else a hold that says what was wrong with it.

    Numbers are real numbers and no truth values (`True` is not 1 mA), one that no float holds is NaN, which holds; `reason` is
    text that any file can take, at most `MOST_REASON` characters of it.
    """
    if type(answer) is not StimRequest:
        return _hold(f"a {type(answer).__name__}")
    numbers = (answer.amplitude_ma, answer.frequency_hz, 0.0 if answer.trigger_s is None else answer.trigger_s)
    reason = _text(answer.reason)
    if (
        type(answer.reason) is str
        and reason == answer.reason
        and type(answer.hold) is bool
        and all(type(number) is float for number in numbers)
    ):
        return answer
    if type(answer.hold) is not bool:
        return _hold("`hold` is neither true nor false")
    for field in ("amplitude_ma", "frequency_hz", "trigger_s"):
        value = getattr(answer, field)
        if not (value is None and field == "trigger_s") and (isinstance(value, bool) or not isinstance(value, Real)):
            return _hold(f"`{field}` is no number but a {type(value).__name__}")
    trigger_s = None if answer.trigger_s is None else _float(answer.trigger_s)
    return StimRequest(_float(answer.amplitude_ma), _float(answer.frequency_hz), answer.hold, reason, trigger_s)


def _hold(what: str) -> StimRequest:
    return StimRequest(math.nan, math.nan, True, NO_REQUEST.format(what))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _text(reason: Any) -> str:
    text = str(reason) if isinstance(reason, str) else f"(no reason, but a {type(reason).__name__})"
    sound = text[:MOST_REASON].encode("utf-8", "replace").decode("utf-8")
    return text if sound == text else sound
