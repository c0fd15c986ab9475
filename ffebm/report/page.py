"""Page: facts as one self-contained HTML file, which asks for nothing from outside."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING

import jinja2
import msgspec
from markupsafe import Markup

from ffebm.hardware.description import Hardware
from ffebm.report.columns import packed, unpacked
from ffebm.report.facts.comparison import Comparison
from ffebm.report.facts.facts import Facts
from ffebm.report.plain import plain_fields
from ffebm.visible import visible

if TYPE_CHECKING:  # it loads Optuna and the compiler, which pages of plans do without
    from ffebm.report.facts.exploration_facts import ExplorationFacts

DAGRE = "dagre-3.1.3.min.js"
SCRIPTS = (
    "columns.js",
    "dom.js",
    "model.js",
    "layout.js",
    "picture.js",
    "graph.js",
    "detail.js",
    "floor.js",
    "timeline.js",
    "memory.js",
    "table.js",
    "bill.js",
    "chart.js",
    "certificate.js",
    "sensitivity.js",
    "run.js",
    "main.js",
)
"""Parts of the page's one script, in order."""


MEASURED = (
    ("training", "Training run"),
    ("certificate", "Gradients against the exact adjoint"),
    ("sensitivity", "Sensitivity"),
)
"""Parts of the view of what was measured, by the name of their template, and their titles."""


COMPARISON = ("columns.js", "dom.js", "table.js", "compare.js")
"""Parts of the script of a page that compares."""


EXPLORATION = ("columns.js", "dom.js", "table.js", "chart.js", "exploration.js")
"""The same of the page of an exploration."""


def page(facts: Facts) -> str:
    """Facts as an HTML page.

    Args:
        facts: What it shows; also embedded as JSON in the element `facts`, tables by columns.
    """
    described = [_in_force(name, value, facts.hardware) for name, value in plain_fields("", facts.hardware)]
    shown = {"training": facts.run, "certificate": facts.certificate, "sensitivity": facts.sensitivity}
    return _rendered(
        "report.html",
        facts,
        [_static(DAGRE), _script(SCRIPTS)],
        {
            "machine": [(name, value) for name, value in described if value != "-"],
            "left_out": ", ".join(name for name, value in described if value == "-"),
            "options": [*plain_fields("", facts.options), *plain_fields("settle.", facts.settle)],
            "measured": [(name, title) for name, title in MEASURED if shown[name] is not None],
            "assumed": {constant.name for constant in facts.constants if constant.assumption},
        },
    )


def _in_force(name: str, value: str, hardware: Hardware) -> tuple[str, str]:
    """A field and its value; an ADC range that is left out and calibrated follows from the bits."""
    group = next((g for g in hardware.analog if name == f"analog.{g.name}.tile.adc_sigmas"), None)
    if group is None:
        return name, value
    tile = group.tile.crossbar()  # whose field it is
    if tile.adc_sigmas is not None:
        return name, value
    calibrated = tile.adc.range in {"calibrated", "column"}
    return name, f"{tile.deviations:.3g}, by the bits of the ADCs" if calibrated else value


def comparison_page(comparison: Comparison) -> str:
    """Two plans side by side as an HTML page."""
    return _rendered("comparison.html", comparison, [_script(COMPARISON)], {})


def exploration_page(facts: "ExplorationFacts") -> str:
    """An exploration as an HTML page."""
    return _rendered("exploration.html", facts, [_script(EXPLORATION)], {})


def _rendered(
    template: str,
    facts: "Facts | Comparison | ExplorationFacts",
    scripts: list[str],
    more: Mapping[str, object],
) -> str:
    style = _static("report.css")
    return (
        environment()
        .get_template(template)
        .render(
            facts=facts,
            data=Markup(embedded(msgspec.json.encode(packed(msgspec.to_builtins(facts, str_keys=True))))),
            scripts=[Markup(script) for script in scripts],
            policy=_policy(scripts),
            style=Markup(style),
            **more,
        )
    )


def _script(parts: tuple[str, ...]) -> str:
    return '"use strict";\n(() => {\n' + "\n".join(map(_static, parts)) + "})();"


def embedded(data: bytes) -> str:
    """JSON that no HTML parser takes for markup: `<`, `>` and `&` as escapes of JSON."""
    text = data.decode("utf-8")
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def facts_of(html: str) -> Facts:
    """The facts that a page embeds."""
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', html, re.DOTALL)
    if found is None:
        raise ValueError("the page embeds no facts")
    return msgspec.convert(unpacked(msgspec.json.decode(found[1])), type=Facts)


def environment() -> jinja2.Environment:
    """Templates with escaping on, where an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ffebm.report"),
        undefined=jinja2.StrictUndefined,
        # markup and figures are not touched
        finalize=lambda value: visible(value) if type(value) is str else value,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _policy(scripts: list[str]) -> str:
    """A content security policy: only these scripts run, and nothing is fetched."""
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"


def _static(name: str) -> str:
    return (resources.files("ffebm.report") / "static" / name).read_text(encoding="utf-8")
