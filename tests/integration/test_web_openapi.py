"""Schemathesis plays the OpenAPI document against the running web process: nothing answers 5xx or differently than documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from daemon.web.access import create_link
from tests.integration.web_rig import WebProcess, data_directory, start_daemon


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with data_directory(tmp_path_factory.mktemp("openapi")) as layout:
        daemon = start_daemon(layout.data, "--real")
        process = WebProcess(layout.data)
        create_link(layout)
        yield process
        process.end()
        daemon.end()


def test_every_route_answers_as_documented(web: WebProcess) -> None:
    api = schemathesis.openapi.from_url(f"{web.url}/api/v1/openapi.json")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    played: dict[str, int] = {}
    for result in api.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @hypothesis_settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def play(case: schemathesis.Case[Any]) -> None:
            played[case.path] = played.get(case.path, 0) + 1
            case.call_and_validate(headers={"Origin": web.url}, checks=checks, timeout=5)

        play()
    assert set(played) == {
        "/api/v1/health",
        "/api/v1/state",
        "/api/v1/link/redeem",
        "/api/v1/demo/session",
        "/api/v1/seats/{seat}/stop",
        "/api/v1/seats/{seat}/answers",
        "/api/v1/forms",
    }
