"""Measurements as tables: medians, ratios, and the gap to the least time."""

from statistics import median

from experiments.run.display import align

HEADINGS = (
    "row",
    "precision",
    "ours s",
    "peers s",
    "ratio",
    "with reference",
    "least s",
    "ours / least",
    "ours MiB",
    "peers MiB",
    "start-up s",
    "peers'",
)
NONE = "-"  # where a side was not measured


def summarise(measurements: list[dict], least_work: list[dict], other: str = "peers") -> list[dict]:
    """One row per row and precision: each side's numbers over all rounds, ratio and gap.

    `other` is the side beside ours: "peers", or "before", an earlier commit of ours.
    "ratio" is the other's median over ours. "ratio_with_reference" adds to ours a step's share of
    the pass over all pairs with which the reference's log-probs are made, once an epoch. That is
    the most that it can cost: a run makes them once, for all its epochs.
    """
    rows = []
    for least in least_work:
        key = {name: least[name] for name in ("row", "precision")}
        sides = {
            side: _side([m for m in measurements if m["side"] == side and key.items() <= m.items()])
            for side in ("ours", other)
        }
        ours, beside = sides["ours"], sides[other]
        row = {**key, **sides, "least": least["seconds"]}
        if ours:
            row["gap"] = ours["median"] / least["seconds"]
        if ours and beside:
            row["ratio"] = beside["median"] / ours["median"]
            with_reference = ours["median"] + ours["reference_per_step"]
            row["ratio_with_reference"] = beside["median"] / with_reference
        rows.append(row)
    return rows


def _side(measurements: list[dict]) -> dict | None:
    """A side's numbers for one row; None if it was not measured."""
    if not measurements:
        return None
    seconds = [s for measurement in measurements for s in measurement["seconds"]]
    return {
        "median": median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "reference_per_step": median(m.get("reference_per_step", 0.0) for m in measurements),
        "start_up_seconds": median(m["start_up_seconds"] for m in measurements),
        "peak_memory_mib": max(m["peak_memory_mib"] for m in measurements),
    }


def main_table(rows: list[dict], other: str = "peers") -> list[str]:
    """All rows of `summarise`, medians with their range."""
    headings = tuple(heading.replace("peers", other) for heading in HEADINGS)
    return align([headings, *(_cells(row, other) for row in rows)])


def _cells(row: dict, other: str) -> tuple[str, ...]:
    ours, beside = row["ours"], row[other]
    reference = ours and ours["reference_per_step"]
    return (
        row["row"],
        row["precision"],
        _seconds(ours),
        _seconds(beside),
        _number(row.get("ratio"), ".2f"),
        _number(row.get("ratio_with_reference") if reference else None, ".2f"),
        f"{row['least']:.3g}",
        _number(row.get("gap"), ".2f"),
        *(_number(side and side["peak_memory_mib"], ",.0f") for side in (ours, beside)),
        *(_number(side and side["start_up_seconds"], ".1f") for side in (ours, beside)),
    )


def lora_table(rows: list[dict], other: str = "peers") -> list[str]:
    """The step time of each rank over that of full training; nothing where one is missing."""
    full = {(row["row"], row["precision"]): row for row in rows}
    lines = []
    for row in rows:
        objective, *method, data = row["row"].split("/")
        whole = full.get((f"{objective}/full/{data}", row["precision"]))
        if method and method != ["full"] and whole:
            lines.append(
                (
                    row["row"],
                    row["precision"],
                    *(_share(row[side], whole[side]) for side in ("ours", other)),
                )
            )
    return align([("row", "precision", "ours", other), *lines]) if lines else []


def _share(part: dict | None, whole: dict | None) -> str:
    return f"{part['median'] / whole['median']:.2f}" if part and whole else NONE


def _seconds(side: dict | None) -> str:
    if side is None:
        return NONE
    return f"{side['median']:.3g} ({side['min']:.3g} to {side['max']:.3g})"


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
