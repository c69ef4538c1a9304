"""The pages build without a warning, and reading them fetches nothing from the internet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed (extra 'docs')")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)], cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False, timeout=100)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not built.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    pages = {path.with_name("index") if path.name == "README" else path for path in sources}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert pages | {Path("measurements"), Path("changelog")} | {Path("404")} == built


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not FETCHED.findall(page.read_text(encoding="utf-8")), page.name


def test_links_out_of_the_docs_lead_to_pages(site: Path) -> None:
    assert 'href="measurements.html#channels"' in (site / "alerts.html").read_text(encoding="utf-8")
    assert 'href="deformation.html"' in (site / "measurements.html").read_text(encoding="utf-8")
    assert 'src="images/drift_errors.png"' in (site / "measurements.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("tag", [
    '<script src="https://cdn.example/mathjax.js"></script>', '<link rel="stylesheet" href="//fonts.example/css">',
    '<img alt="x" src="http://example/x.png">'])
def test_what_is_fetched_from_elsewhere_would_be_found(tag: str) -> None:
    assert FETCHED.search(tag)
