"""From the words of a command line to the keywords of a typed function: its types are its options."""

import argparse
import inspect
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from tinct.config import BUDGETS, Config, read_yaml, recipe_file, recipes
from tinct.errors import TinctError, one_line
from tinct.files import expanded

__all__ = ["bundles_of", "parse"]

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "names with weights, such as '{l1: 1.0, rotation: 0.5}'",
}
"""What to call Python's types; the one mapping among settings is of weights."""
RECIPE_FIRST = " The defaults below are the recipe's: those of fast, or of the one that --recipe names beside --help."
PATHS: dict[Any, Any] = {Path: str, Path | None: str | None}
"""What words on the command line are read as first, so that help calls them by a plain name."""


def parse(name: str, command: Callable[..., int | None], words: list[str]) -> dict[str, Any]:
    """The keyword arguments that `words` give for `command`.

    Parameters without a default are positionals, keyword-only ones options; the fields of a dataclass parameter are
    options too, and those of `Config` can be read from `--recipe NAME` or `--config FILE`.

    Raises:
        TinctError: `words` do not fit.
        SystemExit: after `--help` or `--print-config`.
    """
    from jsonargparse import ArgumentError

    hints, bundles = get_type_hints(command), bundles_of(command)
    with_recipes, files = Config in bundles.values(), list[Path]()
    if with_recipes:
        words = with_recipe(words)
        files = [Path(file) for word, file in itertools.pairwise(words) if word == "--config"]
        for file in filter(Path.is_file, files):
            check_file(file, hints.keys() - bundles.keys())
    parser = parser_for(name, command)
    if {"-h", "--help"}.intersection(words):
        for file in files:
            parser.set_defaults(read_yaml(file))  # what will be used
    lists = [option for action in parser._actions if action.nargs == "*" for option in action.option_strings]
    try:
        values = parser.parse_args(gathered(words, lists)).as_dict()
    except ArgumentError as error:
        raise TinctError(f"{complaint(error, parser, words, lists)}; see tinct {name} --help") from error
    if with_recipes and not values.get("sources") and (took := swallowed(words, lists)):
        raise TinctError(f"no source given{took}")
    for key, kind in bundles.items():
        given = {field.name: values.pop(field.name) for field in fields(kind) if field.name in values}
        values[key] = kind(**given)
    paths = {key for key in hints if hints[key] in PATHS and values.get(key) is not None}
    if empty := sorted(key for key in paths if values[key] == ""):  # Path("") would be the current folder
        raise TinctError(f"{empty[0]} is empty; expected a path (. is the current folder)")
    return {key: expanded(value) if key in paths else value for key, value in values.items() if key in hints}


def bundles_of(command: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that are dataclasses, whose fields are options."""
    return {key: kind for key, kind in get_type_hints(command).items() if is_dataclass(kind)}


def parser_for(name: str, command: Callable[..., int | None]) -> Any:
    """jsonargparse's parser of what `command` takes."""
    from jsonargparse import ArgumentParser

    bundles = bundles_of(command)
    about, texts = described(command)
    twin = inspect.unwrap(command).__globals__.get(f"run_{command.__name__}")  # where programs find what both take
    if twin and (missing := inspect.signature(command).parameters.keys() - texts.keys() - bundles.keys()):
        about, others = described(twin)
        texts |= {key: others[key] for key in missing}
    with_recipes = Config in bundles.values()
    about += RECIPE_FIRST if with_recipes else ""
    how: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "print_config": "--print-config"}
    parser = ArgumentParser(prog=f"tinct {name}", description=about, formatter_class=plain_help(), **how)
    if with_recipes:
        parser.add_argument("--config", action="config", help="a YAML file of settings; options after it win")
        prints = next(action for action in parser._actions if "--print-config" in action.option_strings)
        # its own words are of jsonargparse's inner ways, with a backspace among them
        prints.metavar, prints.help = "", "print the settings, as a file for --config has them, and exit"
        parser.add_argument(
            "--recipe",
            default=argparse.SUPPRESS,
            help=f"shipped settings: features for labels, colour for a colorizer; all: {', '.join(recipes())} "
            "(default: fast)",
        )
    hints = get_type_hints(command)
    for parameter in inspect.signature(command).parameters.values():
        key = parameter.name
        if key in bundles:
            for option in options_of(bundles[key]):
                add(parser, option)
            continue
        required = parameter.default is parameter.empty
        positional = required and parameter.kind is not parameter.KEYWORD_ONLY
        default = None if required else parameter.default
        add(parser, Option(key, hints[key], default, texts.get(key, ""), positional, required))
    return parser


def plain_help() -> Any:
    """jsonargparse's formatter of help, without Python's types and defaults that are none."""
    from jsonargparse import DefaultHelpFormatter

    class Plain(DefaultHelpFormatter):
        def _get_type_str(self, action: argparse.Action) -> None:
            return None

        def _expand_help(self, action: argparse.Action) -> str:
            return re.sub(r" \(default: (null|\[\])\)$", "", super()._expand_help(action))

    return Plain


def complaint(error: Exception, parser: Any, words: list[str], lists: Collection[str]) -> str:
    """What is wrong with `words`, in plain words and by the names of options.

    Args:
        error: what `parser` says of it.
        parser: which knows the options.
        words: those of the command line.
        lists: the options that take several.
    """
    message = plainly(one_line(error).replace("Parser key ", ""))
    head, missing, names = message.partition("arguments are required: ")
    if missing:
        flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
        message = head + missing + ", ".join(flags.get(name, name) for name in names.split(", "))
    return message + (swallowed(words, lists) if "required" in message else "")


