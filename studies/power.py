"""Whether broken programs are caught and right ones left alone: `make study-power`.

Every program of `broken.BROKEN` is put before the judges of Chen et al. 2025 and of the coordinate check, and right
programs with other keys before the same. Resumable: the words of every case are kept in results/study-power. The table
mutation x judge goes to studies/power_verdicts.json with command, date and versions.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import warnings

import jax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--right", type=int, default=20, help="right programs, each with its own key")
    right = parser.parse_args().right
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    warnings.simplefilter("ignore", UserWarning)
    import broken
    import judged

    import mupjax
    from mupjax.results import versions
    from mupjax.statistics import CONTRADICTED

    out = judged.folder("power")
    out.mkdir(parents=True, exist_ok=True)
    shared = {}

    def words(name: str, key: int) -> dict[str, list[str]]:
        """The claims that each judge contradicts, of a broken program or of 'right'."""
        kept = out / f"{name.replace(' ', '_').replace('^', '').replace('/', '-')}-{key}.json"
        if kept.is_file():
            return json.loads(kept.read_text())
        preset = mupjax.mup() if name == "right" else broken.BROKEN[name](mupjax.mup())
        if key not in shared:
            shared.clear()
            shared[key] = broken.right(key)
        found = shared[key] if name == "right" else broken.with_networks(shared[key], preset, key)
        verdicts = {"rich-features": broken.judge_rich(found)}
        based = mupjax.mup(base_width=64)
        of_check = based if name == "right" else broken.BROKEN[name](based)
        verdicts["coord-check"] = broken.judge_coordinates(of_check, key)
        table = {
            judge: [verdict.claim for verdict in given if verdict.verdict == CONTRADICTED]
            for judge, given in verdicts.items()
        }
        kept.write_text(json.dumps(table))
        return table

    rows = {}
    for name in broken.BROKEN:
        rows[name] = words(name, 0)
        caught = sum(map(len, rows[name].values()))
        counts = ", ".join(f"{judge} {len(claims)}" for judge, claims in rows[name].items())
        print(f"goal: {name} is caught by a claim | figure: {counts} | {'met' if caught else 'not met'}", flush=True)
    accused = {}
    for key in range(right):
        found = {judge: claims for judge, claims in words("right", key).items() if claims}
        if found:
            accused[key] = found
    met = "met" if 40 * len(accused) <= right else "not met"
    print(f"goal: at most 1 of 40 right programs accused | figure: {len(accused)} of {right} {accused} | {met}")
    record = {"command": "make study-power", "date": datetime.date.today().isoformat(), "versions": versions()}
    record |= {"contradicted": rows, "right_programs": right, "accused": accused}
    (judged.HERE / "power_verdicts.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
