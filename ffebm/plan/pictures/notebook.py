"""What a notebook shows of a plan: the picture of its partition, and its summary."""

from base64 import b64encode
from html import escape

from ffebm.plan.pictures.partition import picture
from ffebm.plan.schema import PlanData
from ffebm.plan.summary import summary_lines
from ffebm.visible import visible, visible_lines


def plan_html(plan: PlanData, before: str = "") -> str:
    """A plan as HTML that stands in any page: names do no harm, and styles stay inside.

    Args:
        plan: The plan.
        before: Text of several lines that stands above the summary.
    """
    # as an image, the picture's styles cannot reach the page around it, nor the page's the picture
    image = b64encode(picture(plan).encode()).decode()
    words = visible_lines("\n".join([*([before, ""] if before else []), *summary_lines(plan)]))
    return (
        f'<div><img style="max-width: 100%" alt="partition of {escape(visible(plan.source.name))}" '
        f'src="data:image/svg+xml;base64,{image}"/>\n<pre>{escape(words)}</pre></div>'
    )
