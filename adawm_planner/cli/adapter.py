"""`adawm adapter`: bundles made, shown, checked; keys made; a store listed.

A mistake of the user is one line and exit code 2; a bundle that `verify` refuses is an answer and exit code 1.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adawm_planner.adapters.factors import PARTS
from adawm_planner.cli.options import json_option
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import check_folder, write_json

MISTAKE_EXIT, REFUSED_EXIT = 2, 1
DAY_S = 24 * 3600
LEAST_DAYS, MOST_DAYS = 60 / DAY_S, 36500
"""Range of a bundle's life [days]."""

SHORT = 12
"""Digits of a digest that a table shows."""

MOST_SHOWN = 5000
"""Characters of one value in a table."""

FOLDER = click.Path(file_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)
model_option = click.option(
    "--model-dir", type=FOLDER, default=default_model_dir, show_default="models/base", help="Folder of the base model."
)


class Mistake(click.ClickException):
    """One line for the user."""

    exit_code = MISTAKE_EXIT


class AdapterGroup(click.Group):
    """Tells a mistake in one line, with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from adawm_planner.adapters.refusal import Refused

        try:
            return super().invoke(ctx)
        except (ValueError, OSError, Refused) as error:
            if ctx.find_root().params.get("debug"):
                raise
            raise Mistake(str(error)) from error


@click.group(cls=AdapterGroup)
def adapter() -> None:
    """Make, show and check signed adapter bundles."""


@adapter.command("list")
@click.argument("store", type=PATH)
@json_option
def list_(store: Path, json_file: Path | None) -> None:
    """Show every bundle that the planner with this STORE has accepted, the newest first."""
    from adawm_planner.adapters.store import entries, read_state

    found = entries(read_state(store))
    view = Table("part", "name", "counter", "status", "expires", "digest", box=SIMPLE_HEAD)
    view.columns[3].no_wrap = True
    for each in found:
        status = each.status.value + (", pinned" if each.pinned else "")
        view.add_row(
            each.bundle.part,
            each.bundle.name,
            str(each.bundle.counter),
            status,
            at(each.bundle.expires_unix_s),
            each.bundle.digest[:SHORT],
        )
    Console().print(view)
    rows = [{**asdict(each.bundle), "status": each.status.value, "pinned": each.pinned} for each in found]
    write_json(json_file, {"schema": "adawm.adapter_list/1", "adapters": rows})


@adapter.command()
@click.argument("bundle", type=EXISTING)
@json_option
def inspect(bundle: Path, json_file: Path | None) -> None:
    """Show what BUNDLE says about itself. Nothing is verified; `verify` does that."""
    from adawm_planner.adapters.bundle import MANIFEST_FILE, SIGNATURE_FILE, parse_signature, read_bundle
    from adawm_planner.adapters.manifest import bundle_digest, parse_manifest
    from adawm_planner.config.adapters import AdapterLimits

    files = read_bundle(bundle, AdapterLimits())
    if MANIFEST_FILE not in files:
        raise ValueError(f"{bundle}: no bundle, {MANIFEST_FILE} is missing")
    manifest = parse_manifest(files[MANIFEST_FILE])
    signer = parse_signature(files[SIGNATURE_FILE])[0] if SIGNATURE_FILE in files else None
    digest = bundle_digest(files[MANIFEST_FILE])
    show({"digest": digest, "signed by": signer or "nobody", **rows_of(manifest)}, "not verified")
    write_json(
        json_file,
        {
            "schema": "adawm.adapter_inspection/1",
            "digest": digest,
            "key_id": signer,
            "manifest": json.loads(files[MANIFEST_FILE]),
        },
    )


def whole_digest(context: click.Context, parameter: click.Parameter, digest: str | None) -> str | None:
    """Refuse what is no digest; the 12 digits of a table do not pin a bundle that somebody else may have made."""
    if digest is not None and re.fullmatch("[0-9a-f]{64}", digest) is None:
        text = f"'{digest}' is not the 64 hexadecimal digits of a digest; `adawm adapter inspect BUNDLE` shows them, "
        raise click.BadParameter(text + "and `adawm adapter list STORE --json FILE` writes them")
    return digest


@adapter.command()
@click.argument("bundle", type=EXISTING)
@click.option("--trust", type=PATH, multiple=True, help="Public key, or folder of them; may be given several times.")
@click.option("--allow-unsigned", is_flag=True, help="Do not ask for a signature.")
@click.option("--vehicle-id", default=None, help="Id of the vehicle that it is for.")
@click.option("--store", type=PATH, default=None, help="Also check counter, pin and clock against this store.")
@click.option("--digest", default=None, callback=whole_digest, help="Digest that the bundle must have, all 64 digits.")
@model_option
@json_option
def verify(
    bundle: Path,
    trust: tuple[Path, ...],
    allow_unsigned: bool,
    vehicle_id: str | None,
    store: Path | None,
    digest: str | None,
    model_dir: Path,
    json_file: Path | None,
) -> None:
    """Check BUNDLE as the planner would, probe included; exit code 1 when it is refused."""
    from adawm_planner.adapters.base_model import open_planner, read_base_model
    from adawm_planner.adapters.keys import read_trust
    from adawm_planner.adapters.probe import check_probe, session_runner
    from adawm_planner.adapters.store import read_state
    from adawm_planner.adapters.verify import Context, Seen, VerifiedAdapter, verify_folder

    if bool(trust) == allow_unsigned:
        raise ValueError("give either --trust with the signer's .pub, or --allow-unsigned")
    session = open_planner(model_dir)
    context = Context(
        read_base_model(model_dir, session),
        None if allow_unsigned else read_trust(trust),
        vehicle=vehicle_id,
        seen=read_state(store).seen() if store else Seen(),
    )
    found = verify_folder(bundle, context, int(time.time()), digest)
    refusal = None
    if isinstance(found, VerifiedAdapter):
        run = session_runner(session, found.factors)
        refusal = check_probe(found.manifest.probe, session, run, context.limits.probe_tolerance)
        if refusal is None:
            signer = {"digest": found.digest, "signed by": found.key_id or "not asked"}
            show({**signer, **rows_of(found.manifest)}, "accepted")
    else:
        refusal = found
    accepted = refusal is None
    write_json(
        json_file,
        {
            "schema": "adawm.adapter_verification/1",
            "bundle": str(bundle),
            "accepted": accepted,
            "refusal": refusal.to_json() if refusal else None,
        },
    )
    if refusal is not None:
        Console().print(Text(f"refused, {refusal}"), soft_wrap=True)
        raise SystemExit(REFUSED_EXIT)


@adapter.command()
@click.argument("path", type=PATH)
@json_option
def keygen(path: Path, json_file: Path | None) -> None:
    """Make a key pair: PATH.pem signs and stays with the signer (mode 0600), PATH.pub is for trust lists."""
    from adawm_planner.adapters.keys import generate_key

    check_folder(path.parent)
    private, public, name = generate_key(path)
    show({"key id": name, "private": str(private), "public": str(public)}, "new key")
    write_json(json_file, {"schema": "adawm.key/1", "key_id": name, "private": str(private), "public": str(public)})


def finite_days(context: click.Context, parameter: click.Parameter, days: float | None) -> float | None:
    """Refuse what ends before the bundle is used, and what is no number of days (nan is in no range)."""
    if days is not None and not LEAST_DAYS <= days <= MOST_DAYS:
        text = f"{days:g} is not in {LEAST_DAYS:.4f}..{MOST_DAYS} days, a minute to a hundred years"
        raise click.BadParameter(text)
    return days


def sign_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the signer says about the bundle."""
    options = (
        click.option("--part", type=click.Choice(list(PARTS)), required=True, help="Which factors to take."),
        click.option("--name", required=True, help="Of the bundle: letters, digits, dots, dashes, underscores."),
        click.option(
            "--counter",
            type=click.IntRange(min=1),
            required=True,
            help="Above that of every earlier bundle of the part.",
        ),
        click.option("--key", type=PATH, required=True, help="Private key of `keygen`."),
        click.option("--output", type=PATH, required=True, help="Folder to write; must not exist."),
        click.option(
            "--expires-days",
            type=float,
            default=None,
            callback=finite_days,
            help="From now on; without it the bundle never expires.",
        ),
        click.option("--vehicle-id", default=None, help="Only vehicle that may take it [default: any]."),
        click.option("--parent", default=None, help="Digest of the bundle it was trained on top of."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@adapter.command()
@click.argument("run", type=EXISTING)
@sign_options
@model_option
@json_option
def sign(
    run: Path,
    part: str,
    name: str,
    counter: int,
    key: Path,
    output: Path,
    expires_days: float | None,
    vehicle_id: str | None,
    parent: str | None,
    model_dir: Path,
    json_file: Path | None,
) -> None:
    """Make a signed bundle of one part of RUN: a folder of `adawm adapt`, or its adapter_factors.safetensors."""
    from adawm_planner.adapters.base_model import open_planner, read_base_model
    from adawm_planner.adapters.bundle import MANIFEST_FILE, Draft, build_bundle, sign_bundle, write_bundle
    from adawm_planner.adapters.from_run import FACTORS_FILE, of_part, read_run_factors, run_facts
    from adawm_planner.adapters.keys import read_private_key
    from adawm_planner.adapters.manifest import bundle_digest, parse_manifest
    from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify
    from adawm_planner.config.adapters import AdapterLimits

    file, now = (run / FACTORS_FILE if run.is_dir() else run), int(time.time())
    factors, base = read_run_factors(file)
    private, session = read_private_key(key), open_planner(model_dir)
    model = read_base_model(model_dir, session)
    if base != model.digest:
        raise ValueError(f"{file}: made for base model {base[:SHORT]}, {model_dir} is {model.digest[:SHORT]}")
    expires = None if expires_days is None else now + int(expires_days * DAY_S)
    draft = Draft(
        name, part, base, counter, now, parent, expires, vehicle_id, **(run_facts(run) if run.is_dir() else {})
    )
    files = build_bundle(draft, of_part(factors, part), session, AdapterLimits())
    # What no planner would take is not signed.
    found = verify(files, Context(model, None, any_vehicle=True), now, fresh=False)
    if not isinstance(found, VerifiedAdapter):
        raise ValueError(f"{file}: {found}")
    write_bundle(output, sign_bundle(files, private))
    digest = bundle_digest(files[MANIFEST_FILE])
    show({"folder": str(output), "digest": digest, **rows_of(parse_manifest(files[MANIFEST_FILE]))}, "signed")
    write_json(json_file, {"schema": "adawm.adapter_signed/1", "folder": str(output), "digest": digest})


def rows_of(manifest: Any) -> dict[str, str]:
    """What a manifest says, for a table."""
    ranks = ", ".join(f"{layer} {entry.rank}" for layer, entry in manifest.layers.items())
    return {
        "name": manifest.name,
        "part": manifest.part,
        "counter": str(manifest.counter),
        "base model": manifest.base,
        "parent": manifest.parent or "the base model",
        "made beside": "not told" if manifest.acting is None else ", ".join(manifest.acting) or "the base model",
        "vehicle": manifest.vehicle or "any",
        "created": at(manifest.created_unix_s),
        "expires": at(manifest.expires_unix_s),
        "ranks": ranks,
        "mismatch": ", ".join(f"{name} {value:.4g}" for name, value in manifest.mismatch.items()) or "not told",
        "bytes": str(sum(entry.bytes for entry in manifest.files.values())),
    }


def at(unix_s: int | None) -> str:
    """A wall-clock time in UTC."""
    from adawm_planner.adapters.manifest import utc

    return "never" if unix_s is None else utc(unix_s)


def show(rows: Mapping[str, str], title: str) -> None:
    """Print names and values; of these some come from strangers."""
    from adawm_planner.adapters.refusal import shown

    view = Table("", title, box=SIMPLE_HEAD)
    for name, value in rows.items():
        view.add_row(name, Text(shown(value, MOST_SHOWN), overflow="fold"))
    Console().print(view)
