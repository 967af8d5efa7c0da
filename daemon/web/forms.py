"""The forms over HTTP: what is asked, and what was answered (control/forms.py has the questions, the daemon keeps the answers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Path

from control.forms import FORMS
from daemon.web.access import Session
from daemon.web.answers import FilledIn, Form, Question, Refusal, Taken
from daemon.web.feed import Feed

Signed = Callable[[str], Session]


def questions() -> list[Form]:
    """Every form as a page shows it."""
    return [
        Form(
            id=form.id,
            title=form.title,
            items=[Question(id=i.id, text=i.text, highest=i.highest, labels=list(i.labels), urgent=i.urgent) for i in form.items],
        )
        for form in FORMS.values()
    ]


def add_forms(app: FastAPI, feed: Feed, signed_in: Signed, refusals: dict[int | str, dict[str, Any]]) -> None:
    """The routes. `signed_in(authorization)` gives the page's session or raises 401."""

    @app.get("/api/v1/forms", response_model=list[Form], responses={421: refusals[421]})
    async def forms() -> list[Form]:
        """Every form there is; which are due is in the state. Names nobody and needs no token."""
        return questions()

    @app.post(
        "/api/v1/seats/{seat}/answers",
        response_model=Taken,
        responses={**refusals, 401: {"model": Refusal}, 409: {"model": Refusal, "description": "Not taken; the reason says why"}},
    )
    async def answers(
        filled_in: FilledIn,
        seat: Annotated[str, Path(description="seat id as in config.yaml", max_length=32)],
        authorization: Annotated[str, Header(description="Bearer TOKEN", max_length=300)] = "",
    ) -> Taken:
        """Answer one form. Kept for ever; what it forbids holds at once."""
        session = signed_in(authorization)
        ok, error = await feed.command(
            seat, "answer", f"{session.kind} {session.id}", form=filled_in.form, values=filled_in.values
        )
        if not ok:
            raise HTTPException(409, error)
        return Taken(form=filled_in.form)
