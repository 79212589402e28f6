"""What a project has beside its code, and what each of them promises."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version_and_names_the_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    papers = [one["identifiers"][0]["value"] for one in citation["references"]]
    assert "arXiv:2107.09362" in papers


def test_hooks_run_what_ci_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text()
    for tool in ("ruff format --check", "ruff check", "mypy"):
        assert any(tool in entry for entry in entries)
        assert f"$(BIN)/{tool}" in makefile
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def test_coverage_has_a_floor() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "--cov-fail-under=$(COVERED)" in makefile


def test_help_names_every_target_for_people() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = re.findall(r"^([a-z-]+):.*## ", makefile, re.M)
    assert {"check", "test", "docs", "release", "coverage", "fuzz"} <= set(told)


def test_generators_of_vectors_write_nothing_when_they_are_imported() -> None:
    makers = sorted((ROOT / "tests" / "vectors").glob("make_*.py"))
    assert len(makers) > 5
    for maker in makers:
        body, _, end = maker.read_text().partition('\nif __name__ == "__main__":')
        assert end, maker
        assert not re.search(r"^\w.*write_(text|bytes)\(", body, re.M), maker


def test_a_release_is_signed_and_checked(tmp_path: Path, monkeypatch) -> None:
    from keystore import Identity, Keystore
    from mlguard.signing import SigningKey

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    identity, key = Identity.generate(), SigningKey.generate()
    identity.write(tmp_path / "release.identity")
    with Keystore.create(tmp_path / "release.mlgk", identity) as store:
        store.add("signer", key.reveal(), purpose="signing")
    (tmp_path / "signer.pub").write_bytes(key.public.pem)
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "mlguard.whl").write_bytes(b"a wheel")
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "release.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "release.identity"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = [sys.executable, str(ROOT / ".ci" / "release.py")]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*script, *words], capture_output=True, text=True, check=False
        )

    assert run("sign", str(dist)).returncode == 0
    good = run("verify", str(dist), str(tmp_path / "signer.pub"))
    assert "1 files signed by" in good.stdout
    (dist / "mlguard.whl").write_bytes(b"another wheel")
    assert run("verify", str(dist), str(tmp_path / "signer.pub")).returncode != 0


def test_pictures_are_small_and_each_is_shown() -> None:
    folder = ROOT / "docs" / "results" / "pictures"
    found = sorted(folder.glob("*"))
    assert sum(path.stat().st_size for path in found) < 400_000
    page = folder.with_suffix(".md").read_text()
    assert all(f"](pictures/{path.name})" in page for path in found)


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
FIELDS = {"markdown", "input", "textarea", "checkboxes"}


def test_an_issue_has_a_form_and_a_weakness_is_led_to_security() -> None:
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in FORMS}
    assert forms.pop("config") == {"blank_issues_enabled": False}
    assert set(forms) == {"attack", "bug", "question", "weakness"}
    for form in forms.values():
        assert set(form) == {"name", "description", "labels", "body"}
        assert {field["type"] for field in form["body"]} <= FIELDS
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) >= 1
    for name in ("attack", "bug", "weakness"):
        assert "SECURITY.md" in (FORMS[0].parent / f"{name}.yml").read_text()


def test_what_a_form_names_is_there() -> None:
    for path in FORMS:
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text()):
            assert (ROOT / page).exists(), (path.name, page)


def test_a_pull_request_is_asked_for_five_lines() -> None:
    text = (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()
    assert len(text.splitlines()) == 5


MATURITY = ROOT / "docs" / "project" / "maturity.md"
ROW = re.compile(r"^\| (?!feature|---)(.+?) \| (.*?) \| (.*?) \| (.*?) \|$", re.M)


def test_every_feature_is_called_mature_or_not_with_evidence_that_is_there() -> None:
    rows = ROW.findall(MATURITY.read_text())
    assert len(rows) > 25
    assert {row[1] for row in rows} == {"stable", "usable", "experimental"}
    for feature, word, evidence, missing in rows:
        assert evidence, feature
        assert missing or word == "stable", feature
    for place in re.findall(r"`(tests/[\w./]*)`", MATURITY.read_text()):
        assert (ROOT / place).exists(), place
