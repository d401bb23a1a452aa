"""The overview of commands, and what each says of itself."""

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
import torch
from conftest import write_colourful

from tinct.cli import COMMANDS, lighter, main
from tinct.compare import compare
from tinct.pretrain import pretrain


def test_the_overview_has_a_line_for_each_command(capsys):
    assert main(["--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [f"{name} {words}" for name, (_, words) in COMMANDS.items() if f"{name} {words}" not in lines] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring_in_plain_text(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    page = capsys.readouterr().out
    module, _, function = COMMANDS[name][0].partition(":")
    found = importlib.import_module(module)
    text = getattr(found, f"run_{name}" if name in ("embed", "evaluate", "export", "predict") else function).__doc__
    said = re.split(r"\n *(?:Args|Returns|Raises):\n", text)[0].replace("`", "")
    assert "".join(said.split()) in "".join(page.split())  # which is wrapped, at hyphens too
    assert "`" not in page
    assert "<class" not in page
    assert "Raises" not in page


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_too_little_memory_is_one_line_and_other_errors_are_not(error, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr("tinct.cards.read_checked", fail)
    assert main(["card", "run"]) == 2
    assert capsys.readouterr().err == "tinct card: out of memory; end other programs, or take a machine with more\n"
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        main(["card", "run"])


def test_what_takes_less_memory_is_among_a_commands_options():
    assert lighter(pretrain) == "lower --batch-size or --size"
    assert lighter(compare) == "lower --size or --jobs"


@pytest.mark.parametrize(("first", "policy"), [("", "passive"), ("import torch;", "None")])
def test_torchs_threads_sleep_in_a_program_of_ours_and_wait_as_they_like_in_others(first, policy):
    code = f"import os; {first} from tinct.cli import main; main(['card', 'nothing'])"
    code += "; print(os.environ.get('OMP_WAIT_POLICY'))"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == policy


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "export run model --to onxx",
            "to is 'onxx'; expected timm or torchvision or onnx or",
        ),
        (
            "compare mosaic: --task multilabel --inits a --out x --seeds few",
            "seeds is 'few'; expected a whole number;",
        ),
        (
            "compare --task multilabel --inits a --out x --settings b=c mosaic:",
            "--settings takes all words that",
        ),
        ("transfer", "the following arguments are required: source, --task, --out; see"),
    ],
)
def test_what_a_word_should_be_is_said_in_plain_words(words, said, capsys):
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["colorize", "a.png", "-o", ""], "out is empty; expected a path"),
        (["pretrain", "photos:", "--out="], "out is empty; expected a path"),
        (["card", ""], "is empty; expected a path"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_help_spells_options_as_the_docs_do(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", "--help"])
    assert "--print-config" in (page := capsys.readouterr().out)
    assert "print_config" not in page
    assert "\b" not in page
    assert not re.search(r"type:|default: (null|\[\])", page)


@pytest.mark.parametrize(
    ("words", "size", "loss"),
    [([], 64, "hinge"), (["--recipe", "pix2pix"], 256, "bce"), (["--recipe", "features"], 64, "none")],
)
def test_help_has_the_defaults_of_the_recipe(words, size, loss, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", *words, "--help"])
    page = " ".join(capsys.readouterr().out.split())
    assert f"a multiple of 32. (default: {size})" in page
    assert f"none trains without one. (default: {loss})" in page


def test_letters_that_an_encoding_lacks_are_written_as_numbers(tmp_path):
    """As where the output of a command goes into a file on Windows."""
    folder = tmp_path / "Grüße −1"
    write_colourful(folder, 2)
    called = [sys.executable, "-m", "tinct", "data", str(folder)]
    found = subprocess.run(called, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True)
    assert "Grüße \\u22121 (train)" in found.stdout.decode("cp1252")


ENDED = """
import signal, sys
from pathlib import Path
from tinct import cards, cli, files

def card(run: str) -> int:
    "Begin a file, and be ended."
    with files.atomic_path(Path(run)):
        signal.raise_signal(int(sys.argv[2]))
    return 0

cards.card = card
sys.exit(cli.main(["card", sys.argv[1]]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_that_is_ended_removes_what_it_began(tmp_path, name):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    words = [sys.executable, "-c", ENDED, str(tmp_path / "film.mp4"), str(int(getattr(signal, name)))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path):
    code = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{ENDED}"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "film.mp4"), str(int(signal.SIGHUP))])
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])
def test_what_the_output_cannot_hold_is_escaped(tmp_path, encoding):
    (tmp_path / "a.png").write_bytes(b"no picture")
    # as in an old locale, and in none; tables have characters beyond it
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "tinct", "data", str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "a.png: not a picture" in done.stdout


BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}
OUTPUTS = ["--help", "--version", "card --help", "weights list", "data photos:", "data photos: --json"]


@pytest.mark.parametrize("words", OUTPUTS)
def test_a_reader_that_leaves_ends_a_command_without_a_word(words):
    called = [sys.executable, "-m", "tinct", *words.split()]
    with subprocess.Popen(called, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        left.stdout.close()
        assert (left.stderr.read().strip(), left.wait()) == (b"", 141)  # a bar may end its line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", ["--help", "card --help", "data photos: --json"])
def test_a_full_disk_behind_the_output_is_one_line(words):
    called = [sys.executable, "-m", "tinct", *words.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(called, env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.stderr.strip(), done.returncode) == (f"tinct {words.split()[0]}: No space left on device", 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sh")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("data photos: --json", 0), ("card nowhere", 2)])
def test_output_that_is_closed_from_the_start_is_no_error(words, code, closed):
    called = f"exec {shlex.quote(sys.executable)} -m tinct {words} {closed}"
    done = subprocess.run(["sh", "-c", called], capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "nowhere" not in done.stdout


LOST = """
import signal, sys, time
from tinct import cards, cli

class Loop:
    def __del__(self):
        signal.raise_signal(int(sys.argv[2]))

def card(run: str) -> int:
    "Lose a signal where no error gets out, and wait."
    Loop()
    time.sleep(30)
    print("slept")
    return 0

cards.card = card
sys.exit(cli.main(["card", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_destructor_swallows_ends_a_command_all_the_same(number):
    done = subprocess.run([sys.executable, "-c", LOST, "run", str(int(number))], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_program_that_calls_a_command_has_its_own_signals_and_hooks_back():
    before = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    assert main(["--version"]) == 0
    assert main(["card", "nothing"]) == 2
    assert (sys.unraisablehook, signal.getsignal(signal.SIGTERM)) == before
