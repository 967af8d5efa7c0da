"""The HTTP routes: page, health, state, sign-in and STOP. What guards them all is in `gate.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Path, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from daemon.web.access import Session, Tokens, redeem_link
from daemon.web.answers import Health, Nothing, PageTokens, Refusal, Secret, State, StopResult
from daemon.web.assets import Asset
from daemon.web.feed import Feed
from daemon.web.forms import add_forms
from daemon.web.refusals import refusal
from daemon.web.socket import Sockets
from daemon.web.stop import StopLine
from eegloop.layout import Layout

INTRODUCTION_TIMEOUT_S = 20.0  # a demo that has just started looks for its headset that long on a busy machine
INTERLOCK_AGE_S = 1.0

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The request cannot be read"},
    403: {"model": Refusal, "description": "Foreign or missing Origin, or not allowed"},
    413: {"model": Refusal, "description": "Body over 4 KiB"},
    421: {"model": Refusal, "description": "Host is not one of allowed_hosts"},
    422: {"model": Refusal, "description": "Not what this route takes"},
}
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: {"model": Refusal, "description": "No valid token"}}


@dataclass(frozen=True, slots=True)
class Site:
    """Everything the routes use."""

    layout: Layout
    tokens: Tokens
    feed: Feed
    stops: StopLine
    sockets: Sockets
    assets: dict[str, Asset]
    mqtt_status: Callable[[], str]
    started_s: float = field(default_factory=time.monotonic)


def build_app(site: Site) -> FastAPI:
    """The application; documented at /api/v1/openapi.json."""
    app = FastAPI(
        title="eegloop",
        version=_version(),
        description="Listens to a person's brain and keeps stimulation where a clinician signed it. Research use only.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(RequestValidationError, _unprocessable)
    _add_looking(app, site)
    _add_signing_in(app, site)
    _add_stop(app, site)
    add_forms(app, site.feed, partial(_signed_in, site), _REFUSALS)

    @app.websocket("/api/v1/live")
    async def live(socket: WebSocket) -> None:
        await site.sockets.serve(socket)

    _add_page(app, site)
    return app


def _add_looking(app: FastAPI, site: Site) -> None:
    @app.get("/api/v1/health", response_model=Health, responses={421: _REFUSALS[421]})
    async def health() -> dict[str, Any]:
        """How the service is; names no person and needs no token."""
        return _health(site)

    @app.get("/api/v1/state", response_model=State, responses={**_UNAUTHORIZED, 421: _REFUSALS[421]})
    async def state(authorization: Annotated[str, Header(description="Bearer TOKEN", max_length=300)] = "") -> dict[str, Any]:
        """The live state of every seat, with the age of every number."""
        _signed_in(site, authorization)
        return site.feed.state()


def _signed_in(site: Site, authorization: str) -> Session:
    scheme, _, token = authorization.partition(" ")
    session = site.tokens.check(token) if scheme.lower() == "bearer" else None
    if session is None or not site.sockets.may_look(session):
        why = "a page token is needed: open a one-time link (`eegloop link`)"
        raise HTTPException(401, why, {"WWW-Authenticate": "Bearer"})
    return session


def _add_signing_in(app: FastAPI, site: Site) -> None:
    @app.post("/api/v1/link/redeem", response_model=PageTokens, responses={**_REFUSALS, **_UNAUTHORIZED})
    async def redeem(secret: Secret) -> PageTokens:
        """Exchange the secret of a one-time link, once and within five minutes, for a page's tokens."""
        if not redeem_link(site.layout, secret.secret):
            raise HTTPException(401, "this link was used or is over; make a new one with `eegloop link`")
        return PageTokens(token=site.tokens.mint("page"), stop_token=site.tokens.mint("stop"))

    @app.post(
        "/api/v1/demo/session",
        response_model=PageTokens,
        responses={**_REFUSALS, 503: {"model": Refusal, "description": "The daemon has not introduced its seats"}},
    )
    async def demo_session(_: Nothing | None = None) -> PageTokens:
        """A page's tokens without a link, only while every seat is a demo seat."""
        if not await introduced(site.feed) or not site.feed.connected:
            raise HTTPException(503, "the service is not ready; try again in a few seconds")
        if not site.feed.demo:
            raise HTTPException(403, "this is no demo: open a one-time link (`eegloop link`)")
        return PageTokens(token=site.tokens.mint("demo"), stop_token=site.tokens.mint("stop"))


def _add_stop(app: FastAPI, site: Site) -> None:
    @app.post("/api/v1/seats/{seat}/stop", response_model=StopResult, responses=_UNAUTHORIZED)
    async def stop(
        seat: Annotated[str, Path(description="seat id as in config.yaml")],
        x_stop_token: Annotated[str, Header(description="the page's stop-only token; a page token stops too")] = "",
    ) -> dict[str, Any]:
        """STOP: zero now, latched, past the daemon. Never refused for Origin, Host, expiry, rate or body; may be repeated."""
        if site.tokens.check(x_stop_token) is None:
            raise HTTPException(401, "STOP needs a stop token; else: `eegloop stop`, headset off, or stimulator off")
        return await site.stops.stop(seat, "STOP on the page (POST)")


def _add_page(app: FastAPI, site: Site) -> None:
    @app.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(name: str, request: Request) -> Response:
        asset = site.assets.get(name or "index.html")
        if asset is None:
            return JSONResponse({"detail": "there is nothing at this address"}, 404)
        headers = {"etag": asset.etag, "cache-control": asset.cache_control}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)


async def introduced(feed: Feed) -> bool:
    """Wait a moment for the daemon's first words, so that a page which is faster than they are is not sent away."""
    try:
        async with asyncio.timeout(INTRODUCTION_TIMEOUT_S):
            await feed.introduced.wait()
    except TimeoutError:
        return False
    return True


def _health(site: Site) -> dict[str, Any]:
    state = site.feed.state()
    seats = [_seat_health(seat) for seat in state["seats"]]
    good = (
        state["daemon"]["connected"]
        and bool(seats)
        and all(seat["stream"] == "live" and seat["interlock"] == "ok" and seat["recording"] != "failed" for seat in seats)
    )
    return {
        "status": "ok" if good else "degraded",
        "version": _version(),
        "uptime_s": time.monotonic() - site.started_s,
        "daemon": state["daemon"],
        "seats": seats,
        "mqtt": site.mqtt_status(),
    }


def _seat_health(seat: dict[str, Any]) -> dict[str, Any]:
    stream, output, recording = (seat.get(key) or {} for key in ("stream", "output", "recording"))
    output_age_s = output.get("age_s")
    interlock_ok = output.get("mode") != "unknown" and output_age_s is not None and output_age_s < INTERLOCK_AGE_S
    return {
        "seat": seat["seat"],
        "phase": seat.get("phase", ""),
        "block": seat.get("block", ""),
        "stream": stream["status"] if stream.get("status") in ("live", "delayed") else "lost",
        "sample_age_s": stream.get("age_s"),
        "decision_age_s": (seat.get("decision") or {}).get("age_s"),
        "interlock": "ok" if interlock_ok else "unknown",
        "recording": recording["status"] if recording.get("status") in ("ok", "off") else "failed",
    }


async def _unprocessable(request: Request, error: Exception) -> JSONResponse:
    """One line naming the field, never the value: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": refusal(error.errors()[0])}, 422)


def _version() -> str:
    try:
        return version("eegloop")
    except PackageNotFoundError:  # run from a checkout
        return "0"
