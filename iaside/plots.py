"""Figures: each takes a tidy DataFrame (or images) and returns the Axes it drew.

Colours are safe for colour-blind readers, and everything that was estimated is drawn with its
interval. Columns named `<y>_low` and `<y>_high` hold the limits of column `<y>`.

The style is the figure's own: no call changes matplotlib's settings for the rest of the program,
which `use_style` does for a report. A new figure is pyplot's where pyplot shows figures; else (Agg,
PDF, ...) it is the caller's alone, `axis.figure`, and gone when nothing holds it.
"""

from __future__ import annotations

from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

LABELS = {
    "psi": "Shapley value (nats)",
    "sid": "spectral importance (share)",
    "band": "frequency band (0 = lowest)",
    "score": "spectral robustness score",
    "accuracy": "top-1 accuracy",
    "esd": "energy spectral density",
    "radius": "radial frequency (cycles per image side)",
    "cells": "frequencies in the band",
    "density": "frequencies / area of the ring",
    "energy": "share of the energy without DC",
    "beta": "beta",
    "prefix": "bands kept, lowest first",
    "images": "number of images K",
    "distance": "distance of two SIDs, L1 / M",
    "error": "error of a Shapley value (nats)",
    "observed": "observed spread over samples\n(standard deviation)",
    "estimated": "estimated standard error",
    "coverage": "coverage of 95 % intervals",
    "snr": "spectral SNR (dB)",
    "share": "share of the energy",
    "relative": "density, relative to\nwhite noise (dB)",
    "slope": "slope of the SNR (dB per decade of frequency)",
    "gain": "AIC(exponential) - AIC(power law): right of 0 the power law fits better",
    "noise": "share of labels drawn at random",
    "epoch": "epoch",
    "fraction": "share of the training set",
    "half": "epoch at which half of the final value is reached",
    "exponent": "exponent a of the energy spectral density, r^-a",
}

STYLE = (
    sns.plotting_context("notebook")
    | sns.axes_style("whitegrid", rc={"font.family": "sans-serif"})
    | {
        "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
        "figure.dpi": 110,
        "savefig.bbox": "tight",
        "figure.constrained_layout.use": True,
    }
)


@contextmanager
def _styled():
    """Set what `STYLE` names and put only that back: a backend that is loaded inside, as a
    notebook's with its first figure, sets what must stay."""
    before = {key: mpl.rcParams[key] for key in STYLE}
    mpl.rcParams.update(STYLE)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


in_style = _styled()  # a decorator


class StyledFigure(Figure):
    """A figure in ``STYLE`` whenever it is drawn or saved: matplotlib makes its ticks only then."""

    draw = in_style(Figure.draw)
    get_tightbbox = in_style(Figure.get_tightbbox)
    savefig = in_style(Figure.savefig)


def use_style() -> None:
    """Make the style that of the whole program, as a report does for what it adds to figures."""
    mpl.rcParams.update(STYLE)


def subplots(rows: int = 1, columns: int = 1, figsize=None, **how) -> tuple[Figure, np.ndarray]:
    """As pyplot's, (rows, columns) of Axes, but pyplot's own only where that shows figures."""
    if mpl.get_backend().lower() in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
        figure = StyledFigure(figsize=figsize)
        FigureCanvasAgg(figure)
    else:
        figure = plt.figure(figsize=figsize, FigureClass=StyledFigure)
    return figure, figure.subplots(rows, columns, squeeze=False, **how)


