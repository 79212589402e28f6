"""audit.html: what is on the page, that it loads nothing, and that data is escaped."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mlguard.audit.report.gallery import Gallery, Picture, Row
from mlguard.audit.report.page import render_page
from mlguard.audit.report.words import headline, percent, verdict
from mlguard.pictures import image_png
from tests.audits import (
    attacked_report,
    attacks,
    claiming_report,
    findings,
    images,
    report,
)

VOID_TAGS = {"meta", "img", "hr", "br", "line", "link"}
PICTURE = Picture(image_png(np.zeros((3, 2, 2), np.uint8)), "input", "A test image")
GALLERY = Gallery((Row("shf", (PICTURE,)),), (Row("Image 1", (PICTURE,)),))


class Page(HTMLParser):
    """Every tag with its attributes; raises when tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("baseline", [images(1.0), None], ids=["twin", "no twin"])
def test_the_page_is_well_formed_and_says_the_verdict(baseline: object) -> None:
    written = report(baseline=baseline)
    html = render_page(written, GALLERY, proved=True)
    Page(html)
    text = html.replace("&#39;", "'")
    assert verdict(written.findings) in text
    assert f"<strong>{percent(written.findings.leakage)}</strong>" in html


def test_the_verdict_comes_before_the_flags_and_the_flags_before_the_table() -> None:
    html = render_page(report(), proved=True)
    places = [html.index(f'class="{name}"') for name in ("verdict", "flags", "key")]
    assert places == sorted(places)


def test_the_page_loads_nothing() -> None:
    page = Page(render_page(report(), GALLERY, proved=True))
    assert not page.all("script")
    assert not page.all("link")
    sources = [attributes["src"] for attributes in page.all("img")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    html = render_page(report(), GALLERY, proved=True)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(", html)


def test_what_comes_from_data_is_escaped() -> None:
    html = render_page(report(), GALLERY, proved=True)
    assert "<tiger>" not in html
    assert html.count("&lt;tiger&gt;") >= 2


def test_a_command_in_a_flag_is_shown_as_code() -> None:
    html = render_page(report(baseline=None), proved=True)
    assert "<code>mlguard protect --baseline</code> trains one," in html


def test_every_picture_and_chart_has_words() -> None:
    page = Page(render_page(report(), GALLERY, proved=True))
    assert all(attributes["alt"] for attributes in page.all("img"))
    charts = page.all("svg")
    assert len(charts) == 2
    ids = {attributes.get("id") for _, attributes in page.tags}
    for chart in charts:
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= ids


def test_the_bar_chart_has_a_dot_for_every_incorrect_key() -> None:
    html = render_page(report(incorrect=[images(0.4)] * 7, nearby=[]), proved=True)
    assert html.count('<circle class="dot incorrect"') == 7


def test_an_absent_class_says_so() -> None:
    assert "in no mask: not measured" in render_page(report(), proved=True)


def test_a_number_that_does_not_exist_is_a_dash_and_not_none() -> None:
    html = render_page(report(baseline=None), proved=True)
    assert "None" not in html
    assert "nan" not in html.lower().replace("finance", "")


def test_without_pictures_the_page_stands() -> None:
    page = Page(render_page(report(), proved=True))
    assert not page.all("img")


def test_the_page_says_what_was_not_measured() -> None:
    html = render_page(report(), proved=True)
    for words in ("Searching for the key", "Re-training", "Known pictures", "insider"):
        assert words in html


def test_attacks_have_a_headline_a_table_a_chart_and_reasons() -> None:
    written = attacked_report()
    html = render_page(written, GALLERY, proved=True)
    page = Page(html)
    assert headline(written.attacks) in html
    assert len(page.all("svg")) == 3
    for words in ("Who gets more", "stolen value", "too many keys", "control"):
        assert words in html
    assert html.count("known-plaintext, one pair") >= 2


def test_the_chart_has_a_point_for_every_number_of_labels() -> None:
    html = render_page(attacked_report(), proved=True)
    assert html.count('<circle class="dot curve0"') == 2  # the control
    assert html.count('<circle class="dot curve1"') == 2
    assert "everything: 4 images 0.667, 16 images" in html


def test_without_re_training_there_is_no_chart_of_it() -> None:
    section = attacks(outcomes=[], controls=[])
    html = render_page(attacked_report(attacks=section, verdicts=()), proved=True)
    assert len(Page(html).all("svg")) == 2
    assert 'id="claims"' not in html


def test_what_was_run_is_not_listed_as_not_measured() -> None:
    listed = render_page(attacked_report(), proved=True)
    assert "<strong>Re-training</strong>" not in listed
    assert "More of the same" in listed
    assert "insider" in listed


def test_every_claim_is_answered_in_words() -> None:
    html = render_page(claiming_report(), proved=True)
    for answer in ("PASS", "FAIL", "INCONCLUSIVE"):
        assert f'<strong class="{answer.lower()}">{answer}</strong>' in html
    assert "0.500 (few-images)" in html


def test_a_page_says_where_each_threshold_comes_from() -> None:
    html = render_page(attacked_report(), proved=True)
    assert html.count("(the default)") == 4
    assert "(set by the recipe)" in render_page(claiming_report(), proved=True)


def test_a_page_that_nobody_vouches_for_says_so_and_a_proved_one_does_not() -> None:
    assert "Unproved: nothing shows" in render_page(report(), proved=False)
    assert "Unproved" not in render_page(report(), proved=True)


def test_an_attack_that_needs_a_transformed_image_is_not_the_only_headline() -> None:
    said = headline(attacks())
    assert "known-plaintext, one pair, steals 100" in said
    assert "Without one, the worst is retraining, everything" in said


@pytest.mark.parametrize(
    ("value", "words"), [(None, "–"), (0.0, "0 %"), (0.048, "4.8 %"), (0.268, "27 %")]
)
def test_percentages(value: float | None, words: str) -> None:
    assert percent(value).replace("\N{NO-BREAK SPACE}", " ") == words


def test_the_verdict_counts_the_tries() -> None:
    said = verdict(findings(incorrect=[images(0.4)]))
    assert "the best of 2 tries (no key, and 1 random key)" in said
