"""Pages that are written from the code: commands, recipes, exit codes, Python."""

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mlguard.cli.app import app
from mlguard.cli.commands import COMMANDS
from mlguard.cli.exit_codes import EXIT_CODES
from mlguard.cli.panels import ADVANCED
from mlguard.recipe import Recipe, recipe_text, shipped_recipes

COMMAND = re.compile(r"^(?:    |\$ )(mlguard [a-z].*)$", re.M)
EXAMPLES = 4  # of a command, from the pages
FIRST = "Options"  # the panel of options that have none
ROOMS = [  # what a program imports, in the order of a model's way
    "keystore",
    "mlguard.keys",
    "mlguard.errors",
    "mlguard.recipe",
    "mlguard.data",
    "mlguard.models",
    "mlguard.transforms",
    "mlguard.protect",
    "mlguard.foreign",
    "mlguard.weights",
    "mlguard.bundle",
    "mlguard.sealing",
    "mlguard.signing",
    "mlguard.grants",
    "mlguard.issuing",
    "mlguard.marks",
    "mlguard.runtime",
    "mlguard.serving",
    "mlguard.audit",
]


def generated_pages(root: Path) -> dict[str, str]:
    """Every page that no one writes by hand, by its path below docs/."""
    return {
        **_commands(root),
        "reference/recipe.md": _recipe_fields(),
        "reference/recipes.md": _recipes(),
        "reference/exit-codes.md": _exit_codes(),
        **{f"reference/api/{room}.md": _room(room) for room in ROOMS},
    }


# Commands


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, "keys list" among them."""
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from leaves(child, f"{path} {name}".strip())


def examples_in(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Command lines on our pages, by the page they stand on, whole."""
    found: dict[str, list[tuple[str, str]]] = {}
    for page in [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]:
        if "spec" in page.parts or page.name == "CHANGELOG.md":
            continue
        text = page.read_text().replace("\\\n", "\\ ")
        for line in COMMAND.findall(text):
            shown = re.sub(r"\\\s+", "\\\n    ", line.partition(" #")[0].strip())
            place = str(page.relative_to(root))
            place = place.removeprefix("docs/") if "/" in place else "index.md"
            found.setdefault(place, []).append((line, shown))
    return found


def _commands(root: Path) -> dict[str, str]:
    tree = typer.main.get_command(app)
    found = list(leaves(tree))
    examples = examples_of(root, [path for path, _ in found])
    rows: dict[str, list[str]] = {row.panel: [] for row in COMMANDS.values()}
    for path, command in found:
        link = f"[`mlguard {path}`]({path.replace(' ', '-')}.md)"
        rows[panel_of(path)].append(f"| {link} | {_first_line(command)} |")
    text = [
        "# Commands\n\nEvery command says the same with `--help`. What all of them "
        "have in common: [on a terminal](../terminal.md), [exit codes]"
        "(../exit-codes.md), [environment variables](../environment.md).\n"
    ]
    for panel, lines in rows.items():
        text += [f"## {panel}", "", "| command | |", "|---|---|", *lines, ""]
    pages = {"reference/cli/index.md": "\n".join(text)}
    for path, command in found:
        name = f"reference/cli/{path.replace(' ', '-')}.md"
        pages[name] = _command(path, command, examples[path])
    return pages


def panel_of(path: str) -> str:
    """The panel of a command in the help of `mlguard`; "keys list" is in that of keys.

    Raises:
        KeyError: The command does not exist.
    """
    return COMMANDS[path if path in COMMANDS else path.split()[0]].panel


def options_by_panel(command: Any) -> dict[str, list[Any]]:
    """The options of a command as its help groups them: everyday ones, then special."""
    found: dict[str, list[Any]] = {FIRST: []}
    for option in command.params:
        if option.param_type_name == "option" and not getattr(option, "hidden", False):
            found.setdefault(option.rich_help_panel or FIRST, []).append(option)
    last = found.pop(ADVANCED, [])
    return {name: each for name, each in [*found.items(), (ADVANCED, last)] if each}