@in_style
def importance(
    frame: pd.DataFrame, value: str = "sid", hue: str | None = None, ax: Axes | None = None
) -> np.ndarray:
    """Bars per band with intervals, one panel per model.

    frame: columns band, model, <value>, and <value>_low, <value>_high; hue: a column that puts
    several bars side by side; ax: where to draw a single model, None for a new figure. Returns the
    Axes of the panels, (models,). Errors: ValueError for one `ax` and several models.
    """
    models = list(dict.fromkeys(frame["model"]))
    if ax is not None and len(models) > 1:
        raise ValueError(f"ax= is one panel, and there are {len(models)} models: leave it out")
    _check_panel(ax)
    axes = panels(len(models), width=4.2, height=2.9, sharey=True)[1] if ax is None else [ax]
    axes = np.array(axes, dtype=object)
    for axis, model in zip(axes, models, strict=True):
        part = frame[frame["model"] == model]
        groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
        width = 0.8 / len(groups)
        for k, group in enumerate(groups):
            rows = part if group is None else part[part[hue] == group]
            x = rows["band"] + (k - (len(groups) - 1) / 2) * width
            axis.bar(x, rows[value], width, label=group, color=sns.color_palette()[k])
            _whiskers(axis, x, rows, value)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=model, xlabel=LABELS["band"], xticks=sorted(frame["band"].unique()))
        axis.grid(axis="x", visible=False)
    for axis in axes[:: 1 if ax is not None else axes[0].get_gridspec().ncols]:
        axis.set_ylabel(LABELS.get(value, value))
    if hue is not None and ax is None:
        bars = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*bars, loc="outside lower center", ncols=len(groups))
    elif hue is not None:
        ax.legend()
    return axes


