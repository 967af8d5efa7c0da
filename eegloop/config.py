"""config.yaml: closed models, and errors that name the file, the line, what was found, what is allowed and the key probably meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from eegloop.closed import Closed
from eegloop.errors import ConfigError, plain
from eegloop.line import LineSettings
from eegloop.mqtt import MqttSettings
from eegloop.plugins import find, kinds

ModelT = TypeVar("ModelT")
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:_\-\[\]]+$")]


class WebSettings(Closed):
    """The local page."""

    host: Literal["127.0.0.1", "::1", "localhost"] = Field(
        "127.0.0.1", description="address served on; loopback only in this version"
    )
    port: int = Field(8765, ge=1024, le=65535, description="TCP port")
    allowed_hosts: tuple[Host, ...] = Field(
        ("127.0.0.1", "localhost"), min_length=1, description="names a browser may call this machine by"
    )


class RecordingSettings(Closed):
    """Where and how a session is written."""

    enabled: bool = Field(True, description="false also means no stimulation")
    task: str = Field("rest", pattern=r"^[A-Za-z0-9]{1,32}$", description="BIDS task label")
    line_frequency_hz: Literal[50, 60] = Field(50, description="Hz, mains")


@dataclass(frozen=True, slots=True)
class PluginChoice:
    """A `kind` and its settings, checked by the plug-in's own model."""

    kind: str
    module: ModuleType
    settings: Any


