"""Figures of reports besides bars and curves: coloured tables, pictures, points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from iaside.plots import (
    LABELS,
    in_style,
    legend_beside,
    one_panel,
    panels,
    plain_ticks,
    spread,
    subplots,
    whiskers,
)


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
            plain_ticks(axis)
    last = -(-len(names) // -(-len(names) // columns)) - 1  # of the first row
    fit = int(46 / columns)  # labels, in the height of a panel
    legend_beside(axes[last], -(-len(points) // fit), fontsize=9 if len(points) <= fit else 7)
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
    legend_beside(axes[len(maps) - 1], fontsize=9)
    return axes


@in_style
def matrix(frame: pd.DataFrame, label: str, ax: Axes | None = None) -> Axes:
    """Coefficients from -1 to 1 as a coloured table with the rows and columns of the frame.

    ax: where to draw, None for a new figure.
    """
    height, width = frame.shape
    # Names below the columns and beside the scale need their room however few rows there are.
    axis = one_panel(ax, figsize=(2.5 + 0.75 * width, max(4.0, 1 + 0.32 * height)))
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
                yerr=spread(rows, y),
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
            plain_ticks(axis)
        else:
            axis.set(xticks=sorted(part[x].unique()))
        axis.set(title=name, xlabel=LABELS.get(x, x))
    axes[0].set_ylabel(LABELS.get(y, y))
    legend_beside(axes[-1])
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
        whiskers(axis, bands["band"], bands, value)
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
