"""One round of finetuning on stored experience: what `adapt_step` decided and did, what the gate says, the bundle.

Who drives is who is adapted: the student is put together from the bundles whose digests the experience names. An update
that the gate or the planner refused, or that was rolled back, so leaves no trace in the next one.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file

from adawm_planner.adaptation.adapt_step import Past, Setting, Step, adapt_step
from adawm_planner.adaptation.harness import baseline_of
from adawm_planner.adaptation.rollouts import Progress, Rollouts
from adawm_planner.adaptation.scores import Failures, Tally
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.source_file import source_remedy, source_there
from adawm_planner.adaptation.strategies import Strategy, strategy_of
from adawm_planner.adaptation.student import OWN, Student
from adawm_planner.adapters.base_model import BaseModel, open_planner, read_base_model
from adawm_planner.adapters.bundle import MANIFEST_FILE, Draft, build_bundle, sign_bundle, write_bundle
from adawm_planner.adapters.factors import PARTS, part_of, runtime_inputs
from adawm_planner.adapters.keys import read_private_key
from adawm_planner.adapters.manifest import bundle_digest
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify, verify_folder
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.finetuning import SplitConfig, UpdateGateConfig
from adawm_planner.data_types import Float32
from adawm_planner.finetuning.gate import GateReport, Trial, judge, too_few
from adawm_planner.finetuning.material import Material
from adawm_planner.finetuning.memory import BASE, BEGUN_FILE, Made, Memory, bundle_folder
from adawm_planner.finetuning.messages import Phase, RoundDone, Settings
from adawm_planner.policy.agent import load_agent, write_weights
from adawm_planner.pretraining.dataset import Episodes, load_chunk
from adawm_planner.pretraining.trainer import Replay

HOUR_S = 3600.0
STUDENT_SEED = 0
"""Of the factors before their first update: the same after every restart."""

Told = Callable[[Phase], None]


class Workshop:
    """What all rounds share: the base model, its baseline, its own driving on the source task, the key."""

    def __init__(self, settings: Settings) -> None:
        """Load everything.

        Raises:
            ValueError: a file is missing or does not fit; says which, and what makes it.
        """
        self.settings, model_dir = settings, Path(settings.model_dir)
        config = load_adaptation(Path(settings.config_file) if settings.config_file else None, settings.preset)
        # One part per round: each adapter is judged, swapped in and watched alone, and the next round asks what is left
        # to do with this one driving.
        self.config = replace(config, steps=1)
        self.key = read_private_key(Path(settings.key_file)) if settings.key_file else None
        self.agent, self.session = load_agent(model_dir), open_planner(model_dir)
        self.base = read_base_model(model_dir, self.session)
        self.baseline = baseline_of(model_dir, self.base.digest, self.config)
        train, home = home_of(self.base.digest, self.config, Path(settings.source_dir or settings.state_dir), model_dir)
        encoder, discount = self.agent.world_model.encoder, self.config.fit.discount
        self.source, self.home = Replay(encoder, train, discount), Replay(encoder, home, discount)
        self.student()  # a configuration that fits no student is told now, and not held against the driving later

    def student(self) -> Student:
        """A student before its first update."""
        return Student(self.agent, self.config, True, STUDENT_SEED)


def home_of(name: str, config: AdaptationConfig, folder: Path, model_dir: Path) -> tuple[Episodes, Episodes]:
    """Source rollouts to train on, and held-out ones.

    They were driven by the base model in simulation, where it was trained: a vehicle computer has no simulator, so the
    file comes with the model.

    Raises:
        ValueError: the file is missing or damaged, or has too few episodes.
    """
    path, remedy = source_there(name, config, folder, model_dir), source_remedy(config, folder, model_dir)
    try:
        episodes, _ = load_chunk(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    number = np.cumsum(episodes.first) - 1
    share = SplitConfig().held_out
    held = np.floor((number + 1) * share) > np.floor(number * share)  # by place, every fifth: the file never changes
    if len(np.unique(number[held])) < 2:
        raise ValueError(f"{path}: holds {int(episodes.first.sum())} episodes, at least 10 are needed; {remedy}")
    return episodes.select(~held), episodes.select(held)


@dataclass(frozen=True)
class Learned:
    """What a round gave."""

    step: Step
    gate: GateReport | None  # None: nothing was trained
    made: Made | None  # None: nothing leaves
    refusal: str  # why no bundle was made though the gate let it pass; empty: none was refused


def run_round(
    workshop: Workshop,
    memory: Memory,
    material: Material,
    driving: Mapping[str, Made],
    name: str,
    last_chunk: int,
    newest_chunk: Callable[[], int],
    tell: Told,
    show: Progress,
    forced: int = 0,
) -> RoundDone:
    """Measure, repair, judge, and leave on disk what comes of it.

    Args:
        workshop: what all rounds share.
        memory: what was done before; holds this round when the function returns.
        material: what the round works on.
        driving: the bundles that drove it, by part.
        name: of the strategy.
        last_chunk: newest chunk of the replay that the material is from.
        newest_chunk: tells the newest one there is. Once an adapter leaves, what was driven while it was made is old
            driving: the next round waits for what comes after it.
        tell: takes each phase as it begins.
        show: takes the progress of an update; what it raises ends the round, of which nothing remains.
        forced: number of the request for this round, 0 where there is none; it is only reported.

    Raises:
        LostStudentError: as `put_together`.
        OSError: something cannot be written.
    """
    known = memory.known
    tell(Phase.MEASURING)
    learned = learn(workshop, memory, material, driving, name, tell, show)
    report = replace(_report(workshop, memory, learned, material, name), forced=forced)
    counters, made = dict(known.counters), known.made
    if learned.made is not None:
        counters[learned.made.part] = learned.made.counter
        made, last_chunk = (*made, learned.made), newest_chunk()
    trained = learned.step.fits[0].part if learned.step.fits else Part.NOTHING.value
    memory.keep(
        replace(
            known,
            round=report.round,
            last_chunk=last_chunk,
            last_part=trained,
            counters=counters,
            made=made,
            report=asdict(report),
            failed="",
        )
    )
    return report


def learn(
    workshop: Workshop,
    memory: Memory,
    material: Material,
    driving: Mapping[str, Made],
    name: str,
    tell: Told,
    show: Progress,
) -> Learned:
    """The round itself; the bundle is on disk when it returns, and counts for nothing until the memory names it."""
    config, index = workshop.config, memory.known.round + 1
    torch.manual_seed(index)
    student = workshop.student()
    put_together(student, workshop.base, memory, driving)
    before, replay = student.merged(), copy.copy(workshop.source)  # whose arrays `add` replaces, not changes
    if material.older is not None:
        replay.add(material.older)
    rollouts = Rollouts(material.rollouts, material.outcomes)
    strategy = _allowed(workshop, material, name)
    # Unlike in `adawm adapt`, what failed before these rollouts is over: each adapter more is a risk on the road.
    failures = Failures(Tally.of(material.outcomes), workshop.baseline.driving)
    if failures.significant(config.select.significance):
        strategy = in_turn(strategy, Part(memory.known.last_part))
    setting, past = Setting(strategy, workshop.source, workshop.baseline, config), Past(_last(memory, material))
    (step,) = adapt_step(index, student, rollouts, replay, setting, past, index, show).steps
    if not step.fits:
        few = too_few(material.held_out, step.selection.part, UpdateGateConfig())
        wanted = strategy_of(name).parts(index - 1, step.selection.part)
        return Learned(step, few if wanted and workshop.key is not None else None, None, "")
    tell(Phase.GATING)
    part = Part(step.fits[0].part)
    trial = Trial(part, before, student.merged(), workshop.baseline, config, UpdateGateConfig(), index)
    # A model is judged in the world it was repaired for: what was driven before a shift speaks against every repair.
    gate = judge(trial, material.recent if part is Part.DYNAMICS else material.held_out, workshop.home)
    if not gate.passed:
        return Learned(step, gate, None, "")
    tell(Phase.BUNDLING)
    try:
        return Learned(step, gate, _bundle(workshop, memory, student, driving, step, gate, material.digest), "")
    except Unfit as error:
        return Learned(step, gate, None, str(error))


def _last(memory: Memory, material: Material) -> Part:
    """What was repaired in the last round, as the decision's hysteresis has it.

    One that left and does not drive now, because the planner refused it or went back, gives no reason to stay with its
    part. Whose turn it is does not ask for that, see `in_turn`.
    """
    known = memory.known
    produced = known.report["produced"] if known.report is not None else ""
    return Part.NOTHING if produced and produced not in material.policy.adapter_digests else Part(known.last_part)


def in_turn(strategy: Strategy, last: Part) -> Strategy:
    """The strategy, in which a dynamics that was repaired just before gives way to the policy.

    As `select_next` has it within a round of `adawm adapt` where driving fails: a new task may be harder to predict for
    good, and repairing the model for ever would leave the policy alone. Whatever became of that repair: where this gate
    or the planner refuses every one, or a pinned part takes none, to try the next would leave it alone as well.
    """
    if strategy.name != "adawm" or last is not Part.DYNAMICS:
        return strategy
    return replace(
        strategy,
        parts=lambda index, chosen: strategy.parts(index, Part.POLICY if chosen is Part.DYNAMICS else chosen),
    )


class LostStudentError(ValueError):
    """A round cannot begin with what drives, and only who rolls it back, or restores a file, can help."""


class Unfit(Exception):
    """An update that passed the gate cannot become a bundle; says why."""


def put_together(student: Student, base: BaseModel, memory: Memory, driving: Mapping[str, Made]) -> None:
    """Make a fresh student what the driving bundles were made of: each part from its bundle, the rest from the newest.

    Where the student behind a bundle is lost, the factors of the bundle itself are taken: so what drives is what is
    adapted all the same, and only critic and heads, which no bundle carries, begin at the base model's again.

    Raises:
        LostStudentError: a driving bundle is damaged, or does not fit the configuration.
        OSError: the disk does not give a file that is there, or takes none.
    """
    fresh = memory.student(BASE)
    student.save(fresh)
    tensors = load_file(fresh)
    for made in sorted(driving.values(), key=memory.known.made.index):  # so the newest one's critic is the last word
        factors, module = _driving_factors(memory, base, made), f"{PARTS[made.part]}."
        found = _of_student(memory, made, factors)
        if isinstance(found, str):
            print(f"{found}; the round begins with the bundle, which has no critic and no heads", file=sys.stderr)
            tensors |= factors
            continue
        tensors = {name: value for name, value in tensors.items() if not name.startswith(module)}
        tensors |= {name: value for name, value in found.items() if name.startswith((module, "spread", *OWN))}
    write_weights(memory.folder / BEGUN_FILE, tensors)
    try:
        student.take(tensors)
    except ValueError as error:
        names = " and ".join(_named(made) for made in driving.values())
        raise LostStudentError(
            f"{names} cannot be adapted further with this configuration ({error}); set config_file and preset as they "
            "were when that was made, or roll it back in the planner"
        ) from error


def _driving_factors(memory: Memory, base: BaseModel, made: Made) -> dict[str, torch.Tensor]:
    """Factors of a driving bundle, as a student's file has them. Raises LostStudentError when it cannot be used."""
    folder = bundle_folder(memory.folder, made)
    context = Context(base, None, any_vehicle=True)
    found = verify_folder(folder, context, int(time.time()), expected_digest=made.digest, fresh=False)
    if not isinstance(found, VerifiedAdapter):
        raise LostStudentError(
            f"{folder}: the bundle of {_named(made)}, which drives, cannot be used ({found}); restore the folder, or "
            "roll that adapter back in the planner"
        )
    return {name: torch.tensor(factor) for name, factor in runtime_inputs(found.factors).items()}


