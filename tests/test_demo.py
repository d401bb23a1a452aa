"""The demo, much shortened: that the chain holds from photographs to the page."""

import json

from tinct.cli import main


def test_the_chain_holds_and_goes_on_where_it_was(tmp_path, capsys):
    words = ["demo", "--out", str(tmp_path / "demo"), "--steps", "3", "--transfer-steps", "2", "--seeds", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "mAP" in printed
    assert "mIoU" in printed
    assert "2 paired seeds" in printed
    assert printed.count("checks the plumbing; no evidence") == 2
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "Photographs that training never saw" in page
    records = sorted((tmp_path / "demo").rglob("record.json"))
    made = {path: path.stat().st_mtime_ns for path in records}
    assert len([path for path in records if "cells" in path.parts]) == 2 * 2 * 2
    assert {json.loads(path.read_text())["what"] for path in records} == {"pretrain", "transfer"}
    assert main(words) == 0
    assert "2 paired seeds" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in records} == made