@in_style
def estimates(
    frame: pd.DataFrame,
    value: str,
    by: str = "model",
    hue: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Points with intervals, one line of the figure per `by`, groups of `hue` in colours.

    ax: where to draw, None for a new figure.
    """
    names = list(dict.fromkeys(frame[by]))
    groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
    height = min(9, 1.2 + 0.22 * len(names) * (len(groups) + 0.5))
    axis = _one(ax, figsize=(7, height))
    _rows(axis, frame, value, by, hue)
    axis.invert_yaxis()
    if hue is not None:
        _legend_beside(axis, title=hue)
    return axis


@in_style
def forest(frame: pd.DataFrame, values: list[str], by: str, hue: str) -> np.ndarray:
    """Points with intervals, one row per `by`, groups of `hue` in colours; a panel per value.

    The panels share their rows, and a line parts rows of another `kind`; nan stays empty.
    Returns the Axes, (values,).
    """
    rows = frame.drop_duplicates(by)
    height = 1.6 + 0.13 * len(rows) * (frame[hue].nunique() + 0.5)
    figure, axes = subplots(1, len(values), figsize=(12, height), sharey=True)
    starts = np.flatnonzero(rows["kind"].ne(rows["kind"].shift()))
    for axis, value in zip(axes[0], values, strict=True):
        _rows(axis, frame, value, by, hue)
        for start in starts[1:]:
            axis.axhline(start - 0.5, color="0.7", linewidth=0.8)
        axis.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()  # shared: once for all panels
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return axes[0]


@in_style
def estimate_panels(
    frame: pd.DataFrame, value: str, by: str, panel: str, hue: str | None = None
) -> np.ndarray:
    """As `estimates` with a panel per value of `panel`; panels share their rows and their scale."""
    columns = [c for c in (panel, by, hue) if c is not None]
    titles, names, *groups = (list(dict.fromkeys(frame[c])) for c in columns)
    every = pd.MultiIndex.from_product([titles, names, *groups], names=columns)
    frame = frame.set_index(columns).reindex(every).reset_index()  # what is not there stays empty
    height = 1.8 + 0.13 * len(names) * (len(groups[0]) + 0.5 if groups else 2)
    figure, axes = subplots(1, len(titles), figsize=(12, height), sharex=True, sharey=True)
    for axis, title in zip(axes[0], titles, strict=True):
        _rows(axis, frame[frame[panel] == title], value, by, hue)
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=5)  # as many numbers as stand clear of each other
    axes[0, 0].invert_yaxis()  # shared: once for all panels
    if hue is not None:
        drawn = axes[0, 0].get_legend_handles_labels()
        figure.legend(*drawn, loc="outside lower center", ncols=5)
    return axes[0]


@in_style
def curves(
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str = "model",
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Lines over `x`, one per `hue`, with their intervals as a band where the frame has them.

    ax: where to draw, None for a new figure.
    """
    axis = _one(ax, figsize=(7, 4))
    _lines(axis, frame, x, y, hue, list(dict.fromkeys(frame[hue])))
    if log:
        axis.set(xscale="log", yscale="log")
        _plain_ticks(axis)
    axis.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
    if frame[hue].nunique() > 6:
        _legend_beside(axis)
    else:
        axis.legend(title=None)
    return axis


@in_style
def curve_panels(frame: pd.DataFrame, x: str, y: str, panel: str, hue: str) -> np.ndarray:
    """Lines with intervals as in `curves`, one panel per value of `panel`, over a logarithmic x."""
    names, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[hue]))
    figure, axes = panels(len(names), width=3.3, height=2.9, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        _lines(axis, frame[frame[panel] == name], x, y, hue, groups)
        axis.set(title=name, xscale="log")
    figure.supxlabel(LABELS.get(x, x), fontsize=12)
    figure.supylabel(LABELS.get(y, y), fontsize=12)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return axes


@in_style
def trends(
    frame: pd.DataFrame,
    x: str,
    y: str,
    panel: str,
    hue: str,
    dots: pd.DataFrame | None = None,
    log: bool = False,
    sharey: bool = False,
) -> np.ndarray:
    """Lines with intervals as in `curves`, one panel per value of `panel`; numbers of `hue` graded.

    dots: a frame with the same columns, of the single networks that the lines are means of.
    """
    names, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[hue]))
    graded = pd.api.types.is_numeric_dtype(frame[hue])
    colours = sns.color_palette("viridis" if graded else None, len(groups))
    figure, axes = panels(len(names), width=4.2, height=3.0, sharey=sharey, columns=3)
    for axis, name in zip(axes, names, strict=True):
        _lines(axis, frame[frame[panel] == name], x, y, hue, groups, colours)
        if dots is not None:
            shown = dots[dots[panel] == name]
            axis.scatter(
                shown[x],
                shown[y],
                s=14,
                alpha=0.5,
                linewidths=0,
                color=[colours[groups.index(g)] for g in shown[hue]],
            )
        axis.set(title=name, xlabel=LABELS.get(x, x))
        if log:
            axis.set_xscale("log")
            _plain_ticks(axis)
    if sharey:
        figure.supylabel(LABELS.get(y, y), fontsize=12)
    title = hue if graded else None
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, title=title
    )
    return axes


@in_style
def maps(frame: pd.DataFrame, x: str, y: str, value: str, panel: str, grey: str) -> np.ndarray:
    """A coloured table of `value` with columns `x` and rows `y`, one panel per value of `panel`.

    Where the column `grey` holds the cell is struck out: its number is not to be read. The other
    cells decide the colours, graded from 0, or around 0 where some are negative.
    """
    names = list(dict.fromkeys(frame[panel]))
    read = frame.loc[~frame[grey], value]
    top = max(read.abs().max(), 1e-9) if len(read) else 1.0
    signs = (read < -0.05 * top).any()  # rounding to one colour is no sign
    colours = dict(cmap="PuOr", vmin=-top) if signs else dict(cmap="cividis", vmin=0)
    figure, axes = panels(len(names), width=6.2, height=3.6, columns=2)
    for axis, name in zip(axes, names, strict=True):
        part = frame[frame[panel] == name]
        table, out = (part.pivot(index=y, columns=x, values=v) for v in (value, grey))
        sns.heatmap(
            table.astype(float),
            mask=out.astype(bool),
            vmax=top,
            annot=True,
            fmt=".2f",
            annot_kws={"size": 8},
            cbar=False,
            ax=axis,
            **colours,
        )
        for row, column in np.argwhere(out.to_numpy(dtype=bool)):
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{table.iloc[row, column]:.2f}",
                color="0.6",
                ha="center",
                va="center",
                size=8,
            )
        axis.set(title=name, xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y), facecolor="0.92")
        axis.invert_yaxis()
        axis.tick_params(axis="y", rotation=0)
        axis.grid(visible=False)
    figure.colorbar(axes[0].collections[0], ax=figure.axes, label=LABELS.get(value, value))
    return axes


