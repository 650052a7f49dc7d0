"""The pages: what is in them, that nothing is markup, and how they look in a browser."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from lpcompress.pages import rendering
from lpcompress.pages.documents import read_sections
from lpcompress.pages.sections import Bar, Chart, Section, Table

ODD = "<script>alert(1)</script> | *x* `y` [z](javascript:0) \"q\" & 'r'\n# no heading"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Tags(HTMLParser):
    """Checks that every element is closed, and collects tags and attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def sections(documents, write):
    return [section for document in documents.values() for section in read_sections([write(document)])]


def test_the_page_needs_nothing_else(sections):
    page = rendering.as_html(sections)
    found = Tags(page)
    assert found.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href"} & {name for name, _ in found.attributes}
    assert "http" not in page and "url(" not in page and "@import" not in page


def test_bars_and_error_bars_are_where_their_values_are():
    chart = Chart("drop", [Bar("a", 3.0, "3", error=1.0), Bar("b", -1.0, "-1")])
    page = rendering.as_html([Section("t", "h", charts=[chart])])
    assert re.findall(r'<rect class="series0" x="([\d.]+)%" y="\d+" width="([\d.]+)%"', page) == [
        ("20.0", "60.0"),
        ("0.0", "20.0"),
    ]
    assert '<line class="error" x1="60.0%" x2="100.0%"' in page


def test_no_text_is_markup():
    table = Table("Layers", ["layer", "n"], [[ODD, "1"]], [ODD])
    odd = Section(ODD, ODD, True, {ODD: ODD}, [Chart(ODD, [Bar(ODD, 1.0, ODD)])], [table], [ODD], {ODD: ODD}, {}, ODD)
    html = rendering.as_html([odd])
    assert "<script" not in html and Tags(html).open == []
    shown = MarkdownIt().enable("table").render(rendering.as_markdown([odd]))
    assert "<script" not in shown and "<em>" not in shown and "<a " not in shown
    assert shown.count("<h1>") == 1 and shown.count("<tr>") == 4


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    reason = "needs playwright and Chromium: pip install playwright; apt-get install chromium"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(reason)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (360, "light"), (360, "dark")])
def test_in_a_browser_nothing_is_cut_off_or_hard_to_read(browser, sections, tmp_path, width, scheme):
    (tmp_path / "report.html").write_text(rendering.as_html(sections), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "report.html").as_uri())
    assert (len(asked), said) == (1, [])
    assert page.evaluate("document.documentElement.scrollWidth") == width  # only tables scroll sideways
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert contrast(ink, paper) > 7
    for name in ("h1", "dt", ".small", ".failed", "figcaption", "thead th"):
        color = page.evaluate(f"getComputedStyle(document.querySelector('{name}')).color")
        assert contrast(color, paper) > 4.5, name  # WCAG AA
    picture = page.screenshot(full_page=True)
    assert len(picture) > 20_000
    page.close()


def test_on_paper_no_table_is_cut_off(browser, sections, tmp_path):
    (tmp_path / "report.html").write_text(rendering.as_html(sections), encoding="utf-8")
    page = browser.new_page(viewport={"width": 700, "height": 1000}, color_scheme="dark")
    page.goto((tmp_path / "report.html").as_uri())
    page.emulate_media(media="print")
    cut = "[...document.querySelectorAll('.wide')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert page.evaluate(cut) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


def contrast(*colors):
    """Return the contrast of two colours, as WCAG 2 defines it."""
    dark, light = sorted(luminance(*map(int, re.findall(r"\d+", color)[:3])) for color in colors)
    return (light + 0.05) / (dark + 0.05)


def luminance(*channels):
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
