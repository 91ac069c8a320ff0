"""A YAML file in, its mapping out, or one line that says what is wrong with the file."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class _Strict(yaml.SafeLoader):
    """Refuses an entry that is given twice: plain YAML keeps the last one and says nothing.

    Refuses a value that is not of its tag, too: PyYAML's constructors take for granted that it is.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, KeyError, IndexError, TypeError, OverflowError):
            what = f"{node.value!r}" if isinstance(node, yaml.ScalarNode) else "a value"
            kind = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.constructor.ConstructorError(None, None, f"{what} is no {kind}", node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():  # a tag may say so of a list
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"entry '{name}' is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Entries of a YAML file.

    Raises:
        ValueError: the file cannot be read, is not YAML, is nested too deeply, gives an entry twice, or does not hold
            a mapping; names the file.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Strict)
    except RecursionError:
        raise ValueError(f"{path}: cannot be read as YAML: it is nested too deeply") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, must hold a mapping of entries")
    return content