@dataclass(frozen=True, slots=True)
class Seat:
    """One person, headset, prescription, stimulator and interlock."""

    id: str
    label: str
    person: str
    prescription: str | None
    contacts: tuple[str, ...]
    source: PluginChoice
    line: LineSettings
    biomarkers: tuple[PluginChoice, ...]
    controller: PluginChoice
    stimulator: PluginChoice
    recording: RecordingSettings
    trial: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked."""

    path: Path
    web: WebSettings
    mqtt: MqttSettings
    seats: tuple[Seat, ...]


def _printable(text: str) -> str:
    """A label stands beside safety texts on terminals and pages: nothing in it may turn or hide what is around it."""
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


class _SeatHead(Closed):
    id: str = Field(pattern=r"^[a-z0-9_\-]{1,32}$", description="a-z, 0-9, - and _; 1-32 characters")
    label: Annotated[str, AfterValidator(_printable)] = Field(
        min_length=1, max_length=60, description="1-60 printable characters"
    )
    person: str = Field(pattern=r"^[A-Za-z0-9]{1,32}$", description="code of the person: letters and digits, never a name")
    prescription: str | None = Field(None, description="path of the signed prescription")
    trial: str | None = Field(
        None, pattern=r"^[a-z0-9_\-]{1,32}$", description="a-z, 0-9, - and _; 1-32 characters: the blinded trial of this person"
    )
    contacts: tuple[Annotated[str, Field(min_length=1, max_length=80)], ...] = Field(
        (), max_length=5, description="whom to call in order when an answer needs a clinician, like `Dr. Bo, 030 123456`"
    )


_TOP = ("version", "web", "mqtt", "seats")
_SEAT_PARTS = ("source", "line", "biomarkers", "controller", "stimulator", "recording")


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        One line for every finding: `file:line: where: what was found; what is allowed; did you mean`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; copy config.yaml from the project or name another with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({plain(error)}); name another file with --config") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """As `load`, from text."""
    document = _Document(text, path)
    body = document.body
    if not isinstance(body, dict):
        raise ConfigError(f"{path}:1: the file must be a mapping with the keys {', '.join(_TOP)}")
    document.known_keys((), body, _TOP)
    version = body.get("version")
    if version != 1 or isinstance(version, bool):
        document.say(("version",) if "version" in body else (), f"version: found {version!r}; allowed: 1")
    web = document.model((), "web", WebSettings, body)
    mqtt = document.model((), "mqtt", MqttSettings, body)
    raw_seats = body.get("seats")
    seats: list[Seat] = []
    if not isinstance(raw_seats, list) or not raw_seats:
        document.say(("seats",) if "seats" in body else (), f"seats: found {raw_seats!r}; must be a list of at least one seat")
    else:
        for number, raw in enumerate(raw_seats):
            seat = _seat(document, ("seats", number), raw)
            if seat is not None:
                seats.append(seat)
        ids = [s.id for s in seats]
        for number, seat in enumerate(seats):
            if seat.id in ids[:number]:
                document.say(("seats", number, "id"), f"seats[{number}].id: {seat.id!r} is used twice; every seat needs its own")
    if document.findings:
        raise ConfigError("\n".join(document.findings))
    assert web is not None and mqtt is not None
    files = ("password_file", "ca_file", "client_cert_file", "client_key_file")
    mqtt = mqtt.model_copy(update={name: document.resolved(getattr(mqtt, name)) for name in files})
    return Config(path, web, mqtt, tuple(seats))


def _seat(document: _Document, at: tuple[str | int, ...], raw: object) -> Seat | None:
    where = _dotted(at)
    if not isinstance(raw, dict):
        document.say(at, f"{where}: found {raw!r}; must be a mapping")
        return None
    head_keys = tuple(_SeatHead.model_fields)
    document.known_keys(at, raw, (*head_keys, *_SEAT_PARTS))
    head = document.validate(at, _SeatHead, {k: raw[k] for k in head_keys if k in raw})
    if head is not None and head.trial is not None and head.prescription is not None:
        document.say(
            (*at, "trial"), f"{where}.trial: found {head.trial!r} beside a prescription; a trial brings its own, leave that out"
        )
    line = document.model(at, "line", LineSettings, raw)
    recording = document.model(at, "recording", RecordingSettings, raw)
    chosen = {part: document.plugin((*at, part), part, raw.get(part)) for part in ("source", "controller", "stimulator")}
    raw_biomarkers = raw.get("biomarkers")
    biomarkers: list[PluginChoice | None] = []
    if not isinstance(raw_biomarkers, list) or not raw_biomarkers:
        document.say(
            (*at, "biomarkers") if "biomarkers" in raw else at,
            f"{where}.biomarkers: found {raw_biomarkers!r}; must be a list of at least one",
        )
    else:
        biomarkers = [document.plugin((*at, "biomarkers", i), "biomarker", entry) for i, entry in enumerate(raw_biomarkers)]
    source, controller, stimulator = chosen["source"], chosen["controller"], chosen["stimulator"]
    if (
        head is None
        or line is None
        or recording is None
        or source is None
        or controller is None
        or stimulator is None
        or None in biomarkers
    ):
        return None
    return Seat(
        head.id, head.label, head.person, document.resolved(head.prescription), head.contacts, source, line, tuple(b for b in biomarkers if b is not None),
        controller, stimulator, recording, head.trial,
    )  # fmt: skip


class _Document:
    """The parsed file with the line of every key, collecting findings."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.findings: list[str] = []
        self._lines: dict[tuple[str | int, ...], int] = {(): 1}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if node is not None:
                self._walk(node, (), 0)
            self.body: Any = yaml.safe_load(text)
        except RecursionError:
            raise ConfigError(f"{path}: nested too deeply") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{path}: not valid YAML: {error}") from None
        if self.findings:
            raise ConfigError("\n".join(self.findings))

    def _walk(self, node: yaml.Node, at: tuple[str | int, ...], depth: int) -> None:
        if depth > 20:
            raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: nested too deeply")
        self._lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key_node, value in node.value:
                key, line = str(key_node.value), key_node.start_mark.line + 1
                if key in seen:
                    self.findings.append(f"{self.path}:{line}: {_dotted((*at, key))}: set twice (first on line {seen[key]})")
                seen[key] = line
                self._lines[(*at, key)] = line
                self._walk(value, (*at, key), depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._walk(value, (*at, number), depth + 1)

    def say(self, at: tuple[str | int, ...], text: str) -> None:
        while at not in self._lines:
            at = at[:-1]
        self.findings.append(f"{self.path}:{self._lines[at]}: {text}")

    def resolved(self, file: str | None) -> str | None:
        """A file that the configuration names, seen from the configuration's own folder."""
        return None if file is None else str((self.path.resolve().parent / Path(file).expanduser()).resolve())

    def known_keys(self, at: tuple[str | int, ...], body: dict[Any, Any], allowed: Sequence[str]) -> None:
        for key in body:
            if key not in allowed:
                self.say((*at, str(key)), _unknown(_dotted((*at, str(key))), str(key), allowed))

    def model(self, at: tuple[str | int, ...], key: str, model: type[ModelT], parent: dict[Any, Any]) -> ModelT | None:
        """One section of a mapping; a missing one has its defaults."""
        return self.validate((*at, key) if key in parent else at, model, parent.get(key, {}), (*at, key))

    def validate(
        self, at: tuple[str | int, ...], model: type[ModelT], raw: object, name: tuple[str | int, ...] | None = None
    ) -> ModelT | None:
        """Check `raw` against a pydantic model or a plain dataclass; every finding becomes a line."""
        where = at if name is None else name
        if not isinstance(raw, dict):
            self.say(at, f"{_dotted(where)}: found {raw!r}; must be a mapping")
            return None
        if dataclasses.is_dataclass(model):
            known = [f.name for f in dataclasses.fields(model)]
            extra = [k for k in raw if k not in known]
            for key in extra:
                self.say((*at, str(key)), _unknown(_dotted((*where, str(key))), str(key), known))
            if extra:
                return None
        try:
            return TypeAdapter(model).validate_python(raw)
        except ValidationError as error:
            for finding in error.errors(include_url=False):
                self._pydantic(at, where, model, finding)
            return None

    def _pydantic(self, at: tuple[str | int, ...], where: tuple[str | int, ...], model: Any, finding: Any) -> None:
        loc = tuple(p for p in finding["loc"] if isinstance(p, (str, int)))
        dotted = _dotted((*where, *loc))
        if finding["type"] == "extra_forbidden":
            self.say((*at, *loc), _unknown(dotted, str(loc[-1]), _keys(model, loc[:-1])))
            return
        if finding["type"] == "missing":
            self.say((*at, *loc), f"{dotted}: missing; {_described(model, loc)}")
            return
        allowed = finding["msg"][:1].lower() + finding["msg"][1:]
        self.say((*at, *loc), f"{dotted}: found {finding['input']!r}; allowed: {allowed}{_described(model, loc, ' - ')}")

    def plugin(self, at: tuple[str | int, ...], port: str, raw: object) -> PluginChoice | None:
        """`kind:` finds the module, whose `Settings` checks the rest."""
        if not isinstance(raw, dict):
            self.say(at, f"{_dotted(at)}: found {raw!r}; must be a mapping with `kind:`")
            return None
        kind = raw.get("kind")
        if not isinstance(kind, str):
            self.say(
                (*at, "kind") if "kind" in raw else at,
                f"{_dotted(at)}.kind: found {kind!r}; must name a {port}: {', '.join(kinds(port))}",
            )
            return None
        try:
            module = find(port, kind)
        except ConfigError as error:
            self.say((*at, "kind"), f"{_dotted(at)}.{error}")
            return None
        settings = self.validate(at, module.Settings, {k: v for k, v in raw.items() if k != "kind"})
        return None if settings is None else PluginChoice(kind, module, settings)


def _dotted(at: Sequence[str | int]) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unknown(dotted: str, key: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{dotted}: unknown key; allowed: {', '.join(allowed)}{hint}"


def _field(model: Any, loc: Sequence[str | int]) -> Any:
    for number, part in enumerate(loc):
        fields = getattr(model, "model_fields", None)
        if fields is None or part not in fields:
            return None
        if number == len(loc) - 1:
            return fields[part]
        model = fields[part].annotation
    return None


def _keys(model: Any, loc: Sequence[str | int]) -> list[str]:
    field = _field(model, loc) if loc else None
    inner = field.annotation if field is not None else model
    return list(getattr(inner, "model_fields", {}))


def _described(model: Any, loc: Sequence[str | int], before: str = "") -> str:
    field = _field(model, loc)
    return f"{before}{field.description}" if field is not None and field.description else ""