def check_file(file: Path, others: Collection[str]) -> None:
    """Refuse a file of settings of which the parser knows no good word: a key twice, an unknown one, text for a list.

    Args:
        file: of `Config`'s settings.
        others: further keys that it may have.

    Raises:
        TinctError: it is such a file, or cannot be read.
    """
    content, hints = read_yaml(file), get_type_hints(Config)
    for key, value in content.items():
        if key == "recipe":
            raise TinctError(f"{file}: recipe is no setting of a file; leave it out and write --recipe {value}")
        if key not in hints and key not in others:
            raise TinctError(f"{file}: unknown setting {key!r}; expected those that --print-config shows")
        if hints.get(key) == list[str] and not isinstance(value, list):
            raise TinctError(f"{file}: {key} is {value!r}; expected a list, such as [{value}]")


def plainly(message: str) -> str:
    """What jsonargparse says of a value, without Python's names of types."""
    found = re.fullmatch(r'"(.+?)"(?: element \d+)?: (.*?)(?: Errors: .*)?\.? (?:Got|Given) value: (.*)', message)
    if found is None:
        return message
    name, types, value = found.groups()
    words = [word for group in re.findall(r"Literal\[(.*?)\]", types) for word in re.findall(r"'([^']*)'", group)]
    kinds = [KINDS[kind] for kind in re.findall(r"<class '(\w+)'>", types) if kind in KINDS]
    return f"{name} is {value!r}; expected {' or '.join(words + kinds)}"


def swallowed(words: list[str], lists: Collection[str]) -> str:
    """What to add where a word is missed that an option, which takes all words after it, may have taken."""
    took = [option for option in lists if option in words]
    return f"; {took[0]} takes all words that follow it, so sources come before it" if took else ""


def gathered(words: list[str], lists: Collection[str]) -> list[str]:
    """Let an option that takes a list add up when it is repeated, where argparse would keep the last one alone."""
    current: list[str] = []
    groups, lasting = [current], dict[str, list[str]]()
    for word in words:
        option, equals, value = word.partition("=")
        if option in lasting:
            current = lasting[option]
        elif word.startswith("-"):
            current = [option if option in lists else word]
            groups.append(current)
            if option in lists:
                lasting[option] = current
        else:
            current.append(word)
        if option in lists and equals:
            current.append(value)
    return list(itertools.chain.from_iterable(groups))


class Option(NamedTuple):
    """A parameter of a command, or a field of a dataclass that it takes, as an argument."""

    name: str
    kind: Any
    default: Any
    text: str
    positional: bool
    required: bool


def add(parser: Any, option: Option) -> None:
    """One argument, as its type asks: a list takes several words, a bool none."""
    from jsonargparse import ActionYesNo

    name, kind, default, text, positional, required = option
    flags = [name] if positional else [*(["-o"] if name == "out" else []), f"--{name.replace('_', '-')}"]
    how: dict[str, Any] = {"help": text}
    if kind == list[str]:
        default = argparse.SUPPRESS if positional else default or []  # a file's list stands where no words are given
        how |= {"type": str, "nargs": "+" if positional and required else "*", "default": default}
    elif kind is bool:
        how |= {"action": ActionYesNo(no_prefix="no-"), "default": default}
    else:
        how |= {"type": PATHS.get(kind, kind), "default": default}
    if required and not positional:
        how["required"] = True
    elif required:
        how.pop("default", None)
    parser.add_argument(*flags, **how)


def options_of(bundle: Any) -> Iterator[Option]:
    """An option for each field of a dataclass; one whose metadata says `positional` is so."""
    hints, (_, texts) = get_type_hints(bundle), described(bundle)
    for field in fields(bundle):
        required = field.default is MISSING and field.default_factory is MISSING
        default = field.default if field.default_factory is MISSING else field.default_factory()
        yield Option(
            field.name,
            hints[field.name],
            None if required else default,
            texts.get(field.name, ""),
            "positional" in field.metadata,
            required,
        )


def described(command: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says before its sections, and the texts of its Args, without marks of code."""
    from docstring_parser import parse as parse_docstring

    found = parse_docstring((command.__doc__ or "").replace("`", ""))
    return found.description or "", {entry.arg_name: entry.description or "" for entry in found.params}


def with_recipe(words: list[str]) -> list[str]:
    """Replace `--recipe NAME` by `--config FILE`, with `fast` where no settings are named.

    It goes before all options, but after a file that it was named after, whose budget it replaces too. A budget among
    `words` takes the place of those in files; of several recipes, the last one counts.

    Raises:
        TinctError: there is no such recipe.
    """
    apart: list[str] = []
    for word in words:
        option, equals, value = word.replace("--print_config", "--print-config").partition("=")
        apart += [option, value] if equals and option in ("--config", "--recipe") else [option + equals + value]
    recipe, first = None, 0
    while "--recipe" in apart:
        place = apart.index("--recipe")
        if place + 1 == len(apart):
            raise TinctError(f"--recipe needs a name; expected one of {', '.join(recipes())}")
        recipe = apart[place + 1]
        first = max((at + 2 for at, word in enumerate(apart[:place]) if word == "--config"), default=0)
        del apart[place : place + 2]
    budgets, given = [f"--{budget}" for budget in BUDGETS], {word.partition("=")[0] for word in apart}
    unset = [word for budget in budgets if budget not in given for word in (budget, "null")]
    if recipe is None and "--config" not in apart:
        recipe = "fast"
    if recipe is not None:
        apart[first:first] = [*(unset if first else []), "--config", str(recipe_file(recipe))]
    if given.intersection(budgets):
        place = len(apart) - apart[::-1].index("--config") + 1  # after the last file
        apart[place:place] = unset
    return apart