def _of_student(memory: Memory, made: Made, factors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | str:
    """Tensors of the student behind a bundle of these factors, or why it is lost. Raises OSError as the disk does."""
    path = memory.student(made.digest)
    lost = f"{path}: the student behind {_named(made)}, which drives,"
    try:
        content = path.read_bytes()
        if made.student and hashlib.sha256(content).hexdigest() != made.student:
            return f"{lost} is not the file that was written"
        tensors = load(content)
    except FileNotFoundError:
        return f"{lost} is missing"
    except SafetensorError as error:
        return f"{lost} cannot be read ({error})"
    if not all(name in tensors and _same(tensors[name], factor) for name, factor in factors.items()):
        return f"{lost} is not what its bundle was made of"
    return tensors


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


def _named(made: Made) -> str:
    return f"adapter {made.part}-{made.counter}"


def _allowed(workshop: Workshop, material: Material, name: str) -> Strategy:
    """The strategy, or `none` where no update could leave: it would be work for nothing."""
    judged = too_few(material.held_out, Part.NOTHING, UpdateGateConfig()) is None
    return strategy_of(name if judged and workshop.key is not None else "none")


def _bundle(
    workshop: Workshop,
    memory: Memory,
    student: Student,
    driving: Mapping[str, Made],
    step: Step,
    gate: GateReport,
    data: str,
) -> Made:
    """Write the signed bundle and the student behind it. Raises Unfit when no planner would take it."""
    settings, part, now = workshop.settings, gate.part, int(time.time())
    counter = memory.known.counters.get(part, 0) + 1
    parent = driving[part].digest if part in driving else None
    scores = {"dynamics_mismatch": step.mismatch.dynamics.value, "policy_mismatch": step.mismatch.policy.value}
    expires = now + int(settings.expires_h * HOUR_S) if settings.expires_h else None
    draft = Draft(
        f"{part}-{counter}",
        part,
        workshop.base.digest,
        counter,
        now,
        parent,
        expires,
        settings.vehicle_id or None,
        scores,
        data,
        gate.to_json(),
        tuple(sorted(made.digest for made in driving.values())),
    )
    try:
        files = build_bundle(draft, _factors(student, workshop, part), workshop.session, AdapterLimits())
    except ValueError as error:
        raise Unfit(str(error)) from error
    # What no planner would take is not signed.
    found = verify(files, Context(workshop.base, None, any_vehicle=True), now, fresh=False)
    if not isinstance(found, VerifiedAdapter):
        raise Unfit(str(found))
    assert workshop.key is not None, "nothing is trained without a key"
    made = Made(bundle_digest(files[MANIFEST_FILE]), part, counter)
    write_bundle(bundle_folder(memory.folder, made), sign_bundle(files, workshop.key))
    path = memory.student(made.digest)
    student.save(path)
    return replace(made, student=hashlib.sha256(path.read_bytes()).hexdigest())


def _factors(student: Student, workshop: Workshop, part: str) -> dict[str, tuple[Float32, Float32]]:
    """Factors of a part that the planner's graph takes; the heads stay behind, no decision reads them."""
    known = {name: pair for name, pair in student.factors().items() if name in workshop.base.layers}
    return {
        name: (down.numpy().astype(np.float32), up.numpy().astype(np.float32))
        for name, (down, up) in known.items()
        if part_of(name) == part and down.numel()
    }


def _report(workshop: Workshop, memory: Memory, learned: Learned, material: Material, name: str) -> RoundDone:
    step, made = learned.step, learned.made
    scores = {}
    for side, score, key in zip(PARTS, (step.mismatch.dynamics, step.mismatch.policy), step.mismatch.pair, strict=True):
        scores[f"{side}_mismatch"], scores[f"{side}_standard_error"] = score.value, score.error
        scores[f"{side}_baseline"] = workshop.baseline.samples[key].mean
    return RoundDone(
        round=memory.known.round + 1,
        strategy=name,
        decisions=len(material.rollouts),
        episodes=len(material.outcomes),
        scores=scores,
        threshold=workshop.config.select.c,
        selected=step.selection.part.value,
        updated=[fit.part for fit in step.fits],
        reason=_reason(workshop, learned, name),
        acting=[material.policy.base_digest, *material.policy.adapter_digests],
        gate=learned.gate.to_json() if learned.gate is not None else None,
        produced=made.digest if made is not None else "",
        bundle=str(bundle_folder(memory.folder, made).relative_to(memory.folder)) if made is not None else "",
    )


def _reason(workshop: Workshop, learned: Learned, name: str) -> str:
    """One line: the decision, and what became of the update."""
    step = learned.step
    parts = [step.selection.reason]
    if step.fits and step.repaired is Part.NOTHING:
        why = "whose turn it is after the dynamics" if name == "adawm" else f"as the strategy {name} has it"
        parts.append(f"repaired was the {step.fits[0].part}, {why}")
    if workshop.key is None:
        parts.append("no signing key: nothing is trained")
    if learned.gate is not None:
        parts.append(f"gate {'passed' if learned.gate.passed else 'refused'}: {learned.gate.reason}")
    if learned.refusal:
        parts.append(f"no bundle: {learned.refusal}")
    return "; ".join(parts)
