"""The shapes of what HTTP answers and takes, for FastAPI and its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from eegloop.closed import Closed


class SeatHealth(BaseModel):
    """One seat, without a word about the person on it."""

    seat: str
    phase: str
    block: str
    stream: Literal["live", "delayed", "lost"]
    sample_age_s: float | None = Field(description="s since the newest sample; null = none yet")
    decision_age_s: float | None = Field(description="s since the newest decision; null = none yet")
    interlock: Literal["ok", "unknown"]
    recording: Literal["ok", "failed", "off"]


class DaemonHealth(BaseModel):
    connected: bool
    age_s: float | None = Field(description="s since the daemon wrote its newest state; null = never")


class Health(BaseModel):
    """`ok`: the daemon speaks, every stream is live, every interlock answers and no recording has failed."""

    status: Literal["ok", "degraded"]
    version: str
    uptime_s: float
    daemon: DaemonHealth
    seats: list[SeatHealth]
    mqtt: Literal["off", "connecting", "connected", "failed"]


class State(BaseModel):
    """What the WebSocket sends as `state`: docs/contracts.md section 8."""

    type: Literal["state"]
    server_t_s: float = Field(description="LSL local_clock of this machine, s")
    daemon: DaemonHealth
    seats: list[dict[str, Any]]


class StopResult(BaseModel):
    """What the device confirmed: true = zero; false = not within 1 s; null = no interlock answered."""

    seat: str
    confirmed: bool | None
    output_ma: float | None
    after_ms: float | None
    advice: str
    error: str
    count: int = Field(description="STOPs for this seat since the web process started, this one included")


class Secret(Closed):
    """The secret that stood behind `#link=` in a one-time link."""

    secret: str = Field(min_length=1, max_length=200)


class FilledIn(Closed):
    """One form, filled in: one whole number a question, in the form's order; null: not asked, because an answer could not wait."""

    form: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9_]+$")
    values: list[Annotated[int, Field(strict=True)] | None] = Field(min_length=1, max_length=40)


class Question(BaseModel):
    """One question: what is asked, and the whole numbers 0 to `highest` that answer it, each with a word (or only the ends)."""

    id: str
    text: str
    highest: int
    labels: list[str]
    urgent: int | None = Field(description="from this answer on the form is sent at once, null where the next were not asked")


class Form(BaseModel):
    id: str
    title: str
    items: list[Question]


class Taken(BaseModel):
    """The answers were kept."""

    form: str


class Nothing(Closed):
    """An empty object."""


class PageTokens(BaseModel):
    """`token` opens the page; `stop_token` only stops, and never ends."""

    token: str
    stop_token: str


class Refusal(BaseModel):
    detail: str
