"""Where in a YAML file does a value stand? Plain values beside the line and column of every key and value."""

from dataclasses import dataclass, field

import yaml

from winnow_storage.errors import SpecError

Path = tuple[str | int, ...]
MAX_BYTES = 1_000_000  # a spec is a page; more is a mistake, or meant to exhaust us


@dataclass(slots=True)
class MarkedYaml:
    """A document's plain value, and for every path in it the 1-based (line, column) of its key and of its value."""

    name: str
    value: object
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def where(self, path: Path, *, key: bool = False) -> str:
        """`file:line:column` of a path, or of the nearest one above it that is in the file."""
        marks = self.keys if key else self.values
        while path and path not in marks:
            path = path[:-1]
        line, column = marks.get(path, (1, 1))
        return f"{self.name}:{line}:{column}"


def load_marked(text: str, name: str) -> MarkedYaml:
    """Read one YAML document.

    Raises:
        SpecError: not YAML, a key given twice, an alias, or not a mapping at the top; with file:line:column.
    """
    if len(text) > MAX_BYTES:
        raise SpecError(
            f"{name} has {len(text)} characters; a job spec has at most {MAX_BYTES}",
            hint="is this the right file? Long lists stand in files of their own: label_file:, {file: ...} of a policy",
        )
    marked = MarkedYaml(name, None)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise SpecError(
                f"{name}:1:1: the file is empty", hint="the README has a spec of twenty lines to start from"
            )
        marked.value = _read(node, (), marked, yaml.SafeLoader(""))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
        raise SpecError(
            f"{place}: not valid YAML: {error.problem or error.context}",
            hint="look there and in the line above for a bracket or quote that is not closed, a tab, or another "
            "indentation; a value with ': ' or ' #' in it needs quotes",
        ) from error
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: not valid YAML: {error}", hint="save it as plain UTF-8 text") from error
    if not isinstance(marked.value, dict):
        raise SpecError(
            f"{name}:1:1: a job spec is a mapping of keys, not {type(marked.value).__name__}",
            hint="begin with name: NAME, and no dash; the README has a spec of twenty lines to start from",
        )
    return marked


def _read(node: yaml.Node, path: Path, marked: MarkedYaml, loader: yaml.SafeLoader) -> object:
    if path in marked.values:
        raise SpecError(f"{marked.where(path)}: given twice", hint="remove one of the two")
    marked.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, path, marked, loader)
    if isinstance(node, yaml.SequenceNode):
        return [_read(child, (*path, index), marked, loader) for index, child in enumerate(node.value)]
    return loader.construct_object(node)


def _read_mapping(node: yaml.MappingNode, path: Path, marked: MarkedYaml, loader: yaml.SafeLoader) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node))
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key in mapping:
            first = marked.keys[(*path, key)]
            raise SpecError(
                f"{marked.name}:{place[0]}:{place[1]}: the key {key!r} is given twice",
                hint=f"remove one of the two; the first is at {marked.name}:{first[0]}:{first[1]}",
            )
        marked.keys[(*path, key)] = place
        mapping[key] = _read(value_node, (*path, key), marked, loader)
    return mapping