@in_style
def mosaic(images, titles: list[str], columns: int = 8, size: float = 1.35) -> np.ndarray:
    """Small pictures in a grid: images (n, C, H, W), clipped to [0, 1], or (n, H, W) as maps."""
    rows = -(-len(images) // columns)
    figure, axes = subplots(rows, columns, figsize=(size * columns, (size + 0.25) * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        picture = np.asarray(image)
        if picture.ndim == 3:
            axis.imshow(np.clip(picture.transpose(1, 2, 0), 0, 1))
        else:
            axis.imshow(picture, cmap="cividis", interpolation="nearest")
        axis.set_title(title, fontsize=9)
    return axes


@in_style
def scatter(
    frame: pd.DataFrame,
    x: str,
    y: str,
    panel: str,
    label: str = "model",
    log: bool = False,
    size: str | None = None,
    columns: int = 3,
) -> np.ndarray:
    """Points with intervals in both directions, one panel per value of `panel`.

    frame: columns `x`, `y` with their limits, `panel`, `label`; limits that are NaN are not drawn.
    Labels are told apart by colour and, from the eleventh on, by shape; size: a column whose larger
    numbers make larger marks, of twice the width at most.
    """
    names = list(dict.fromkeys(frame[panel]))
    _, axes = panels(len(names), width=12.6 / columns, height=10.2 / columns, columns=columns)
    points = list(dict.fromkeys(frame[label]))
    sizes = dict.fromkeys(points, 6.0)
    if size is not None and (span := np.ptp(frame[size])) > 0:
        of = frame.groupby(label)[size].mean()
        sizes = dict((5 + 5 * (of - frame[size].min()) / span).items())
    for axis, name in zip(axes, names, strict=True):
        for k, point in enumerate(points):
            rows = frame[(frame[panel] == name) & (frame[label] == point)]
            spread = [
                np.abs(rows[[f"{v}_low", f"{v}_high"]].to_numpy().T - rows[v].to_numpy())
                for v in (x, y)
            ]
            axis.errorbar(
                rows[x],
                rows[y],
                xerr=spread[0],
                yerr=spread[1],
                label=point,
                fmt="osv^D"[k // 10 % 5],
                color=sns.color_palette()[k % 10],
                capsize=2,
                linewidth=1,
                markersize=sizes[point],
            )
        axis.set(title=name, xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
        if log:
            axis.set(xscale="log")
            _plain_ticks(axis)
    last = -(-len(names) // -(-len(names) // columns)) - 1  # of the first row
    fit = int(46 / columns)  # labels, in the height of a panel
    _legend_beside(axes[last], -(-len(points) // fit), fontsize=9 if len(points) <= fit else 7)
    return axes


@in_style
def projections(maps: dict, names: list[str], kinds: list[str]) -> np.ndarray:
    """Points of the plane, one panel per map; colours are names, marks are kinds.

    maps: title -> (n, 2), or (n + n * k, 2) with k faint points after it for each of the n names.
    """
    _, axes = panels(len(maps), width=4.2, height=3.6, columns=3)
    marks = dict(zip(dict.fromkeys(kinds), "os^D", strict=False))
    for axis, (title, points) in zip(axes, maps.items(), strict=True):
        clouds = points[len(names) :].reshape(len(names), -1, 2)
        for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            colour = sns.color_palette()[k % 10]
            axis.scatter(*clouds[k].T, s=8, alpha=0.2, color=colour, linewidths=0)
            axis.scatter(
                *points[k], s=60, color=colour, marker=marks[kind], label=f"{name} ({kind})"
            )
        axis.set(title=title, xticks=[], yticks=[])
    _legend_beside(axes[len(maps) - 1], fontsize=9)
    return axes


@in_style
def matrix(frame: pd.DataFrame, label: str, ax: Axes | None = None) -> Axes:
    """Coefficients from -1 to 1 as a coloured table with the rows and columns of the frame.

    ax: where to draw, None for a new figure.
    """
    height, width = frame.shape
    # Names below the columns and beside the scale need their room however few rows there are.
    axis = _one(ax, figsize=(2.5 + 0.75 * width, max(4.0, 1 + 0.32 * height)))
    sns.heatmap(
        frame.astype(float),
        cmap="PuOr",
        vmin=-1,
        vmax=1,
        annot=True,
        fmt=".1f",
        ax=axis,
        annot_kws={"size": 8},
        cbar_kws={"label": label},
    )
    axis.set(xlabel="", ylabel="")
    return axis


@in_style
def interactions(pairs: dict, label: str) -> np.ndarray:
    """Signed maps of pairs of bands, one panel per model, in one scale of colours.

    pairs: model -> `Estimate` of the pairs (1, 0), (2, 0), (2, 1), (3, 0) ...; in brackets where
    the interval holds 0 or is not known. Returns the Axes, (models,).
    """
    figure, axes = panels(len(pairs), width=6.2, height=4.6, columns=2)
    reach = max(np.abs(i.estimate).max() for i in pairs.values()) or 1
    for axis, (model, i) in zip(axes, pairs.items(), strict=True):
        n_bands = int((1 + (1 + 8 * len(i.estimate)) ** 0.5) / 2)
        values, words = np.full((n_bands, n_bands), np.nan), np.full((n_bands, n_bands), "", "U9")
        below = np.tril_indices(n_bands, -1)
        clear = (i.low > 0) | (i.high < 0)
        values[below] = i.estimate
        words[below] = [
            f"{v:.2f}" if c else f"({v:.2f})" for v, c in zip(i.estimate, clear, strict=True)
        ]
        shown = sns.heatmap(
            values[1:, :-1],
            annot=words[1:, :-1],
            fmt="",
            cmap="PuOr",
            ax=axis,
            vmin=-reach,
            vmax=reach,
            annot_kws={"size": 9},
            cbar=False,
            xticklabels=range(n_bands - 1),
            yticklabels=range(1, n_bands),
        )
        axis.set(title=model, xlabel=LABELS["band"])
        axis.tick_params(axis="y", rotation=0)
        axis.grid(visible=False)
    for axis in axes[::2]:
        axis.set_ylabel(LABELS["band"])
    figure.colorbar(shown.collections[0], ax=figure.axes, label=label)
    return axes


@in_style
def surfaces(tables: dict, label: str, x: str, y: str) -> np.ndarray:
    """Tables of numbers in colour, on one scale, one panel per model: model -> frame (y by x)."""
    _, axes = panels(len(tables), width=4.2, height=3.1)
    every = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    for axis, (model, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(
            table.astype(float),
            cmap="cividis",
            vmin=every.min(),
            vmax=every.max(),
            annot=True,
            fmt=".3f",
            ax=axis,
            annot_kws={"size": 9},
            cbar_kws={"label": label},
        )
        axis.set(title=model, xlabel=x, ylabel=y)
    return axes


@in_style
def heat_maps(maps: dict, frequencies: dict, label: str) -> np.ndarray:
    """Square maps of numbers from 0 to 1 over the spectrum, DC in the middle, one panel per model.

    maps: model -> (G, G); frequencies: model -> the G frequencies along both sides.
    """
    figure, axes = panels(len(maps), width=3.2, height=3.1)
    for axis, (model, values) in zip(axes, maps.items(), strict=True):
        reach = frequencies[model][-1]
        shown = axis.imshow(
            values,
            cmap="cividis",
            vmin=0,
            vmax=1,
            interpolation="nearest",
            extent=(-reach, reach, reach, -reach),
        )
        axis.set(
            title=model,
            xlabel="horizontal frequency",
            xticks=[-reach, 0, reach],
            yticks=[-reach, 0, reach],
        )
        axis.grid(visible=False)
    axes[0].set_ylabel("vertical frequency\n(cycles per image)")
    figure.colorbar(shown, ax=figure.axes, label=label)
    return axes


@in_style
def bars(frame: pd.DataFrame, x: str, y: str, panel: str) -> np.ndarray:
    """Plain bars, one panel per value of `panel`; with whiskers where the frame has limits."""
    names = list(dict.fromkeys(frame[panel]))
    _, axes = panels(len(names), width=3.1, height=2.5, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        rows = frame[frame[panel] == name]
        axis.bar(rows[x], rows[y], color=sns.color_palette()[0])
        if f"{y}_low" in rows:
            _whiskers(axis, rows[x], rows, y)
        axis.set(title=name, xlabel=LABELS.get(x, x))
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel(LABELS.get(y, y))
    return axes


@in_style
def points(
    frame: pd.DataFrame, x: str, y: str, panel: str, hue: str, identity: bool = False
) -> np.ndarray:
    """Points with intervals, one panel per value of `panel`, groups of `hue` side by side.

    identity: instead, logarithmic axes of their own in each panel and the line on which y = x.
    """
    names, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[hue]))
    _, axes = panels(len(names), width=4.2, height=3.2, sharey=not identity)
    for axis, name in zip(axes, names, strict=True):
        part = frame[frame[panel] == name]
        for k, group in enumerate(groups):
            rows = part[part[hue] == group]
            beside = 0 if identity else 0.2 * (k - (len(groups) - 1) / 2)
            axis.errorbar(
                rows[x] + beside,
                rows[y],
                yerr=_spread(rows, y),
                fmt="osv^D"[k % 5],
                markersize=5,
                capsize=2,
                elinewidth=1,
                label=group,
            )
        if identity:
            ends = part[[x, y]].min(axis=None), part[[x, y]].max(axis=None)
            axis.plot(ends, ends, color="black", linewidth=0.8, label="y = x")
            axis.set(xscale="log", yscale="log")
            _plain_ticks(axis)
        else:
            axis.set(xticks=sorted(part[x].unique()))
        axis.set(title=name, xlabel=LABELS.get(x, x))
    axes[0].set_ylabel(LABELS.get(y, y))
    _legend_beside(axes[-1])
    return axes


@in_style
def card(bands: pd.DataFrame, prefix: pd.DataFrame, title: str) -> np.ndarray:
    """One network at a glance: values, SID, and what share low-pass prefixes reach.

    bands: columns band, psi and sid with limits; prefix: columns prefix and
    "share of v(all) - v(none)".
    """
    figure, axes = panels(3, width=4.2, height=2.7)
    for axis, value in zip(axes, ("psi", "sid"), strict=False):
        axis.bar(bands["band"], bands[value], color=sns.color_palette()[0])
        _whiskers(axis, bands["band"], bands, value)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(xlabel=LABELS["band"], ylabel=LABELS[value], xticks=bands["band"])
        axis.grid(axis="x", visible=False)
        if bands[value].isna().all():
            axis.text(0.5, 0.5, "not given", ha="center", transform=axis.transAxes)
    axes[2].plot(prefix["prefix"], prefix["share of v(all) - v(none)"], marker="o")
    axes[2].axhline(0.9, color="black", linewidth=0.8, linestyle="--")
    share = "share of v(all) - v(none)"
    axes[2].set(xlabel=LABELS["prefix"], ylabel=share, xticks=prefix["prefix"])
    figure.suptitle(title)
    return axes


@in_style
def panels(n: int, width: float, height: float, sharey: bool = False, columns: int = 4):
    """A figure with n panels in rows of at most four; returns it and the n Axes."""
    rows = -(-n // columns)
    columns = -(-n // rows)
    width = min(width, 12.5 / columns)
    figure, axes = subplots(rows, columns, figsize=(width * columns, height * rows), sharey=sharey)
    for axis in axes.flat[n:]:
        axis.axis("off")
    return figure, axes.flat[:n]


def _check_panel(ax: Axes | None) -> None:
    """Refuse what is no panel of two axes: a figure, an array of panels, one in space."""
    if ax is not None and (not isinstance(ax, Axes) or ax.name == "3d"):
        kind = "panel in space" if isinstance(ax, Axes) else type(ax).__name__
        raise TypeError(f"ax= is a {kind}; give one Axes, such as plt.subplots()[1]")


def _one(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """A panel of the caller's, or the only one of a new figure."""
    _check_panel(ax)
    return subplots(figsize=figsize)[1][0, 0] if ax is None else ax


def _legend_beside(axis: Axes, columns: int = 1, **how) -> None:
    """A legend to the right of a panel; a figure of ours grows by what that takes of it."""
    if isinstance(axis.figure, StyledFigure):
        axis.figure.set_figwidth(axis.figure.get_figwidth() + 2.2 * columns)
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", ncols=columns, **how)


def _rows(axis: Axes, frame: pd.DataFrame, value: str, by: str, hue: str | None) -> None:
    """Points with intervals, first row at the bottom, groups of `hue` beside each other."""
    names = list(dict.fromkeys(frame[by]))
    groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
    for k, group in enumerate(groups):
        rows = frame if group is None else frame[frame[hue] == group]
        y = np.array([names.index(n) for n in rows[by]]) + 0.6 * ((k + 0.5) / len(groups) - 0.5)
        axis.errorbar(
            rows[value], y, xerr=_spread(rows, value), fmt="o", markersize=5, capsize=3, label=group
        )
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=LABELS.get(value, value))


def _lines(
    axis: Axes, frame: pd.DataFrame, x: str, y: str, hue: str, names: list, colours=None
) -> None:
    """One line per name, with its interval; the place in `names` decides how a line looks."""
    colours = colours or sns.color_palette()
    for k, name in enumerate(names):
        rows = frame[frame[hue] == name]
        marker = "osv^D"[k // 10 % 5]  # ten colours; more lines than that differ in their marks
        style = dict(color=colours[k % len(colours)], marker=None if len(rows) > 20 else marker)
        axis.plot(rows[x], rows[y], label=name, **style)
        if f"{y}_low" in rows:
            axis.fill_between(
                rows[x],
                rows[f"{y}_low"],
                rows[f"{y}_high"],
                alpha=0.15,
                color=style["color"],
                linewidth=0,
            )


def _whiskers(axis: Axes, x, rows: pd.DataFrame, value: str) -> None:
    axis.errorbar(
        x,
        rows[value],
        yerr=_spread(rows, value),
        fmt="none",
        ecolor="black",
        elinewidth=1,
        capsize=2,
    )


def _plain_ticks(axes: Axes) -> None:
    """Ticks in plain figures on logarithmic axes of less than three decades, few enough to read."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        if axis.get_scale() == "log" and high < 1000 * low:
            few = range(1, 10) if high < 5 * low else (1, 2, 5) if high < 50 * low else (1,)
            axis.set_major_locator(LogLocator(subs=few))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def _spread(rows: pd.DataFrame, value: str) -> np.ndarray:
    """How far the limits lie from the value, (2, rows), as errorbar wants them."""
    return np.abs(rows[[f"{value}_low", f"{value}_high"]].to_numpy().T - rows[value].to_numpy())
