"""Every preset of pretraining can be used, and a value that would fail hours later is refused by name at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adawm_planner.config.mapping import from_mapping, to_mapping
from adawm_planner.config.policy import LEAST_UNIMIX
from adawm_planner.config.presets import PRETRAINING_FILE, load_pretraining
from adawm_planner.config.pretraining import PretrainingConfig
from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.paths import default_model_dir


def changed(name: str, value: object) -> PretrainingConfig:
    """The default configuration with another value of `section.field` or `field`."""
    values = to_mapping(load_pretraining())
    *section, field = name.split(".")
    (values[section[0]] if section else values)[field] = value
    return from_mapping(PretrainingConfig, yaml.safe_load(yaml.safe_dump(values)), "some.yaml")


@pytest.mark.parametrize("preset", ["default", *yaml.safe_load(PRETRAINING_FILE.read_text())["presets"]])
def test_every_preset_can_be_used(preset: str) -> None:
    assert load_pretraining(preset=preset).preset == preset


def test_the_shipped_model_is_of_sizes_that_can_be_used() -> None:
    values = yaml.safe_load((default_model_dir() / "config.yaml").read_text())
    assert from_mapping(WorldModelConfig, values["world_model"], "config.yaml").channels == (24, 48, 64)


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("seed", -1, "at least 0"),
        ("threads", 0, "at least 1"),
        ("checkpoint_every", 0, "at least 1"),
        ("world_model.channels", [0, 8, 8], "each must be at least 1"),
        ("world_model.decoder_channels", [8, 8, -4], "each must be at least 1"),
        ("policy.unimix", 0.0, r"must be in \[1e-06, 1\): .* so none may be 0"),
        ("policy.unimix", 1e-50, r"must be in \[1e-06, 1\)"),
        ("policy.unimix", 1.0, r"must be in \[1e-06, 1\)"),
        ("collection.workers", -1, "at least 0"),
        ("collection.rounds", -1, "at least 0"),
        ("collection.validation", 0.0, "above 0 and below 1"),
        ("collection.validation", 1.0, "above 0 and below 1"),
        ("cloning.weight_decay", -0.1, "at least 0"),
        ("cloning.reconstruction", -0.1, "at least 0"),
        ("cloning.hazard", -0.1, "at least 0"),
        ("dynamics.image_samples", 513, "at most 512, dynamics.batch times dynamics.length"),
        ("imagination.clone_rate", -1e-4, "above 0"),
        ("imagination.clone_updates", -1, "at least 0"),
        ("imagination.round_updates", -1, "at least 0"),
        ("imagination.warmup_updates", -1, "at least 0"),
        ("imagination.rounds", -1, "at least 0"),
        ("imagination.entropy", -0.01, "at least 0"),
        ("imagination.clone_weight", -1.0, "at least 0"),
        ("imagination.starts", 513, "at most 512, dynamics.batch times dynamics.length"),
        ("imagination.score_episodes", 801, "at most 800, the number of collection.validation_seeds"),
    ],
)
def test_what_would_fail_later_is_refused_by_name(name: str, value: object, limit: str) -> None:
    with pytest.raises(ValueError, match=limit) as refused:
        changed(name, value)
    assert str(refused.value).startswith("some.yaml: ") and f" {name} is {value}, " in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("imagination.starts", 512),
        ("imagination.score_episodes", 800),
        ("dynamics.image_samples", 512),
        ("collection.rounds", 0),
        ("imagination.rounds", 0),
        ("policy.unimix", LEAST_UNIMIX),
    ],
)
def test_the_limits_themselves_can_be_used(name: str, value: int) -> None:
    changed(name, value)


@pytest.mark.parametrize("preset", ["default", "quick"])
def test_a_run_s_own_configuration_can_be_used_with_its_preset_only(tmp_path: Path, preset: str) -> None:
    path, config = tmp_path / "config.yaml", load_pretraining(preset=preset)
    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))
    assert load_pretraining(path, preset) == config
    with pytest.raises(ValueError, match=f"config.yaml: preset is '{preset}', 'debug' was asked for"):
        load_pretraining(path, "debug")


def test_a_preset_of_the_file_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    for own in ("quick", 3, None, ["quick"]):
        path.write_text(PRETRAINING_FILE.read_text() + yaml.safe_dump({"preset": own}))
        with pytest.raises(ValueError, match="some.yaml: preset is .*, 'default' was asked for"):
            load_pretraining(path)
    path.write_text(PRETRAINING_FILE.read_text() + "preset: quick\n")
    assert load_pretraining(path, "quick") == load_pretraining(preset="quick")
    path.write_text(PRETRAINING_FILE.read_text() + "preset: qiuck\n")
    with pytest.raises(ValueError, match="no preset 'qiuck', there are debug, default, quick"):
        load_pretraining(path, "qiuck")
