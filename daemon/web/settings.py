"""What the supervisor hands the web process: one line of JSON on standard input, config.yaml's `web:` and `mqtt:` sections."""

from __future__ import annotations

import json

from pydantic import Field, ValidationError

from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.mqtt import MqttSettings


class WebSettings(Closed):
    """config.yaml's `web:` section. `port` is what the person asked for; argv's `--port` is what is tried."""

    host: str = Field(default="127.0.0.1", pattern=r"^127\.0\.0\.1$", description="address; loopback only in this version")
    port: int = Field(default=8765, ge=0, le=65535, description="TCP port; 0 = any free one")
    allowed_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"), min_length=1, max_length=20, description="names a browser may call this machine by"
    )


class Handover(Closed):
    """Everything on standard input. `parent_pid`: the supervisor's, so that its death is noticed."""

    web: WebSettings = WebSettings()
    mqtt: MqttSettings = MqttSettings()
    parent_pid: int | None = Field(default=None, ge=1, description="process id of the supervisor; None = started by a person")

    @staticmethod
    def from_line(line: bytes) -> Handover:
        """Parse; an empty line means the defaults.

        Raises
        ------
        ConfigError
            Naming the key, without repeating its value (it may be a secret).
        """
        if not line.strip():
            return Handover()
        try:
            return Handover.model_validate(json.loads(line))
        except ValueError as error:
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False, include_input=False)[0]
                key = ".".join(str(part) for part in first["loc"])
                raise ConfigError(f"web process: {key}: {first['msg']}") from None
            raise ConfigError("web process: standard input must be one line of JSON") from None
