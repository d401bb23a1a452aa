"""Who may import whom, and what importing costs."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tinct

ROOT = Path(tinct.__file__).parent
COLOURING = r"colorize|coloring\.(files|work|jobs|checks|hints|film|film_sound|steady|upsample|sampling)|pictures\.\w+"
PARTS = (
    r"color|config|device|engine|environment|runs|probe|metrics|color_metrics|cards|weights|loading|shipped|inits|settings|"
    r"(models|objectives|data)(\..+)?"
)
# modules: what they may import of tinct, beside errors, files, outputs, plugins and screen
ALLOWED = {
    "errors|files|outputs|screen|plugins|device|engine": "",
    "color": "",
    r"models(\..+)?": r"color|device|models\..+",
    r"objectives(\..+)?": r"color|device|models\..+|objectives(\..+)?",
    r"data(\..+)?": r"data\..+",
    r"pictures\..+": r"color|data\.(decode|srgb)|pictures\..+",
    r"pictures\.metadata": "",
    r"pictures\.deep": r"pictures\.picture|data\.decode",
    "settings": r"config|data\.(base|labelled)",
    "weights|shipped": r"color|config|device|models\..+|objectives(\..+)?|weights",
    COLOURING: rf"color|models\..+|objectives(\..+)?|weights|shipped|device|data\.(decode|srgb|transforms)|{COLOURING}",
    r"pretraining\.preparation": r"config|engine|data\..+|pretraining\.(heldout|learner)|objectives\.pretext",
    r"evidence\.records": r"data\.labelled|evidence\.statistics",
    r"evidence\.findings": r"data\.labelled|evidence\.(records|statistics)|settings",
    r"evidence\.grouping": r"data\.labelled|evidence\.(findings|records)|settings",
    r"evidence\.continuation": r"evidence\.(findings|statistics)",
    r"evidence\.parsing": r"evidence\.grid|settings",
    r"evidence\.wording": r"evidence\.(continuation|findings|statistics)",
    r"report(\..+)?": (
        r"evidence\.(records|findings|grouping|continuation|wording|statistics)|cards|settings|data\.(base|labelled|overlay)|report\..+"
    ),
    # parts know nothing of the commands that are made of them
    r"downstream\..+": PARTS + r"|downstream\..+|coloring\.upsample",
    r"evidence\..+": PARTS + r"|downstream\..+|evidence\..+|transfer",
    r"pretraining\..+": PARTS + r"|pretraining\..+",
    r"exporting\..+": PARTS + r"|exporting\..+|downstream\.trained",
    r"web\..+": rf"{COLOURING}|color|data\.photos|web\..+",
}
NEVER = "cli|app|demo"


def imports() -> dict[str, set[str]]:
    """Each module of tinct, and those that it imports anywhere in its file; names without `tinct.`."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = parts[:-1]
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            if not node.level:
                base = (node.module or "").split(".")
                if base.pop(0) != "tinct":
                    continue
            for alias in node.names:
                inner = [part for part in (*base, alias.name) if part]
                module = ROOT.joinpath(*inner)
                named.add(".".join(inner if module.with_suffix(".py").exists() else [part for part in base if part]))
        found[".".join(part for part in parts if part != "__init__")] = named - {""}
    return found


IMPORTS = imports()


def test_the_walk_finds_imports():
    assert "pretrain" in IMPORTS["demo"]
    assert "objectives.bins" in IMPORTS["objectives"]
    assert len(IMPORTS) > 50


def test_imports_have_no_cycles():
    order = list(TopologicalSorter({name: used - {name} for name, used in IMPORTS.items()}).static_order())
    assert order.index("color") < order.index("pretrain") < order.index("demo")


