"""Hooks of the documentation build, which mkdocs.yml refers to: generated pages, portable links, pages as plain text.

Pages are plain Markdown, which also reads well in the repository; what only the site needs is added here.
"""

import base64
import functools
import json
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference  # next to this script

# The theme's script reads a sitemap beside each of these, and pages of translations have none.
_ALTERNATE = re.compile(r'\s*<link rel="alternate"[^>]*hreflang[^>]*>')
_PAGE_LINK = re.compile(r"\[([^]]*)\]\(([\w./-]+\.md)(?:#[^)]*)?\)")
_IMAGE = re.compile(r'(<img [^>]*src="[^"]*?/)([\w-]+)\.png("[^>]*>)')
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
_COMMENT = re.compile(r'(<span class="go">(?:[^<]*\s)?)(# [^<]*)</span>')
_CONTINUED = re.compile(r'( \\</span>\n</span><span id="[^"]*">(?:<a [^>]*></a>)?<span class="go)')
# Guides that are the answer to a search for their topic; here, because front matter would also show on GitHub.
_BOOSTS = {"config": 8, "devices": 4, "optimization": 4, "resuming": 4}
_CELL = re.compile(r"<td>.*?</td>", re.DOTALL)
# Headers begin with a capital, except for code and names.
_HEADER = re.compile(r"(<th[^>]*>)(?!footplate|ignite|mmengine|onedl|torch)([a-z])")
_INTERVAL = re.compile(r"\(?[\d.,]+–[\d.,]+\)?")
_HEADING_OR_KEY = re.compile(r'<h[23] id="([^"]+)"|<tr>\s*<td><code>(\w+)</code></td>')
_PLAIN = re.compile(r"<td>(?:<code>)?(None|required)(?:</code>)?</td>")
_BREAK = re.compile(r"(\w\()(?=[\w'\[({])(?![^<]*>)")  # not within tags
_FROM_ROOT = re.compile(r'href="(/(?:zh/)?)"')


def on_startup(**_: Any) -> None:
    """Silences jieba, which splits Chinese text into words for the search."""
    import jieba  # type: ignore[import-untyped, unused-ignore]

    jieba.setLogLevel(logging.WARNING)


def on_files(files: Any, *, config: Any, **_: Any) -> None:
    """Adds the reference and the pages of the notebooks."""
    from mkdocs.structure.files import File

    for name in _generated(Path(config.docs_dir)):
        files.append(File(name, config.docs_dir, config.site_dir, config.use_directory_urls))


def on_nav(nav: Any, *, config: Any, files: Any) -> None:
    """Adds the content of the generated files, which the plug-in for languages would drop after `on_files`."""
    for name, content in _generated(Path(config.docs_dir)).items():
        files.src_uris[name].content_bytes = content


@functools.cache
def _generated(docs: Path) -> dict[str, bytes]:
    """Returns the generated pages and images by their paths in the docs, with the notebooks of the navigation."""
    files = {f"reference/{name}": text.encode() for name, text in reference.pages().items()}
    listed = (docs.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (each for each in sorted(docs.glob("notebooks/*.ipynb")) if f"notebooks/{each.stem}.md" in listed):
        text, images = _notebook(path)
        files |= {f"notebooks/{path.stem}.md": text.encode()}
        files |= {f"notebooks/{name}": image for name, image in images.items()}
    return files


def _notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as a page, and the images in its outputs by file name."""
    parts, images = [], dict[str, bytes]()
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(images) + 1}.png"
                images[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output]({name})")
            else:
                text = re.sub(r"\x1b\[[\d;]*m", "", "".join(output.get("text") or data["text/plain"]))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", images


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Ranks the page in the search, and removes links to pages that are only in the repository."""

    def without_link(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[2]))
        return link[1] if config.exclude_docs.match_file(target) else link[0]

    boost = _BOOSTS.get(page.file.src_uri.partition(".")[0], 0.5 if "decisions/" in page.file.src_uri else 1)
    page.meta["search"] = {"boost": boost}
    return _PAGE_LINK.sub(without_link, markdown)


def on_page_content(html: str, *, page: Any, config: Any, **_: Any) -> str:
    """Prepares what the style sheet cannot find by itself: comments of commands, dark images, parts of tables."""

    def in_both_schemes(image: re.Match[str]) -> str:
        begin, name, end = image.groups()
        if not (Path(config.docs_dir) / "images" / f"{name}-dark.png").is_file():
            return image[0]
        return f"{begin}{name}.png#only-light{end} {begin}{name}-dark.png#only-dark{end}"

    html = _IMAGE.sub(in_both_schemes, html)
    html = _CONTINUED.sub(r"\1 continued", html)
    html = _COMMENT.sub(r'\1</span><span class="c1">\2</span>', html)
    html = _HEADER.sub(lambda header: header[1] + header[2].upper(), html)
    html = _CELL.sub(lambda cell: _INTERVAL.sub(r'<span class="whole">\g<0></span>', cell[0]), html)
    if "reference/" in page.url:
        html = _PLAIN.sub(lambda cell: f'<td class="{cell[1].lower()}">{cell[1]}</td>', _with_anchors(html, page))
        html = _CELL.sub(lambda cell: _BREAK.sub(r"\1<wbr>", cell[0]), html)
    kind = "reference" if "reference/" in page.url else "home" if page.file.name == "index" else ""
    return f'<div class="{kind}">{html}</div>' if kind else html


def _with_anchors(html: str, page: Any) -> str:
    """Gives each key an anchor, which its name links to: `#key` on the page of top-level keys, else `#class.key`."""
    heading = ""

    def anchored(found: re.Match[str]) -> str:
        nonlocal heading
        if found[1]:
            heading = found[1]
            return found[0]
        name = found[2] if page.url.endswith("/config/") else f"{heading}.{found[2]}"
        page.present_anchor_ids.add(name)
        return f'<tr id="{name}">\n<td><a href="#{name}"><code>{found[2]}</code></a></td>'

    return _HEADING_OR_KEY.sub(anchored, html)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Returns the page, with links to the other language that hold wherever the pages are served from."""

    def relative(link: re.Match[str]) -> str:
        return f'href="{posixpath.relpath(link[1], "/" + page.url)}/"'

    return _FROM_ROOT.sub(relative, _ALTERNATE.sub("", output))


def on_post_build(config: Any, **_: Any) -> None:
    """Writes the English pages for language models: a list of them to llms.txt, and their text to llms-full.txt."""
    docs, site = Path(config.docs_dir), Path(config.site_dir)
    generated = _generated(docs)
    lines, pages = [f"# {config.site_name}", "", f"> {config.site_description}"], []
    lines += ["", "[llms-full.txt](llms-full.txt) contains the text of all pages."]
    for section in config.nav:
        ((title, names),) = section.items()
        lines += ["", f"## {title}", ""]
        for name in _page_names(names):
            text = (generated[name] if name in generated else (docs / name).read_bytes()).decode().strip()
            heading, *paragraphs = (each for each in text.splitlines() if each)
            first = next(each for each in paragraphs if each[0].isalpha())
            sentence = _LINK.sub(r"\1", first).split(". ")[0].rstrip(".:") + "."
            lines.append(f"- [{heading.removeprefix('# ')}]({_address(name)}): {sentence}")
            pages.append(text)
    (site / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(pages) + "\n", encoding="utf-8")


def _address(name: str) -> str:
    """Returns the address of a page, relative to the root of the site."""
    return f"./{name.removesuffix('.md')}/".removesuffix("index/")


def _page_names(entries: Any) -> Iterator[str]:
    """Yields the file names below an entry of the navigation."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from _page_names(entry)
