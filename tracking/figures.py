"""The figures, drawn without a display. Each returns a `matplotlib.figure.Figure`."""

from __future__ import annotations

from tracking.plots.overview import run_figure

__all__ = ["run_figure"]
