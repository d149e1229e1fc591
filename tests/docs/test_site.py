"""Tests the built pages in Chromium; skipped if it is not installed."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import open_browser
from tests.docs.pages import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]
if sys.version_info < (3, 11):
    pytest.skip("the extra docs needs Python 3.11", allow_module_level=True)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Suppresses the log."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Builds the pages like `make docs`, which must print nothing, and yields their address."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def browser(site: str, tmp_path: Path) -> Iterator[Any]:
    """Yields a new browser; fails if it logs an error or requests any other address."""
    with open_browser("--window-size=1400,900", f"--user-data-dir={tmp_path}/profile") as opened:
        yield opened
        assert [entry["message"] for entry in opened.get_log("browser")] == []
        asked = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
        urls = [each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"]
        assert urls
        assert [url for url in urls if url.startswith(("http", "ws")) and not url.startswith(site)] == []


def found(browser: Any, selector: str) -> list[str]:
    """Waits for elements that have text, and returns it."""
    from selenium.webdriver.support.ui import WebDriverWait

    def texts(page: Any) -> list[str]:
        return [text for each in page.find_elements("css selector", selector) if (text := each.text.strip())]

    return WebDriverWait(browser, 30).until(texts)


def test_pages_are_available_as_text(site: str) -> None:
    with urllib.request.urlopen(f"{site}llms.txt") as answer:
        listed = answer.read().decode()
    addresses = re.findall(r"^- \[[^]]+\]\((.+)\): [^#\n]+\.$", listed, re.MULTILINE)
    assert len(addresses) == len(re.findall(r"^ +- [\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    for address in addresses:
        with urllib.request.urlopen(site + address) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(f"{site}llms-full.txt") as answer:
        text = answer.read().decode()
    assert (ROOT / "docs" / "reliability.md").read_text() in text
    assert (ROOT / "docs" / "resuming.zh.md").read_text() not in text


def test_notebooks_are_pages_with_their_outputs(browser: Any, site: str) -> None:
    browser.get(f"{site}notebooks/plain-pytorch/")
    assert found(browser, "h1")
    assert "True" in found(browser, ".language-text code")[-1]
    image = browser.find_element("css selector", "img[alt=Output]").get_attribute("src")
    assert image == f"{site}notebooks/plain-pytorch-1.png"
    with urllib.request.urlopen(image) as answer:
        assert answer.read()[:4] == b"\x89PNG"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_open_in_both_languages(browser: Any, site: str, language: str) -> None:
    root = site if language == "en" else f"{site}zh/"
    for page in ("", "tasks/segmentation/", "reference/config/"):
        browser.get(root + page)
        assert browser.execute_script("return document.documentElement.lang") == language
        assert found(browser, "h1")
    browser.get(f"{root}hooks/")
    other = "zh" if language == "en" else "en"
    link = browser.find_element("css selector", f'a[hreflang="{other}"]').get_attribute("href")
    assert link == (f"{site}zh/hooks/" if language == "en" else f"{site}hooks/")


def test_menu_opens_on_a_narrow_home_page(browser: Any, site: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(1000, 900)
    browser.get(site)
    browser.find_element("css selector", "label.md-header__button[for=__drawer]").click()
    assert WebDriverWait(browser, 30).until(
        lambda page: "Install" in found(page, ".md-sidebar--primary a.md-nav__link")
    )


def test_prompts_and_output_are_not_copied(browser: Any, site: str) -> None:
    browser.get(f"{site}getting-started/")
    found(browser, "h1")
    select = "getSelection().selectAllChildren(document.querySelector('.language-console code'))"
    copied = browser.execute_script(f"{select}; return getSelection().toString().trim()")
    assert copied == "make setup\nsource .venv/bin/activate"
    shown = "return [...document.querySelectorAll(`${arguments[0]} .md-code__nav`)].some(nav => nav.offsetHeight)"
    assert browser.execute_script(shown, ".language-console")
    assert not browser.execute_script(shown, ".language-text")


def test_keys_can_be_linked(browser: Any, site: str) -> None:
    for page, key in (("config", "train_cfg"), ("optimization", "ampoptimwrapper.dtype")):
        browser.get(f"{site}reference/{page}/")
        assert found(browser, f'tr[id="{key}"] a[href="#{key}"]') == [key.rpartition(".")[2]]


@pytest.mark.parametrize(
    ("page", "words", "expected"),
    [("", "CheckpointHook", "CheckpointHook"), ("", "resume", "Resume a run"), ("zh/", "时间限制", "恢复训练")],
)
def test_search_finds_pages(browser: Any, site: str, page: str, words: str, expected: str) -> None:
    browser.get(site + page)
    box = browser.find_element("css selector", "input.md-search__input")
    browser.execute_script("arguments[0].focus()", box)
    box.send_keys(words)
    assert expected in found(browser, ".md-search-result__item")[0]


def test_theme_follows_the_system_and_pages_fit_a_phone(browser: Any, site: str) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    phone = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(f"{site}hooks/")
    found(browser, "h1")
    assert browser.execute_script("return document.body.getAttribute('data-md-color-scheme')") == "slate"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