@pytest.mark.parametrize("modules", ALLOWED)
def test_imports_point_one_way(modules):
    inside = {name: used for name, used in IMPORTS.items() if re.fullmatch(modules, name)}
    assert inside
    wrong = {
        name: [one for one in used if not re.fullmatch(f"errors|files|outputs|plugins|screen|{ALLOWED[modules]}", one)]
        for name, used in inside.items()
    }
    assert {name: used for name, used in wrong.items() if used} == {}


def test_what_other_modules_import_is_in_all():
    missing = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tinct."):
                module = importlib.import_module(node.module)
                names = {alias.name for alias in node.names} - set(getattr(module, "__all__", ()))
                modules = {name for name in names if inspect.ismodule(getattr(module, name, module))}
                missing |= {(node.module, name) for name in names - modules}
    assert missing == set()


def test_text_is_read_and_written_in_an_encoding_that_is_named():
    """Windows takes one of its own where none is."""
    unnamed = []
    for path in ROOT.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or "encoding" in {keyword.arg for keyword in call.keywords}:
                continue
            name = ast.unparse(call.func)
            words = [word.value for word in call.args if isinstance(word, ast.Constant)]
            opened = any(re.fullmatch(r"[rwax]\+?", str(word)) for word in words) and re.fullmatch(r"(.*\.)?open", name)
            if (opened and name != "av.open") or name.endswith((".read_text", ".write_text")):
                unnamed.append(f"{path.name}:{call.lineno}: {name}")
    assert unnamed == []


def test_nothing_imports_the_command_line_or_the_page():
    users = {name for name, used in IMPORTS.items() if any(re.fullmatch(NEVER, one) for one in used)}
    assert users <= {"__main__"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_torch_waits_until_it_is_needed():
    slow = "{'torch', 'numpy', 'timm', 'jsonargparse', 'rich'} & set(sys.modules)"
    assert run(f"import sys, tinct, tinct.cli; print({slow} or 'none')").strip() == "none"
    helped = f"import sys; from tinct.cli import main; main(['--help']); print({slow} or 'none')"
    assert run(helped).strip().splitlines()[-1] == "none"
    slow = "{'torch', 'scipy.stats', 'timm'} & set(sys.modules)"
    listed = "from tinct.cli import main; main(['weights', 'list'])"
    code = f"import sys, tinct.cards, tinct.report.page, tinct.report.tables; {listed}; print({slow} or 'none')"
    assert run(code).strip().splitlines()[-1] == "none"


def test_importing_leaves_the_process_as_it_was():
    """What other libraries filter is theirs to answer for."""
    found = run(
        """
import sys, warnings
from PIL import TiffImagePlugin

def watched(change):
    def wrapped(*words, **named):
        module = sys._getframe(1).f_globals["__name__"]
        if module.startswith("tinct"):
            print(module, words, named)
        return change(*words, **named)
    return wrapped

warnings.filterwarnings, warnings.simplefilter = map(watched, (warnings.filterwarnings, warnings.simplefilter))
writers = dict(TiffImagePlugin.ImageFileDirectory_v2._write_dispatch)
import tinct, tinct.coloring.files
for name in tinct.__all__:
    getattr(tinct, name)
print([rule for rule in warnings.filters if "PIL" in str(rule)])
print(TiffImagePlugin.ImageFileDirectory_v2._write_dispatch == writers)
"""
    )
    assert found.splitlines() == ["[]", "True"]


def test_a_command_hides_the_warnings_of_the_picture_library():
    code = "import warnings; from tinct.cli import main; main(['data', 'nowhere']); print(warnings.filters)"
    assert "PIL" in run(code)


def test_public_names_are_there_and_documented():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    documented = re.findall(r"^\.\. auto\w+:: tinct\.(\w+)$", page, re.MULTILINE)
    assert sorted(tinct.__all__) == sorted([*documented, "__version__"])
    for name in tinct.__all__:
        assert getattr(tinct, name) is not None
    assert set(tinct.__all__) <= set(dir(tinct))
    with pytest.raises(AttributeError, match="colorise"):
        _ = tinct.colorise
