"""Write a report and read its page back."""

from __future__ import annotations

import base64
import html.parser

from mupjax import report

VOID = {"meta", "img", "br", "hr", "input", "link", "wbr"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(html.parser.HTMLParser):
    """Collects tags and text, and fails where a tag is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def find(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def written(dataset, out, pictures):
    return report.write(dataset, out / "report", pictures).read_text(encoding="utf-8")
