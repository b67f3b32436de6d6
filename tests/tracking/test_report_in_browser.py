"""The report as Chromium shows it: no figure or table is cut or empty, on a screen and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import PATIENCE_MS, chromium

PAPER = 695  # CSS pixels between the margins of an A4 page
# What is cut (wider than its place) or empty, as a list of sentences.
FAULTS = """() => {
  const faults = [];
  const edge = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > edge) faults.push(`page: ${document.documentElement.scrollWidth} wide, ${edge} shown`);
  for (const table of document.querySelectorAll("table")) {
    const name = "table " + (table.caption?.innerText || table.tHead.innerText).trim().slice(0, 60);
    if (!table.tBodies[0]?.rows.length) faults.push(name + ": no row");
    if (!table.offsetWidth) faults.push(name + ": not shown");
    const box = table.closest(".box"), scrolls = box && getComputedStyle(box).overflowX === "auto";
    if ((scrolls ? box : table).getBoundingClientRect().right > edge + 1) faults.push(name + ": cut on the right");
    const words = document.createRange();
    if (table.caption) words.selectNodeContents(table.caption);
    if (words.getBoundingClientRect().right > edge + 1) faults.push(name + ": what stands above it is cut on the right");
    for (const cell of table.querySelectorAll("th, td"))
      if (cell.scrollWidth > cell.clientWidth + 1) faults.push(`${name}: cut: ${cell.innerText}`);
    for (const row of table.tBodies[0].rows)
      if (![...row.cells].slice(1).some((cell) => cell.innerText.trim())) faults.push(name + ": empty row");
  }
  for (const image of document.images) {
    const name = "figure " + image.alt.slice(0, 60);
    if (!image.complete || !image.naturalWidth) { faults.push(name + ": does not load"); continue; }
    if (image.getBoundingClientRect().right > edge + 1) faults.push(name + ": cut on the right");
    const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "white"; pen.fillRect(0, 0, canvas.width, canvas.height); pen.drawImage(image, 0, 0);
    const ink = (x, y, width, height) => {
      const data = pen.getImageData(x, y, width, height).data;
      let dark = 0;
      for (let i = 0; i < data.length; i += 4) dark += data[i] < 200 || data[i + 1] < 200 || data[i + 2] < 200;
      return dark;
    };
    const [w, h] = [canvas.width, canvas.height];
    if (ink(0, 0, w, h) < 0.003 * w * h) faults.push(name + ": empty");
    const border = [ink(0, 0, 1, h), ink(w - 1, 0, 1, h), ink(0, 0, w, 1), ink(0, h - 1, w, 1)];
    if (border.some((count) => count)) faults.push(`${name}: drawn over its edge (left, right, top, bottom: ${border})`);
  }
  return faults;
}"""
OPEN = "() => document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@pytest.fixture(scope="module")
def shown(page: Path):
    """The report, open in a browser."""
    with chromium() as browser:
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE_MS)
        tab.goto((page / "report.html").as_uri())
        yield tab


@pytest.mark.parametrize("width", [1440, 1280, 1024, 900, 390])
def test_nothing_is_cut_or_empty_on_a_screen(shown, width):
    shown.set_viewport_size({"width": width, "height": 900})
    shown.evaluate(OPEN)
    assert shown.locator("img").count() >= 9 and shown.locator("table").count() >= 8
    assert shown.evaluate(FAULTS) == []


def test_nothing_is_cut_on_paper_and_folded_tables_are_printed(shown):
    shown.set_viewport_size({"width": PAPER, "height": 1000})
    shown.evaluate("() => document.querySelectorAll('details').forEach((part) => { part.open = false; })")
    shown.emulate_media(media="print")
    shown.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert shown.evaluate(FAULTS) == []
    sheets = len(re.findall(rb"/Type\s*/Page\b", shown.pdf(format="A4")))
    shown.emulate_media(media="screen")
    assert sheets >= 5


def test_faults_are_found(shown):
    """The check itself: it sees a table that is cut, an empty figure and one drawn over its edge."""
    shown.set_viewport_size({"width": 1280, "height": 900})
    blank = (
        "data:image/svg+xml,"
        + "%3Csvg xmlns='http://www.w3.org/2000/svg' width='90' height='90'%3E{}%3C/svg%3E"
    )
    full = blank.format("%3Crect width='90' height='90'/%3E")
    shown.evaluate(
        """async ([empty, full]) => {
          const bad = document.createElement("div");
          bad.id = "bad";
          bad.innerHTML = `<table style="width:3000px"><thead><tr><th>too wide</th></tr></thead><tbody><tr><td>x</td><td>y</td></tr></tbody></table>
            <img alt="nothing" src="${empty}"><img alt="over" src="${full}">`;
          document.body.append(bad);
          await Promise.all([...bad.querySelectorAll("img")].map((image) => image.decode()));
        }""",
        [blank.format(""), full],
    )
    faults = shown.evaluate(FAULTS)
    shown.evaluate("() => document.getElementById('bad').remove()")
    for words in (
        "page: ",
        "table too wide: cut on the right",
        "figure nothing: empty",
        "figure over: drawn over",
    ):
        assert any(fault.startswith(words) for fault in faults), faults
