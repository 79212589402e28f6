"""The programs of measurement count what they say they count."""

import importlib
import json
import sys
from pathlib import Path

import pytest


def test_exponent_of_a_linear_series_is_one() -> None:
    growth = importlib.import_module("growth")
    points = [{"size": n, "cpu_s": 0.5 * n, "peak_mib": 0} for n in (1, 2, 4, 8, 16)]
    assert growth.exponent(points) == pytest.approx(1)
    squares = [point | {"cpu_s": point["size"] ** 2} for point in points]
    assert growth.exponent(squares) == pytest.approx(2)
    assert "exponent 2.00" in growth.tables({"squares": squares})


SHORT = ["score, classes", "ledger, issued files", "bundle, bytes", "export, bytes"]


@pytest.mark.parametrize("name", SHORT)
def test_a_series_goes_from_small_to_large(name, monkeypatch) -> None:
    growth = importlib.import_module("growth")
    monkeypatch.setattr(growth, "LEAST_S", 0.0)
    monkeypatch.setenv(growth.LARGEST, "4")
    points = growth.alone(name)
    sizes = [point["size"] for point in points]
    assert sizes == sorted(set(sizes))
    assert all(point["cpu_s"] > 0 for point in points)


def test_every_part_of_the_quick_set_is_a_program() -> None:
    bench = importlib.import_module("bench")
    for program, *_ in bench.PARTS.values():
        text = (Path(bench.__file__).parent / program).read_text()
        assert '"--out"' in text


def test_a_part_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch) -> None:
    bench = importlib.import_module("bench")
    good = tmp_path / "good.py"
    good.write_text("import sys; open(sys.argv[-1], 'w').write('[1]'); print('| a |')")
    parts = {"bad": ["no_such_program.py"], "good": [str(good)]}
    monkeypatch.setattr(bench, "PARTS", parts)
    out, page = tmp_path / "out.json", tmp_path / "page.md"
    words = ["bench.py", "--out", str(out), "--page", str(page), "--parts", "bad;good"]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    found = json.loads(out.read_text())["parts"]
    assert found["bad"]["ended"].startswith("failed: ")
    assert (found["good"]["ended"], found["good"]["found"]) == ("done", [1])
    assert "| a |" in page.read_text()


@pytest.mark.parametrize("load", [0.4, 12.0])
def test_a_page_says_when_the_machine_was_shared(load) -> None:
    bench = importlib.import_module("bench")
    facts = bench.machine() | {"load": load}
    page = bench.page({"machine": facts, "parts": {}})
    assert ("**The machine was shared**" in page) == (load > bench.QUIET)


def test_a_page_is_read_with_its_tables_and_sentences(tmp_path) -> None:
    numbers = importlib.import_module("page_numbers")
    page = tmp_path / "page.md"
    page.write_text(
        "# Speed\n\nIt took 1.5 s.\n\n| a | b |\n|---|---|\n| x | **2** |\n"
    )
    found = numbers.of_page(page)
    assert found["rows"][1] == {"under": "Speed", "cells": ["x", "2"]}
    assert [one["text"] for one in found["sentences"]] == ["It took 1.5 s."]
