"""The commands: `eegloop run`, `demo`, `stop`, `replay`, ... (the same as `python -m daemon ...`)."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _at_once(number: int, frame: FrameType | None) -> None:
    """A signal before anything was started. An exception would not do: importlib's lock callbacks swallow those."""
    os._exit(128 + number)


def _quietly(number: int, frame: FrameType | None) -> None:
    """A signal during a command that may have files to close: leave without a traceback."""
    sys.exit(128 + number)


if __name__ == "__main__" or sys.argv[0].endswith("eegloop"):
    signal.signal(signal.SIGINT, _at_once)
    signal.signal(signal.SIGTERM, _at_once)
    # The line's matrix products are small: handing them to other threads costs more than it saves. Read when NumPy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import difflib
import errno
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Annotated

import typer

from eegloop.errors import EegloopError, SetupError, plain, remedy

app = typer.Typer(
    name="eegloop",
    help="Listens to a brain through a portable EEG headset and keeps stimulation where a clinician signed it. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Data = Annotated[Path, typer.Option("--data", help="Directory for everything the service writes.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file [default: ./config.yaml].")]
Port = Annotated[int | None, typer.Option("--port", min=1024, max=65535, help="TCP port of the page; overrides config.yaml.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")]


def _configured(config: Path | None) -> Path:
    """The file named, ./config.yaml, or the one this installation brought."""
    if config is not None:
        return config
    here = Path("config.yaml")
    if here.exists():
        return here
    root = Path(__file__).resolve().parent
    packaged = root / "config.default.yaml"
    return packaged if packaged.exists() else root.parent / "config.yaml"


def _serve(config: Path | None, data: Path, port: int | None, browser: bool, demo: bool) -> None:
    signal.signal(signal.SIGINT, _at_once)  # until the service has handlers of its own: so far nothing runs
    signal.signal(signal.SIGTERM, _at_once)
    from daemon.start import Options, run

    code = run(Options(_configured(config), data, port, browser, demo))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is closed; a thread that still imports something must not keep the terminal waiting


@app.command(epilog="Example: eegloop run --config config.yaml --data /var/lib/eegloop")
def run(config: ConfigFile = None, data: Data = Path("data"), port: Port = None, no_browser: NoBrowser = False) -> None:
    """Run the service on the headsets and stimulators of config.yaml."""
    _serve(config, data, port, not no_browser, demo=False)


@app.command(epilog="Example: eegloop demo --port 9000 --no-browser")
def demo(config: ConfigFile = None, data: Data = Path("data"), port: Port = None, no_browser: NoBrowser = False) -> None:
    """Run the service on a virtual headset, a virtual brain and a simulated stimulator."""
    _serve(config, data, port, not no_browser, demo=True)


@app.command(epilog="Example: eegloop stop --data data")
def stop(
    data: Data = Path("data"),
    seat: Annotated[str | None, typer.Option(help="Stop this seat only [default: every seat].")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "eegloop stop",
) -> None:
    """Stimulation to zero, now, without the daemon."""
    from daemon.stop_command import stop_seats

    raise typer.Exit(stop_seats(data, seat, reason))


@app.command(epilog="Example: eegloop replay recording.vhdr --out out/")
def replay(
    recording: Annotated[
        Path, typer.Argument(help="BrainVision, EDF/BDF, FIF, XDF, OpenBCI text or Muse CSV file; or a session of ours.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory for the derivatives.")],
    config: ConfigFile = None,
    controller: Annotated[str | None, typer.Option(help="Another controller: what would it have done?")] = None,
    seat: Annotated[
        str | None, typer.Option(help="Take the settings of this seat of the configuration [default: the first].")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Which stream, of a file that holds several EEG streams (XDF).")] = None,
    unit: Annotated[str | None, typer.Option(help="V, mV, µV or nV, for a file that does not say it (XDF, EDF, BDF).")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON summary instead of text.")] = False,
) -> None:
    """Run the same line over a recording, as fast as it can."""
    from daemon.replay import replay_recording

    summary = replay_recording(
        recording, out, config, controller, seat, _configured(None), progress=not json_output, stream=stream, unit=unit
    )
    typer.echo(json.dumps(summary) if json_output else summary["text"])


@app.command(epilog="Example: eegloop devices --json")
def devices(json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """EEG streams on the network and serial ports of this machine, one line each."""
    from daemon.devices_command import list_devices

    list_devices(json_output)


@app.command(epilog="Example: eegloop check --loop --seconds 60")
def check(
    config: ConfigFile = None,
    data: Data = Path("data"),
    loop: Annotated[
        bool, typer.Option("--loop", help="Certify this PC: measure source, decision, interlock and output.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=2.0, max=3600.0, help="How long to measure, s.")] = 30.0,
    seat: Annotated[str | None, typer.Option(help="Certify with this seat's own headset [default: a virtual one].")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The doctor: environment, ports, clock, configuration; what to do about each finding. Exit code 1 if something must be mended."""
    from daemon.check_command import check as examine

    raise typer.Exit(examine(_configured(config), data, seconds if loop else None, seat, json_output))


@app.command(epilog="Example: eegloop contact --seat seat1 --seconds 30")
def contact(
    config: ConfigFile = None,
    data: Data = Path("data"),
    seat: Annotated[str | None, typer.Option(help="Which seat's headset [default: the first one's].")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="How long to measure, s.")] = 30.0,
    json_output: Annotated[bool, typer.Option("--json", help="Print the last values as JSON.")] = False,
) -> None:
    """Electrode resistances in kΩ, if the headset measures them: before a session, never while the seat's service runs."""
    signal.signal(signal.SIGINT, _quietly)
    signal.signal(signal.SIGTERM, _quietly)
    from daemon.contact_command import contact as measure

    raise typer.Exit(measure(_configured(config), data, seat, seconds, json_output))


@app.command(epilog="Example: eegloop link --data data")
def link(data: Data = Path("data")) -> None:
    """Print a new one-time sign-in link for the running service."""
    from daemon.web.access import sign_in_link
    from eegloop.layout import Layout

    typer.echo(sign_in_link(Layout.of(data)))


@app.command(epilog="Example: eegloop verify data/recordings")
def verify(
    path: Annotated[Path, typer.Argument(help="A data directory, a recording or an audit trail.")],
    seen: Annotated[
        str | None,
        typer.Option(help="Your name: you have looked at a trail that differs, and its alarm may end. Stop eegloop first."),
    ] = None,
) -> None:
    """Check recordings and audit trails against their hash chains."""
    from daemon.verify_command import say_seen, verify_path

    raise typer.Exit(verify_path(path) if seen is None else say_seen(path, seen))


@app.command(epilog="Example: eegloop report data --person p1")
def report(
    target: Annotated[Path, typer.Argument(help="A data directory, a folder of recordings, or one session's .vhdr.")],
    person: Annotated[str | None, typer.Option(help="Whose newest session [default: the only person there is].")] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="Table (TSV: biomarker, channel, sd, retest_r, source) for the reliable change index.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a person's newest session with the person's own earlier ones, with uncertainty."""
    from daemon.report_command import report as show

    raise typer.Exit(show(target, person, cohort, json_output))


@app.command(epilog="Example: eegloop bench --json")
def bench(json_output: Annotated[bool, typer.Option("--json", help="Print JSON rows.")] = False) -> None:
    """Print the speed table against the reference, measured now."""
    from daemon.bench_command import bench_table

    raise typer.Exit(bench_table(json_output))


@app.command(epilog="Example: eegloop study quick --out study/")
def study(
    scenario: Annotated[str, typer.Argument(help="quick | cohort | safety | giving_up | levels")] = "quick",
    out: Annotated[Path, typer.Option("--out", help="Directory for table, figures and every session's numbers.")] = Path("study"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Persons of each kind [default: the scenario's].")] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes [default: one a core].")] = None,
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="Also the scenario's cells at sample level.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so many minutes; the same command goes on from there.")
    ] = None,
    interpreted: Annotated[bool, typer.Option("--interpreted", help="Not in the copy that `make study-compiled` made.")] = False,
) -> None:
    """Controllers against virtual persons in virtual time: table and figures; exit code 1 if any limit was ever passed."""
    from daemon.study import compiled
    from daemon.study_command import study as run_study

    start, why_not = (None, "") if interpreted else compiled.fitting()
    if start is not None:
        arguments = [scenario, f"--out={out}", f"--first={first}", "--sample" if sample else "--no-sample", "--interpreted"]
        named = (("seeds", seeds), ("processes", processes), ("minutes", minutes))
        arguments += [f"--{name}={value}" for name, value in named if value is not None] + ["--quiet"] * quiet
        raise typer.Exit(compiled.run(start, arguments))
    if why_not:
        typer.echo(why_not)
    words, code = run_study(scenario, out, seeds, first, processes, not quiet, sample, minutes)
    typer.echo(words)
    raise typer.Exit(code)


@app.command(epilog="Example: eegloop sign prescription.yaml --key ann.pem --out prescription.json")
def sign(
    prescription: Annotated[
        Path | None,
        typer.Argument(help="The prescription as YAML (control/examples has some); with --start-code, the signed one."),
    ] = None,
    key: Annotated[list[Path] | None, typer.Option("--key", help="Private key; twice for two signers.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The signed file [default: beside it, .json].")] = None,
    passphrase_file: Annotated[
        list[Path] | None, typer.Option("--passphrase-file", help="First line is the passphrase; one for each --key.")
    ] = None,
    fields: Annotated[bool, typer.Option("--fields", help="Print every field with unit and range.")] = False,
    start_code: Annotated[
        int | None,
        typer.Option(
            "--start-code", min=1, help="Make the single-use code for home session number N of this course.", metavar="N"
        ),
    ] = None,
    dose_uc: Annotated[
        int, typer.Option("--dose-uc", min=0, help="Start code: charge given under this prescription so far, µC.")
    ] = 0,
    hours: Annotated[
        float, typer.Option("--hours", min=0.1, max=720.0, help="Start code: the session must begin within so many hours.")
    ] = 24.0,
) -> None:
    """Check a prescription and sign it with a clinician's key; without --key, check only. Or make a home session's start code."""
    from daemon.sign_command import fields_text, sign_file, start_code_file

    if fields:
        typer.echo(fields_text())
    elif prescription is None:
        raise SetupError("sign: name the prescription's YAML file, or --fields for what stands in one")
    elif start_code is not None:
        typer.echo(start_code_file(prescription, start_code, dose_uc, hours, key or [], out, passphrase_file or []))
    else:
        typer.echo(sign_file(prescription, key or [], out, passphrase_file or []))


keys = typer.Typer(
    help="Keys that sign prescriptions: made and certified at the clinic, trusted at the bedside.", no_args_is_help=True
)
app.add_typer(keys, name="keys")
PassphraseFile = Annotated[Path | None, typer.Option("--passphrase-file", help="First line is the passphrase [default: ask].")]


@keys.command("new", epilog='Example: eegloop keys new --name "Dr. Ann" --out ann.pem')
def keys_new(
    name: Annotated[str, typer.Option(help="Whose key, or which site's.")],
    out: Annotated[Path, typer.Option("--out", help="File of the private key; NAME.pub.json is written beside it.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a key pair; the private half is encrypted with a passphrase. On the clinic's side only."""
    from daemon.keys_command import make_key

    typer.echo(make_key(name, out, passphrase_file))


@keys.command("certify", epilog="Example: eegloop keys certify ann.pub.json --site site.pem --out keys.json")
def keys_certify(
    public: Annotated[list[Path], typer.Argument(help="Public keys of everyone who may prescribe.")],
    site: Annotated[Path, typer.Option(help="The site's private key.")],
    out: Annotated[Path, typer.Option("--out", help="The certified list; an older one there is replaced, one number up.")],
    scope: Annotated[str, typer.Option(help="simulated | any: devices they may sign for.")] = "any",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Valid for so many days.")] = 365,
    revoke: Annotated[list[Path] | None, typer.Option("--revoke", help="Public keys that no longer count.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Certify who may prescribe, with the site's key. On the clinic's side only."""
    from daemon.keys_command import certify_keys

    typer.echo(certify_keys(public, site, out, scope, days, revoke or [], passphrase_file))


@keys.command("pair", epilog="Example: eegloop keys pair 3f9c... --data data")
def keys_pair(site_key: Annotated[str, typer.Argument(help="The site's public key.")], data: Data = Path("data")) -> None:
    """Pin the clinic's site key on this machine."""
    from daemon.keys_command import pair

    typer.echo(pair(site_key, data))


@keys.command("trust", epilog="Example: eegloop keys trust keys.json --data data")
def keys_trust(
    certified: Annotated[Path, typer.Argument(help="The clinic's certified list.")], data: Data = Path("data")
) -> None:
    """Take the clinic's certified list of prescribers' keys, revocations included."""
    from daemon.keys_command import trust

    typer.echo(trust(certified, data))


@app.command(epilog="Example: eegloop note release --patient p001 --form phq9 --item self_harm --key ann.pem --out note.json")
def note(
    kind: Annotated[str, typer.Argument(help="seen (the alert was taken) or release (it no longer holds).")],
    patient: Annotated[str, typer.Option("--patient", help="The person's code.")],
    form: Annotated[str, typer.Option("--form", help="The form that the alert names.")],
    key: Annotated[Path, typer.Option("--key", help="Private key of a clinician whom the bedside trusts.")],
    out: Annotated[Path, typer.Option("--out", help="The signed note.")],
    item: Annotated[str, typer.Option("--item", help="The item that the alert names, if any.")] = "",
    passphrase_file: PassphraseFile = None,
) -> None:
    """A clinician's signed word on what a person answered; on the clinic's side."""
    from daemon.note_command import write_note

    typer.echo(write_note(kind, patient, form, item, key, out, passphrase_file))


Trial = Annotated[str, typer.Option("--trial", help="The trial's name: a-z, 0-9, - and _.")]
Who = Annotated[str, typer.Option("--who", help="Name of whoever does this, for the record.")]


@app.command(epilog="Example: eegloop allocate --trial alpha1 --person p001 --active a.json --sham s.json --who 'Dr. Bo'")
def allocate(
    trial: Trial,
    person: Annotated[str, typer.Option("--person", help="The person's code, as in config.yaml.")],
    active: Annotated[Path, typer.Option("--active", help="The signed prescription that delivers.")],
    sham: Annotated[Path, typer.Option("--sham", help="The same program, signed with controller sham and 0 µA.")],
    who: Who,
    data: Data = Path("data"),
) -> None:
    """Draw a person's arm of a blinded trial, once and for good, and tell it to nobody. Again for newly signed prescriptions: the arm stays."""
    from daemon.allocation import allocate as draw
    from daemon.clock import MachineClock
    from eegloop.layout import Layout

    typer.echo(draw(Layout.of(data), trial, person, {"active": active, "sham": sham}, who, MachineClock()))


@app.command(epilog="Example: eegloop unblind --trial alpha1 --person p001 --who 'Dr. Bo' --reason 'seizure, 14:20'")
def unblind(
    trial: Trial,
    person: Annotated[str, typer.Option("--person", help="Whose arm must be known.")],
    who: Who,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    data: Data = Path("data"),
) -> None:
    """Tell one person's arm, and write down who looked and why. In an emergency press STOP first: that needs no arm."""
    from daemon.allocation import unblind as tell
    from daemon.clock import MachineClock
    from eegloop.layout import Layout

    typer.echo(tell(Layout.of(data), trial, person, who, reason, MachineClock()))


simulate = typer.Typer(help="Simulators as processes of their own.", no_args_is_help=True)
app.add_typer(simulate, name="simulate")
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _become(module: str, arguments: list[str]) -> None:
    """Replace this process by a module of ours, so that signals and output are its own."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@simulate.command("board", context_settings=PASS_ON, epilog="Example: eegloop simulate board --seat seat1 --seed 1")
def simulate_board(context: typer.Context) -> None:
    """A virtual headset on a virtual brain, as an LSL stream."""
    _become("simulators.board", context.args)


@simulate.command("cyton", context_settings=PASS_ON, epilog="Example: eegloop simulate cyton --seed 1")
def simulate_cyton(context: typer.Context) -> None:
    """An OpenBCI Cyton on a pseudo-terminal, whose path it prints."""
    _become("simulators.cyton", context.args)


@simulate.command("stimulator", context_settings=PASS_ON, epilog="Example: eegloop simulate stimulator simulated --seat seat1")
def simulate_stimulator(
    context: typer.Context, kind: Annotated[str, typer.Argument(help="Kind of stimulator, e.g. simulated.")]
) -> None:
    """A stimulator emulator on its true wire."""
    parts = {"wire", "home_unit"}  # what the emulators share
    folder = importlib.import_module("simulators.stimulators").__path__
    known = sorted(m.name for m in pkgutil.iter_modules(folder) if m.name not in parts)
    if kind in ("--help", "-h"):
        typer.echo(
            f"Usage: eegloop simulate stimulator KIND [OPTIONS]\n\nKIND: {', '.join(known)}. `KIND --help` lists its options."
        )
        return
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SetupError(f"no emulator {kind!r}; there are: {', '.join(known)}{hint}")
    _become(f"simulators.stimulators.{kind}", context.args)


def main() -> None:
    """Entry point: one clear line for what a person can mend, exit code 1."""
    if signal.getsignal(signal.SIGINT) is _at_once:
        signal.signal(signal.SIGINT, _quietly)
        signal.signal(signal.SIGTERM, _quietly)
    try:
        app()
    except EegloopError as error:
        typer.echo(f"eegloop: {error}", err=True)
        sys.exit(1)
    except OSError as error:  # of a path that somebody gave: every other one is caught where it is used
        if isinstance(error, BrokenPipeError):  # whoever read what was printed has gone, as `| head` does
            os._exit(128 + signal.SIGPIPE)
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        typer.echo(f"eegloop: {where}{plain(error)}; {remedy(error)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
