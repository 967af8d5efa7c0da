"""config.yaml's `mqtt:` section, checked: which broker, under which names, and how it is signed in at."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from eegloop.broker import address, in_the_clear
from eegloop.closed import Closed

_WORD = r"^[A-Za-z0-9_-]{1,64}$"


class MqttSettings(Closed):
    """MQTT 5 broker; off while `broker` is null. A password or a client's key never goes where others could read it."""

    broker: str | None = Field(default=None, max_length=300, description="mqtt://host:port or mqtts://user@host:port; null = off")
    site: str = Field(default="home", pattern=_WORD, description="second part of every topic")
    device: str = Field(default="eegloop", pattern=_WORD, description="third part of every topic")
    password_file: str | None = Field(default=None, description="0600 file holding the broker's password")
    ca_file: str | None = Field(default=None, description="PEM file of the broker's authority for mqtts; null = the system's")
    client_cert_file: str | None = Field(default=None, description="PEM file of this machine's own certificate for mqtts")
    client_key_file: str | None = Field(default=None, description="PEM file of its key (0600); null = it is in client_cert_file")

    @field_validator("broker")
    @classmethod
    def _is_address(cls, broker: str | None) -> str | None:
        if broker is not None:
            address(broker)
        return broker

    @field_validator("password_file")
    @classmethod
    def _stays_private(cls, file: str | None, info: ValidationInfo) -> str | None:
        broker = info.data.get("broker")
        why = in_the_clear(broker) if file is not None and broker is not None else ""
        if why:
            raise ValueError(why)
        return file

    @field_validator("client_cert_file", "client_key_file")
    @classmethod
    def _only_with_tls(cls, file: str | None, info: ValidationInfo) -> str | None:
        broker = info.data.get("broker")
        if file is not None and broker is not None and address(broker).scheme != "mqtts":
            raise ValueError("a client's certificate is for mqtts:// only; change `broker` or leave it out")
        if info.field_name == "client_key_file" and file is not None and info.data.get("client_cert_file") is None:
            raise ValueError("goes with client_cert_file; name that too")
        return file

    def topic(self, seat: str, name: str) -> str:
        """eegloop/v1/{site}/{device}/{seat}/{name}"""
        return f"eegloop/v1/{self.site}/{self.device}/{seat}/{name}"