def examples_of(root: Path, names: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Command lines on our pages, each with its page, by the command they call."""
    found = examples_in(root)
    return {
        path: [
            (line, place)
            for place, lines in found.items()
            for whole, line in lines
            if _is_of(whole, path, names)
        ]
        for path in names
    }


def _first_line(command: Any) -> str:
    text = inspect.cleandoc(command.help or "")
    return text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _is_of(line: str, path: str, names: list[str]) -> bool:
    """Whether a line calls this command and not one whose name is longer."""
    called = [n for n in names if f"{line} ".startswith(f"mlguard {n} ")]
    return bool(called) and max(called, key=len) == path


def arguments_of(command: Any) -> list[Any]:
    """The arguments of a command, which are no options."""
    return [one for one in command.params if one.param_type_name == "argument"]


def _command(path: str, command: Any, shown: list[tuple[str, str]]) -> str:
    text = [
        f"# mlguard {path}",
        "",
        inspect.cleandoc(command.help or "").replace("\f", ""),
        "",
    ]
    arguments = arguments_of(command)
    called = " ".join(f"{p.name}{' …' if p.nargs == -1 else ''}" for p in arguments)
    text += ["```text", f"mlguard {path} [OPTIONS] {called}".strip(), "```", ""]
    if arguments:
        text += ["| argument | |", "|---|---|"]
        text += map(argument_row, arguments)
        text.append("")
    for panel, options in options_by_panel(command).items():
        text += [f"## {panel}", "", "| option | | default |", "|---|---|---|"]
        text += [*map(option_row, options), ""]
    if shown:
        text += ["## Examples", ""]
        seen: set[str] = set()
        for line, place in shown:
            if line in seen or len(seen) == EXAMPLES:
                continue
            seen.add(line)
            text += ["```sh", line, "```", "", f"from [{place}](../../{place})", ""]
    return "\n".join(text) + "\n"


def argument_row(argument: Any) -> str:
    """The row of an argument in a table: its name, what it is."""
    return f"| `{argument.name}` | {_cell(getattr(argument, 'help', '') or '')} |"


def option_row(option: Any) -> str:
    """The row of an option in a table: its names, what it does, its default."""
    names = ", ".join(f"`{x}`" for x in [*option.opts, *option.secondary_opts])
    variable = f" Variable: `{option.envvar}`." if option.envvar else ""
    needed = " **Needed.**" if option.required else ""
    told = _cell(option.help or "") + variable + needed
    default = default_of(option)
    return f"| {names} | {told} | {f'`{default}`' if default else ''} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def default_of(option: Any) -> str:
    """The value of an option that is not given, as text; empty if there is none."""
    value = option.default
    if option.required or option.show_default is False or value in (None, False, ()):
        return ""
    if callable(value) or isinstance(value, Path):
        return ""
    if value is True:
        return str(option.opts[0])
    # A place is shown as everybody's, not in the home of whoever builds this page.
    return str(getattr(value, "value", value)).replace(str(Path.home()), "~")


# Recipes

SECTION = re.compile(r"^# \[(\w+)\]", re.M)
FIELD = re.compile(r"^#   ([a-z_]+(?:, [a-z_]+)*)  +(.*(?:\n#  {4,}.*)*)", re.M)


def explanations() -> dict[str, dict[str, str]]:
    """What the header of fcn_voc says of each field, by section."""
    parts = SECTION.split(recipe_text("fcn_voc").split("\nrecipe = 1")[0])
    found: dict[str, dict[str, str]] = {}
    for section, text in zip(parts[1::2], parts[2::2], strict=True):
        fields = found.setdefault(section, {})
        for names, told in FIELD.findall(text):
            said = " ".join(re.sub(r"\n# +", " ", told).split())
            for name in names.split(", "):
                if name in fields:
                    raise ValueError(f"{section}.{name} is explained twice")
                fields[name] = said
    return found


def _recipe_fields() -> str:
    told = explanations()
    text = [
        "# Fields of a recipe",
        "",
        "`mlguard recipes check FILE` says every problem at once; `--set "
        "section.field=value` changes one field. The explanations are those of "
        "[fcn_voc](recipes.md#fcn_voc), the types those of the code that reads them.",
        "",
    ]
    for name, info in Recipe.model_fields.items():
        section = info.annotation
        if not hasattr(section, "model_fields"):
            continue
        text += [f"## {name}", "", "| field | type | default | |", "|---|---|---|---|"]
        for field, detail in section.model_fields.items():
            kind = _kind(section, field)
            default = (
                "**needed**"
                if detail.is_required()
                else f"`{detail.get_default(call_default_factory=True)!r}`"
            )
            said = _cell(told.get(name, {}).get(field, ""))
            text.append(f"| `{field}` | {kind} | {_cell(default)} | {said} |")
        text.append("")
    return "\n".join(text)


def _kind(section: Any, field: str) -> str:
    schema = section.model_json_schema()
    return _schema_words(schema["properties"][field], schema.get("$defs", {}))


def _schema_words(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema_words(defs[schema["$ref"].rsplit("/", 1)[1]], defs)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            kinds = [_schema_words(one, defs) for one in schema[word]]
            return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return _list_words(schema, defs)
    return _number_words(schema)


def _list_words(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
    least, most = schema.get("minItems"), schema.get("maxItems")
    length = f"{most} × " if most and most == least else ""
    return f"list of {length}{_schema_words(inner, defs) or 'values'}"


KINDS = {
    "integer": "whole number",
    "string": "text",
    "null": "nothing",
    "boolean": "true or false",
}


def _number_words(schema: dict[str, Any]) -> str:
    said = schema.get("type", "")
    kind = KINDS.get(said, said)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{kind}, {low} … {high}"
    if "exclusiveMinimum" in schema:
        return f"{kind} above {low}"
    return kind if low is None else f"{kind}, {low} or more"


def _recipes() -> str:
    text = [
        "# Recipes",
        "",
        "`mlguard recipes copy NAME FILE` gives you one to change. What each field "
        "means: [fields of a recipe](recipe.md).",
        "",
    ]
    for name in shipped_recipes():
        text += [f"## {name}", "", "```toml", recipe_text(name).rstrip(), "```", ""]
    return "\n".join(text)


# Exit codes and Python


def _exit_codes() -> str:
    text = [
        "# Exit codes",
        "",
        "`mlguard exit-codes` prints this. Scripts may rely on it: numbers never "
        "change.",
        "",
        "| status | meaning | refusals |",
        "|---|---|---|",
    ]
    for row in EXIT_CODES:
        names = ", ".join(f"`{kind.__name__}`" for kind in row.refusals)
        text.append(f"| {row.number} | {row.meaning} | {names} |")
    return "\n".join(text) + "\n"


def _room(room: str) -> str:
    module = importlib.import_module(room)
    members = sorted(getattr(module, "__all__", []))
    listed = "\n".join(f"        - {name}" for name in members)
    options = f"      members:\n{listed}\n" if members else ""
    return textwrap.dedent(
        f"""\
        # {room}

        ::: {room}
        """
    ) + ("    options:\n" + options if options else "")
