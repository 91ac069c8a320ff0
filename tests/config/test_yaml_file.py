"""A YAML file that is none is refused by name, in one line; so are presets that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adawm_planner.config.presets import PRETRAINING_FILE, load_pretraining
from adawm_planner.config.yaml_file import read_mapping


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds a NoneType, must hold a mapping"),
        (b"- 1\n- 2\n", "holds a list"),
        (b"a: [\n", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"a: \x00\n", "cannot be read as YAML"),
        (b"- " * 3000, "nested too deeply"),
        (b"a: 1\na: 2\n", "entry 'a' is given twice"),
        (b"top:\n  a: 1\n  a: 2\n", "entry 'a' is given twice"),
        (b'a: !!python/object/apply:os.system ["true"]\n', "cannot be read as YAML"),
        (b"? [1, 2]\n: 3\n", "cannot be read as YAML"),
        (b"a: 2020-99-99\n", "cannot be read as YAML"),
        (b"a: !!timestamp foo\n", "cannot be read as YAML: 'foo' is no !!timestamp"),
        (b"a: " + b"1:" * 200 + b"1.0\n", "is no !!float"),
        (b"a: !!set [b]\n", "cannot be read as YAML"),
        (b"a: !!bool foo\n", "'foo' is no !!bool"),
        (b"a: !!int ''\n", "'' is no !!int"),
        (b"a: [{b: !!float ''}]\n", "'' is no !!float"),
        (b"!!bool foo: 1\n", "'foo' is no !!bool"),
        (b"a: !!int foo\n", "cannot be read as YAML"),
        (b"a: !!timestamp [1]\n", "cannot be read as YAML"),
    ],
)
def test_what_is_no_mapping_is_refused_with_the_files_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as refused:
        read_mapping(path)
    assert "some.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_or_nothing_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"cannot be read \((Is a directory|No such file)"):
            read_mapping(path)


def test_anchors_and_merge_keys_still_work(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n")
    assert read_mapping(path)["mine"] == {"a": 1, "b": 3}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_a_mapping_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_mapping(path), dict)
    except ValueError as error:
        assert "any.yaml" in str(error)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        ["null", "bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set", "str", "seq", "map"]
    ),
    st.sampled_from(["''", "foo", "1:1", "0x", "[a]", "{a: 1}", "[[a]]", "{[a]: 1}", "-", "é", "+", "0b", "12:"]),
    st.booleans(),
)
def test_any_tag_is_a_mapping_or_refused(tmp_path: Path, tag: str, value: str, key: bool) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(f"? !!{tag} {value}\n: 1\n" if key else f"a: !!{tag} {value}\n")
    try:
        assert isinstance(read_mapping(path), dict)
    except ValueError as error:
        assert "any.yaml" in str(error)


@pytest.mark.parametrize("presets", ["3", "[a]", "{debug: 3}"])
def test_presets_that_are_none_are_refused(tmp_path: Path, presets: str) -> None:
    path = tmp_path / "some.yaml"
    text = PRETRAINING_FILE.read_text()
    path.write_text(text[: text.index("\npresets:")] + f"\npresets: {presets}\n")
    with pytest.raises(ValueError, match="presets must be a mapping"):
        load_pretraining(path)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("\npresets:", "\n1: x\nb: y\n2020-01-01: z\npresets:", "unknown entry 1; known are preset, seed, "),
        ("\npresets:", "\npresets:\n  3: {}", "no preset 'nothing', there are 3, "),
        ("learning_rate: ", "learning_rate: 1" + "0" * 400 + " # ", "must be a finite number"),
        ("first_decisions: ", "first_decisions: 0 # ", "collection.first_decisions is 0, must be above 0"),
    ],
)
def test_keys_and_numbers_of_any_kind_are_refused_by_name(tmp_path: Path, before: str, after: str, words: str) -> None:
    path, text = tmp_path / "some.yaml", PRETRAINING_FILE.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ValueError, match=words) as refused:
        load_pretraining(path, "nothing" if "preset '" in words else "default")
    assert "some.yaml" in str(refused.value) and "\n" not in str(refused.value)
