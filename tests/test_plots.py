"""What a reader would be misled by."""

import numpy as np
import pandas as pd

from iaside import plots


def test_only_logarithmic_axes_get_logarithmic_ticks():
    x, y = [0.05, 0.2, 1.0], [0.35, 0.4, 0.12]
    frame = pd.DataFrame({"share": x, "score": y, "panel": "score", "network": "a"})
    frame[["score_low", "score_high"]] = np.c_[frame["score"] - 0.05, frame["score"] + 0.05]
    axis = plots.trends(frame, "share", "score", "panel", "network", log=True)[0]
    steps = np.diff(axis.get_yticks())
    assert axis.get_xscale() == "log" and np.allclose(steps, steps[0])
    plots.plt.close("all")


def test_a_legend_beside_a_panel_takes_nothing_of_it():
    """In inches: of a single panel nearly all was the legend's once."""
    point = {"model": "a", "x": 1.0, "y": 2.0, "panel": "one"}
    limits = {f"{v}_{end}": np.nan for v in "xy" for end in ("low", "high")}
    frame = pd.DataFrame([point | limits | {"model": name} for name in ("a", "a_long_name_" * 2)])
    (axis,) = plots.scatter(frame, "x", "y", "panel")
    axis.figure.draw_without_rendering()
    assert axis.get_position().width * axis.figure.get_figwidth() > 3
    plots.plt.close("all")
