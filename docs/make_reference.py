"""Makes the API reference from docstrings: a static site, whose links are checked.

Usage: python docs/make_reference.py [FOLDER]; out/docs by default.
"""

import pkgutil
import re
import shutil
import sys
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import pdoc

import ffebm


class Links(HTMLParser):
    """Where a page leads to, and the places in it that others can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: dict[str, None] = {}
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says; the parser calls it for each."""
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            elif value and name == "href" and tag == "a":
                self.targets[value] = None


def make(folder: Path, *modules: str) -> None:
    """Write one page for each module, and for those inside it, into a folder, in place of what is there."""
    for name in ffebm.__all__:
        setattr(ffebm, name, getattr(ffebm, name))  # pdoc does not ask for names that are imported when used
    pdoc.render.configure(
        docformat="google", footer_text=f"ffebm {version('ffebm')}", show_source=False, search=True
    )
    shutil.rmtree(folder, ignore_errors=True)
    pdoc.pdoc(*modules, output_directory=folder)


def dead_links(folder: Path) -> list[str]:
    """Links within a site, as `page: target`, that lead to no page or no place of a page."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for link in page.targets:
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/docs").resolve()
    make(folder, "ffebm", *(f"ffebm.{module.name}" for module in pkgutil.iter_modules(ffebm.__path__)))
    dead = dead_links(folder)
    for link in dead:
        print(f"dead link in {link}", file=sys.stderr)
    print(f"{len(list(folder.rglob('*.html')))} pages in {folder}")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
